#pragma once

#include <optional>
#include <string>
#include <vector>

#include "agent/core.hpp"
#include "agent/volume_locks.hpp"

namespace ordinald::agent {

/// What a person says of a file that is to become a volume.
struct AdoptionRequest {
  std::string path{};                  ///< absolute
  std::string name{};                  ///< the volume's; empty: after the claim, or after the file
  std::optional<Claim> claim{};        ///< whose it is
  std::string pool{};                  ///< empty: one on the file's own file system, the default one rather
  std::string copy_of{};               ///< the block device whose bytes the file has; empty: it is no copy
  std::string uuid{};                  ///< that its filesystem must have; empty: any
  std::optional<Identity> identity{};  ///< nothing: `ordinal` for a claim of this node (namespace host), else `none`
};

/// How a block device is copied, by whoever asks: an hour's work, which no call of the agent's waits for.
struct CopyPlan {
  std::string file{};           ///< where to, in the pool (device_copy_name.hpp): what is to be adopted then
  bool thick = false;           ///< every block allocated
  std::uint64_t keep_free = 0;  ///< bytes of the pool's file system that the copy leaves free
};

struct AdoptionPlan {
  mount::Survey found{};                ///< what is there; nothing where it was adopted already
  VolumeRecord record{};                ///< what it becomes, or has become; its id is given at the adoption
  std::vector<std::string> refusals{};  ///< what stands against it, each with what to do; empty: nothing
  std::optional<CopyPlan> copy{};       ///< of a block device
  std::string note{};                   ///< what a person should know of how it went; empty: nothing
  bool done = false;                    ///< it is a volume already
};

/// A file that holds a whole filesystem becomes a volume, by its name alone: none of its bytes is copied or changed.
///
///     looked at ─▶ marked and labelled `formatted`, where it lies ─▶ moved into the pool ─▶ record, `formatted` ─▶ label `raw` ─▶ done
/// A block device is planned here, and copied by `ordinalctl` into the pool under a name that no volume has; the copy is then adopted as a
/// file is, as what it is a copy of.
///
/// Each step is durable before the next. Killed before the move, it is the file that it was, with a mark that nobody minds; the same
/// command does it again. After the move its label is all that a record needs, and a repair makes it (record_recovery.hpp), as does the
/// same command. At no moment is there a record that calls it blank, or one for which a repair would remove it.
class Adoption {
 public:
  Adoption(Core& core, VolumeLocks& locks) : core_(core), locks_(locks) {}

  /// Changes nothing. invalid_argument: a name or path that can't be one. not_found: no such file, and no volume that was adopted from it.
  [[nodiscard]] Result<AdoptionPlan> plan(const AdoptionRequest& request);
  /// Does it; done already is success. failed_precondition: all that stands against it. resource_exhausted: the pool can't promise as much.
  Result<AdoptionPlan> adopt(const csi::CallContext& call, const AdoptionRequest& request);

 private:
  Result<AdoptionPlan> already_adopted(const AdoptionRequest& request, const Error& absent);
  Result<void> finish(const std::string& path);
  Result<void> choose_pool(mount::Kernel& kernel, const AdoptionRequest& request, AdoptionPlan& plan) const;
  [[nodiscard]] Result<PromiseBook::Reservation> reserve(const AdoptionRequest& request, const AdoptionPlan& plan) const;
  [[nodiscard]] std::shared_ptr<const VolumeRecord> copied_before(const AdoptionRequest& request, const std::string& uuid) const;
  Result<void> plan_copy(const AdoptionRequest& request, AdoptionPlan& plan) const;
  /// Which volume's image that path is; empty: none's.
  [[nodiscard]] std::string volume_at(const std::string& path) const;
  void judge_device(const AdoptionRequest& request, AdoptionPlan& plan) const;
  void judge_path(const AdoptionRequest& request, AdoptionPlan& plan) const;
  void judge_content(const AdoptionRequest& request, AdoptionPlan& plan) const;
  void judge_names(AdoptionPlan& plan) const;

  Core& core_;
  VolumeLocks& locks_;
};

/// The label under which a file is moved: with it a record can be made that knows the filesystem.
std::string adoption_label(const VolumeRecord& record);

}  // namespace ordinald::agent
