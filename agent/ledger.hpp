#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/holder.hpp"
#include "csi/volume_ops.hpp"
#include "mount/types.hpp"

namespace ordinald::agent {

using csi::AccessMode;
using mount::Result;

/// In place of a digest: the ledger was lost, or the digests' key; the flags can't be compared with anything.
inline constexpr std::string_view unknown_digest = "unknown";

/// In place of a staging path: the ledger was lost, and of a raw block device that is held ready nothing is mounted that would tell.
inline constexpr std::string_view unknown_path = "an unknown path";

/// A volume mounted (or, as a block device, held ready) at a staging path.
struct Stage {
  std::string path;
  bool block = false;
  AccessMode mode = AccessMode::single_node_writer;
  std::string fs_type;
  std::string flags_digest;    ///< of the call's mount_flags, keyed (rule 6); or unknown_digest
  std::string options_digest;  ///< of the filesystem's own among them
  bool read_only = false;      ///< asked by a flag, or the mode's
  std::string since;
};

/// In place of a gid: none was asked for.
inline constexpr std::int64_t no_group = -1;

/// A volume visible at a workload's target path.
struct Publication {
  std::string target;
  std::string staging_path;
  bool block = false;
  AccessMode mode = AccessMode::single_node_writer;
  bool read_only = false;  ///< for whatever reason: asked, or the mode's
  std::string flags_digest;
  std::string fs_type;  ///< as asked
  /// volume_mount_group as asked, or no_group. Nothing: not known (an agent before this one wrote it).
  std::optional<std::int64_t> group;
  Holder holder;
  std::string since;
};

/// A mount of the volume that was there when the agent started and that its ledger, lost or damaged, knew nothing of: a stage or a
/// publication, which of them a later call tells. Until then it counts as held by somebody unknown.
struct FoundMount {
  std::string path;
  bool block = false;  ///< its device's node, bound
  bool read_only = false;
  std::string fs_type;  ///< as the mount table has it
  std::string since;    ///< when it was found
};

/// What is so of one volume since boot.
struct VolumeState {
  std::optional<mount::Device> device;
  std::string fs_type;  ///< of the filesystem on the device; empty: used as block
  std::string fs_uuid;  ///< as found on it
  std::vector<Stage> stages;
  std::vector<Publication> publications;
  std::vector<FoundMount> found;
  std::vector<Tenure> past;  ///< publications that are over and not in the record yet
  std::string past_lost;     ///< since when it is not known who had it before, the ledger being lost; empty: it is known
  std::string refusal;       ///< why the last stage was refused for what is on the device; empty once one went well
  std::string no_growth;     ///< why its filesystem could not be grown the last time; empty once it could, or need not
  /// Unstaged, and its filesystem lives on in somebody's mount namespace: the digest of the options that it has there.
  std::string alive_options;

  [[nodiscard]] const Stage* stage_at(std::string_view path) const;
  [[nodiscard]] const Publication* publication_at(std::string_view target) const;
  /// Whether what it has at the path is a block device.
  [[nodiscard]] bool is_block_at(std::string_view path) const;
  [[nodiscard]] const FoundMount* found_at(std::string_view path) const;
  void forget_found(std::string_view path);
  /// A raw block device that was found held ready; a call that names a staging path tells where.
  [[nodiscard]] const Stage* found_ready() const { return stage_at(unknown_path); }
  void forget_ready() {
    std::erase_if(stages, [](const Stage& stage) { return stage.path == unknown_path; });
  }
  /// Whether it is mounted or held anywhere.
  [[nodiscard]] bool in_use() const { return !stages.empty() || !publications.empty() || !found.empty(); }
  [[nodiscard]] bool empty() const {
    return !device && !in_use() && refusal.empty() && no_growth.empty() && past.empty() && past_lost.empty() && alive_options.empty();
  }
  /// What a mount of this volume looks like.
  [[nodiscard]] mount::Expected expected_mount() const;
  [[nodiscard]] mount::Expected expected_block() const;
};

/// `key_id`: under which key its digests are (KeyedDigest::id).
std::string to_json(const VolumeState& state, std::string_view boot_id, std::string_view key_id = {});
/// nullopt: of another boot. Digests under another key than this are unknown_digest. Never throws; failed_precondition says what is wrong.
Result<std::optional<VolumeState>> parse_state(std::string_view text, std::string_view boot_id, std::string_view key_id = {});

/// Who has which volume where, since boot: in memory, and under `<run dir>/ledger/<id>.json` (tmpfs; written by rename, no fsync).
///
/// The kernel is the truth: open() gives what was written, the reconciler holds it against the mount table. Thread safe; a volume's state
/// is changed only under its lock.
class Ledger {
 public:
  /// A file that can't be read is set aside and told of by unreadable(): the reconciler finds what is mounted.
  static Result<std::unique_ptr<Ledger>> open(const std::string& run_dir, const std::string& boot_id, const std::string& key_id);

  [[nodiscard]] VolumeState state(const std::string& id) const;
  [[nodiscard]] std::map<std::string, VolumeState> all() const;
  [[nodiscard]] const std::vector<std::string>& unreadable() const { return unreadable_; }
  /// Which volume has this path as a target or a staging path, `besides` left out; empty: none. What was found mounted there when a ledger
  /// was lost may be there no more: who is about to mount something asks without it, the kernel tells.
  enum class Owns { by_a_call, also_found };
  [[nodiscard]] bool owns(const std::string& id, const std::string& path) const;
  [[nodiscard]] std::string owner_of(const std::string& path, const std::string& besides = {}, Owns owns = Owns::also_found) const;

  /// Written before it returns; an empty state removes the file. resource_exhausted: no room, and nothing has changed.
  Result<void> save(const std::string& id, const VolumeState& state);
  /// What the kernel tells is so, and holds from now on whether it can be written or not. An error: it is written with the volume's next
  /// change; an agent that starts before that asks the kernel again.
  Result<void> keep(const std::string& id, const VolumeState& state);

 private:
  Ledger(std::string directory, std::string boot_id, std::string key_id)
      : directory_(std::move(directory)), boot_id_(std::move(boot_id)), key_id_(std::move(key_id)) {}
  Result<void> load();
  Result<void> write(const std::string& id, const VolumeState& state) const;
  void set(const std::string& id, const VolumeState& state);
  void index(const std::string& id, const VolumeState& state);

  const std::string directory_;
  const std::string boot_id_;
  const std::string key_id_;
  mutable std::mutex mutex_;
  std::map<std::string, VolumeState> states_;
  std::map<std::pair<std::string, std::string>, bool> owners_;  ///< of a path, the volume: whether by a call
  std::vector<std::string> unreadable_;
};

}  // namespace ordinald::agent
