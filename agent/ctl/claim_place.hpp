#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "agent/ctl/claim_file.hpp"
#include "agent/ctl/failure.hpp"
#include "agent/ctl/patience.hpp"
#include "mount/unique_fd.hpp"

/// What ordinalctl keeps of claimed ordinals, in /run/ordinald-claims (ORDINALD_CLAIMS_RUN_DIR in the environment names another): gone
/// with the boot, as the mounts are. The volumes and who holds them are the agent's to know; here is only where a claim put them, so that
/// `unclaim` takes back just that, whatever has become of the claim file.
///
///   db-0.lock   held while an ordinal is claimed, unclaimed, or one of its volumes made or deleted
///   db-0.json   its volumes' places, which unit claimed it and for which; from before the first is staged until the last is unstaged
///   db-0.env    for the unit: ORDINAL, SET_NAME, POD_NAME, REPLICAS, PEERS, ADDRESS, <TEMPLATE>_PATH
///   data-db-0/staging    0700
namespace ordinald::ctl {

std::string claims_run_dir();

/// Where a claim put a volume.
struct ClaimedVolume {
  std::string of{};  ///< the template
  std::string claim{};
  std::string id{};
  std::string staging{};
  std::string target{};
  std::string keeps{};  ///< the directory above the target that unclaim never removes
  bool operator==(const ClaimedVolume&) const = default;
};

/// What is known of a claimed ordinal.
struct Claimed {
  std::vector<ClaimedVolume> volumes{};
  std::string by{};    ///< the unit that claimed it, and alone may take it back; empty: a person, or it isn't done yet
  std::string unit{};  ///< that the claim file named for it when it was claimed, whatever the file says by now; empty: none
};

/// A lock by flock(2), let go at the end.
class PlaceLock {
 public:
  /// Waits for another run of ordinalctl as long as patience lasts.
  static Result<PlaceLock> take(const std::string& name, Patience& patience);

 private:
  mount::UniqueFd fd_;
};

/// Of an ordinal: `db-0`. None: nothing of it is claimed, or the file can't be read any more.
std::optional<Claimed> load_claimed(const std::string& ordinal);
Result<void> save_claimed(const std::string& ordinal, const Claimed& claimed);
Result<void> forget_claimed(const std::string& ordinal);
/// The set's ordinals that are claimed, ascending.
std::vector<std::int64_t> claimed_ordinals(const std::string& set);

std::string staging_path(const std::string& claim);
std::string environment_path(const std::string& ordinal);
/// What the unit is told, with the places where the volumes are. Written only where something differs.
Result<void> write_environment(const ClaimSet& set, std::int64_t ordinal, const std::vector<ClaimedVolume>& volumes);

/// The part of mountPath before its first directory with a placeholder: `/srv`.
std::string kept_directory(const ClaimSet& set);
/// Removes the directories above the target that are empty, up to `keeps`, which stays.
void tidy_above(const std::string& target, const std::string& keeps);

/// Owner and mode that a set asks for.
struct RootAccess {
  std::optional<uid_t> owner;
  std::optional<gid_t> group;
  std::optional<mode_t> mode;
};
/// Usage: there is no such user or group on this node.
Result<RootAccess> look_up_access(const ClaimSet& set);
/// Of the directory alone, nothing beneath it, and only where they differ.
Result<void> settle_root(const std::string& directory, const RootAccess& access);

}  // namespace ordinald::ctl
