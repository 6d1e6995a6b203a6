#pragma once

#include "agent/core.hpp"

namespace ordinald::agent {

/// Takes the publication at the target out of the state, and keeps it as one that is over.
void end_publication(VolumeState& state, const std::string& target, const std::string& how, const std::string& boot_id);

enum class GoneMeans : std::uint8_t {
  not_mounted,   ///< whatever else is at the path
  path_is_gone,  ///< nothing is there at all
};

/// Ends the volume's holds whose path is no mount of it any more (a target unmounted or removed behind our back), so that an orchestrator
/// that forgot can't lock a volume for ever. The kernel is asked about each path; one that can't be looked at keeps its hold. Saves the
/// ledger where anything was ended.
///
/// Called under the volume's lock; with `not_mounted` only where a hold stands in a call's way: until then it stays, so that health can
/// tell of it.
Result<void> release_gone_holds(Core& core, mount::Kernel& kernel, const std::string& id, VolumeState& state,
                                GoneMeans means = GoneMeans::not_mounted);

}  // namespace ordinald::agent
