#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "agent/ctl/claim_file.hpp"
#include "agent/ctl/failure.hpp"
#include "agent/ctl/service_manager.hpp"

/// A set's units, one after the other: restarted by a rollout, started and stopped as a set grows and shrinks.
///
/// What is left to do is derived, so that it can be called again at any time: an ordinal is done when its unit has been active since a
/// time after the rollout began. When that was, and a checksum of what is being rolled out (the claim file but for its replicas, the unit
/// file, the administrator's drop-ins), lies in one file beneath /run until the lowest ordinal is done. One that ended at a partition
/// says so there: what goes further down goes on from it, and what does not is another one. Other files than those it began with: it
/// begins anew. A lost file, as after a boot: it begins anew, which restarts an ordinal too often and none too seldom.
///
/// Single-threaded.
namespace ordinald::ctl {

/// Told what is being done, in words.
using Say = std::function<void(const std::string&)>;

enum class Patient : bool {
  no,   ///< a unit that fails is an error
  yes,  ///< it may come up yet: somebody mends it
};

/// Waits until the unit has been active for `min_ready` without an interruption. Failure: it failed (with its last lines), or time is up.
Result<void> await_ready(ServiceManager& manager, const std::string& unit, std::chrono::seconds min_ready, std::chrono::seconds timeout,
                         Patient patient, const Say& say);

/// The ordinals that are claimed, each with the unit for which it was (Claimed::unit).
using ClaimedUnits = std::map<std::int64_t, std::string>;

struct RolloutOrder {
  std::int64_t partition = 0;         ///< the lowest ordinal that is restarted
  std::chrono::seconds timeout{600};  ///< for each ordinal
  bool anew = false;                  ///< forget what an earlier one did
  std::string claim_text{};           ///< the claim file's
  std::string memory{};               ///< where it keeps when it began
  ClaimedUnits claimed{};             ///< while one of these runs that is no unit of the set by now, nothing is restarted
};

struct RolledOut {
  std::vector<std::int64_t> restarted{};
  std::vector<std::int64_t> were_done{};  ///< by an earlier call
};

/// From the highest ordinal down to the partition, each when the one before is ready; stops at the first that fails.
Result<RolledOut> roll_out(ServiceManager& manager, const ClaimSet& set, const RolloutOrder& order, const Say& say);

/// Units, in the order in which they are stopped or started.
struct UnitChanges {
  std::vector<std::string> stop{};
  std::vector<std::string> start{};
};

/// What `follow` has to do.
Result<UnitChanges> unit_changes(ServiceManager& manager, const ClaimSet& before, const ClaimSet& after, const ClaimedUnits& claimed);

/// Stops what `before` or `claimed` has and `after` has not, highest first, each with its claim: also a unit that the claim file named
/// before it was changed in its place, when `before` is what `after` is. Has systemd read the files again; starts
/// what `after` has, lowest first.
Result<void> follow(ServiceManager& manager, const ClaimSet& before, const ClaimSet& after, const ClaimedUnits& claimed,
                    std::chrono::seconds timeout, const Say& say);

}  // namespace ordinald::ctl
