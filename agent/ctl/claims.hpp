#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "agent/ctl/claim_file.hpp"
#include "agent/ctl/claim_place.hpp"
#include "agent/ctl/csi_client.hpp"
#include "agent/ctl/failure.hpp"
#include "agent/ctl/patience.hpp"
#include "agent/ctl/session.hpp"

/// What an orchestrator does for a StatefulSet's ordinal, done on one node for systemd: through the agent's CSI socket, as any other's
/// calls.
///
/// A volume is found by its claim, which the admin socket shows: by any name, after a reboot, and after `rebind`. Every step can
/// be repeated, and is found done when it was. Whoever claims, unclaims, makes or deletes holds the ordinal's lock. Single-threaded.
namespace ordinald::ctl {

/// The namespace of every claim and holder on bare metal.
inline constexpr const char* claim_namespace = "host";

/// A volume as the agent lists it.
struct KnownVolume {
  std::string id{};
  std::uint64_t size = 0;
  std::string twin{};  ///< another volume with the same claim; there should be none
};

/// Refuses where two volumes have the claim.
Result<void> refuse_twins(const std::string& claim, const KnownVolume& volume);

/// Who claims.
struct Claimant {
  std::string unit{};  ///< whose processes have the volumes
  std::string by{};    ///< the unit that runs ordinalctl; empty: a person
};

/// Refuses a unit where another one claimed the ordinal. A person may.
Result<void> refuse_other_units(const std::string& ordinal, const Claimed& claimed, const std::string& by);

class Claims {
 public:
  explicit Claims(Session& session) : session_(session), client_(session.endpoint()) {}

  /// All volumes that have a claim on bare metal, by its name.
  Result<std::map<std::string, KnownVolume>> volumes(Patience& patience);

  /// Makes what is missing, grows, stages, publishes for `host/<ordinal>` with the unit, settles the roots. Answers the volumes in the
  /// order of the templates. Does not wait for who has one (status busy): the caller does, without the ordinal's lock, which who has it
  /// needs to give it back.
  Result<std::vector<ClaimedVolume>> claim(const ClaimSet& set, std::int64_t ordinal, const Claimant& claimant, Patience& patience);

  /// After a claim that failed for good: takes back what this object staged and published, or tried to, unless the ordinal has been
  /// claimed whole by now. What can't be taken back stays for the next claim or an unclaim.
  void give_back(const std::string& ordinal, Patience& patience);

  /// Takes back what was claimed and keeps the volumes. `expected`: what a claim would have put where, for when it isn't known any more.
  Result<void> unclaim(const std::string& ordinal, const std::vector<ClaimedVolume>& expected, Patience& patience);
  /// Where a claim puts the ordinal's volumes, as far as they exist.
  Result<std::vector<ClaimedVolume>> places(const ClaimSet& set, std::int64_t ordinal, Patience& patience);

  Result<KnownVolume> create(const ClaimTemplate& of, const std::string& claim, Patience& patience);
  /// The volume, and its filesystem too where it is published at `target`; else that follows when it is staged.
  Result<void> grow(const ClaimTemplate& of, const KnownVolume& volume, const std::string& target, Patience& patience);
  Result<void> remove(const KnownVolume& volume, Patience& patience);

 private:
  Result<void> bring_up(const ClaimTemplate& of, const ClaimedVolume& volume, const csi::StringMap& holder, Patience& patience);
  Result<void> take_back(const ClaimedVolume& volume, Patience& patience);
  Result<void> unstage(const ClaimedVolume& volume, Patience& patience);

  Session& session_;
  CsiClient client_;
  bool ours_alone_ = false;               ///< nothing of the ordinal was claimed when this object began: all there is is its own
  std::vector<ClaimedVolume> staged_;     ///< by this object, in this order; where all is its own, also what it was refused
  std::vector<ClaimedVolume> published_;  ///< of these
};

}  // namespace ordinald::ctl
