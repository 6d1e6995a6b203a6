#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/holder.hpp"
#include "csi/volume_ops.hpp"
#include "mount/types.hpp"

namespace ordinald::agent {

using csi::AccessMode;
using mount::Result;

/// In place of a digest: the stage was found when the ledger was lost, and its flags can't be compared with anything.
inline constexpr std::string_view unknown_digest = "unknown";

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

/// A volume visible at a workload's target path.
struct Publication {
  std::string target;
  std::string staging_path;
  bool block = false;
  AccessMode mode = AccessMode::single_node_writer;
  bool read_only = false;  ///< for whatever reason: asked, or the mode's
  std::string flags_digest;
  std::string fs_type;  ///< as asked
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
  std::string refusal;       ///< why the last stage was refused for what is on the device; empty once one went well

  [[nodiscard]] const Stage* stage_at(std::string_view path) const;
  [[nodiscard]] const Publication* publication_at(std::string_view target) const;
  /// Whether what it has at the path is a block device.
  [[nodiscard]] bool is_block_at(std::string_view path) const;
  [[nodiscard]] const FoundMount* found_at(std::string_view path) const;
  void forget_found(std::string_view path);
  /// Whether it is mounted or held anywhere.
  [[nodiscard]] bool in_use() const { return !stages.empty() || !publications.empty() || !found.empty(); }
  [[nodiscard]] bool empty() const { return !device && !in_use() && refusal.empty() && past.empty(); }
  /// What a mount of this volume looks like.
  [[nodiscard]] mount::Expected expected_mount() const;
  [[nodiscard]] mount::Expected expected_block() const;
};

std::string to_json(const VolumeState& state, std::string_view boot_id);
/// nullopt: of another boot. Never throws; failed_precondition says what is wrong.
Result<std::optional<VolumeState>> parse_state(std::string_view text, std::string_view boot_id);

/// Who has which volume where, since boot: in memory, and under `<run dir>/ledger/<id>.json` (tmpfs; written by rename, no fsync).
///
/// The kernel is the truth: open() gives what was written, the reconciler holds it against the mount table. Thread safe; a volume's state
/// is changed only under its lock.
class Ledger {
 public:
  /// A file that can't be read is set aside and told of by unreadable(): the reconciler finds what is mounted.
  static Result<std::unique_ptr<Ledger>> open(const std::string& run_dir, const std::string& boot_id);

  [[nodiscard]] VolumeState state(const std::string& id) const;
  [[nodiscard]] std::map<std::string, VolumeState> all() const;
  [[nodiscard]] const std::vector<std::string>& unreadable() const { return unreadable_; }
  /// Which volume has this path as a target or a staging path; empty: none.
  [[nodiscard]] std::string owner_of(const std::string& path) const;

  /// Written before it returns; an empty state removes the file.
  Result<void> save(const std::string& id, const VolumeState& state);

 private:
  Ledger(std::string directory, std::string boot_id) : directory_(std::move(directory)), boot_id_(std::move(boot_id)) {}
  Result<void> load();
  void index(const std::string& id, const VolumeState& state);

  const std::string directory_;
  const std::string boot_id_;
  mutable std::mutex mutex_;
  std::map<std::string, VolumeState> states_;
  std::map<std::string, std::string> owners_;
  std::vector<std::string> unreadable_;
};

}  // namespace ordinald::agent
