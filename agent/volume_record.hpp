#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "agent/holder.hpp"
#include "agent/ordinal_identity.hpp"
#include "csi/volume_ops.hpp"
#include "mount/result.hpp"

namespace ordinald::agent {

using csi::StringMap;
using mount::Error;
using mount::ErrorCode;
using mount::Result;

/// What is known of a volume's content (rules 1 and 2).
///
///     blank ──intent──▶ formatting ──mkfs ended well──▶ formatted
///       │                   │  ▲                            │
///       │                   │  └─ a crash: made again       │
///       └── published as raw block ──▶ raw ◀────────────────┘      (for ever: never formatted again)
///
/// An adopted filesystem begins as formatted.
enum class Content : std::uint8_t {
  blank,       ///< made by us, never written by anybody
  formatting,  ///< a mkfs with `fs_uuid` was about to run, or ran: how it ended is unknown
  formatted,   ///< holds the filesystem `fs_uuid`
  raw,         ///< a workload has had it as raw block: it holds whatever it holds
};

std::string_view to_string(Content content);

/// What the agent remembers of a volume through a reboot: one JSON file each. Value type.
struct VolumeRecord {
  static constexpr int schema = 1;

  std::string id;
  std::string name;  ///< Create's name; unique
  std::string pool;
  std::uint64_t size = 0;          ///< bytes, now
  std::uint64_t created_size = 0;  ///< bytes, at creation: what a repeated Create is held against
  std::uint32_t block_size = 4096;
  bool multi_node = false;         ///< parameter multiNodeModes = allow
  std::string fs_type;             ///< what it is or will be formatted with
  std::string created_fs_type;     ///< of the Create: what a repeated one is held against
  std::string fs_uuid;             ///< of `formatting` and `formatted`
  std::uint64_t fs_grown_for = 0;  ///< the device size to which the filesystem was last made or grown
  std::string mkfs_options;
  Content content = Content::blank;
  bool provisioned = false;            ///< what backs it has been made
  bool deleting = false;               ///< a delete has begun, and will be finished
  std::set<std::string> access_types;  ///< of the Create: "mount", "block"
  StringMap parameters;                ///< of the Create, whole
  StringMap metadata;                  ///< the provisioner's: whose claim it is
  std::string created;                 ///< UTC, ISO 8601
  Identity identity = Identity::none;  ///< parameter identity
  Claim claim;                         ///< whose it is: of the Create, or of a rebind since
  std::vector<Tenure> history;         ///< its last holders, the newest at the end
  std::string adopted_from;            ///< the path of the file that it was before; empty: made by a Create
  bool terms_open = false;             ///< adopted, and no Create has found it yet, whose arguments it is held against from then on
  bool label_stale = false;            ///< its image's label is not what this record says (image_label.hpp)

  bool operator==(const VolumeRecord&) const = default;
};

/// The record's file: JSON, indented, for a person on a broken node; with a checksum, which whoever changes it by hand takes out.
std::string to_json(const VolumeRecord& record);

/// Reads one. Refuses, with what is wrong: no JSON, another schema, a missing or mistyped member, a checksum that does not fit, an
/// impossible value. Never throws.
Result<VolumeRecord> parse_record(std::string_view text);

/// Whether the text is a record of a schema that this agent doesn't know.
bool has_other_schema(std::string_view text);

/// Whether `id` can be one of ours, and so a file name: [A-Za-z0-9._-], 1 to 128 bytes, not beginning with a dot.
bool is_volume_id(std::string_view id);

/// A new id for a volume of that name: the name's safe characters, and 8 random hex digits, so that an id is never used twice.
std::string make_volume_id(std::string_view name);
/// Whether it could be one of this name.
bool is_id_for(std::string_view id, std::string_view name);
/// Whether it ends as those do: `-1a2b3c4d`.
bool is_made_id(std::string_view id);

/// A random (version 4) UUID in lower case.
std::string make_uuid();

}  // namespace ordinald::agent
