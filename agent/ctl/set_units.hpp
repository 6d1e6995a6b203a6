#pragma once

#include "agent/ctl/claim_file.hpp"
#include "agent/ctl/failure.hpp"
#include "agent/ctl/rollout.hpp"
#include "agent/ctl/session.hpp"

namespace ordinald::ctl {

/// The units that follow_set would stop and start.
Result<UnitChanges> units_to_follow(const ClaimSet& before, const ClaimSet& after);

/// Has systemd follow a claim file that was changed: what is new is started, what the set has no more is stopped, from the highest ordinal
/// down, and its end is waited for. Nothing where the set has no unit, or systemd doesn't run here.
Result<void> follow_set(Session& session, const ClaimSet& before, const ClaimSet& after);

/// Has systemd read its files again, where the set has a unit.
Result<void> reload_for(const ClaimSet& set);

}  // namespace ordinald::ctl
