#pragma once

#include "agent/core.hpp"

namespace ordinald::agent {

/// Before an exclusive publication gets a new holder: none of the processes of the holders before it, of this boot, may still have the
/// volume mounted or open. A pod that was deleted by force can go on writing through its own mount namespace after the target on the host
/// is unmounted; its processes are found by its control group, `pod<uid>` or (systemd driver) `…-pod<uid, - as _>.slice`, on bare metal
/// that of the unit's name. Anybody else who merely copied the mount table is named in the log, and doesn't block.
///
/// A pod found gone is not looked for again, so that an undisturbed publish pays one look. failed_precondition: who still has it, and
/// what to do. Where control groups can't be seen that is logged, and the hand-over goes on.
Result<void> check_hand_over(Core& core, mount::Kernel& kernel, const std::string& id, VolumeState& state, const Holder& next);

}  // namespace ordinald::agent
