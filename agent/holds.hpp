#pragma once

#include "agent/core.hpp"

namespace ordinald::agent {

/// Takes the publication at the target out of the state, and keeps it as one that is over.
void end_publication(VolumeState& state, const std::string& target, const std::string& how, const std::string& boot_id);

/// The same of a mount that was found there: somebody unnamed had it.
void end_found(VolumeState& state, const std::string& path, const std::string& how, const std::string& boot_id);

/// Whether a process of the holder's has the volume, or may have it: where that can't be told it is so. Where the host's control groups
/// can't be seen, and for a holder without one, it isn't.
bool holder_has_it(mount::Kernel& kernel, const VolumeState& state, const Holder& holder);

enum class GoneMeans : std::uint8_t {
  not_mounted,   ///< whatever else is at the path
  path_is_gone,  ///< nothing is there at all
};

/// Ends the volume's holds whose path is no mount of it any more (a target unmounted or removed behind our back) and whose holder has no
/// process left that has it, so that an orchestrator that forgot can't lock a volume for ever. The kernel is asked about each path and each
/// holder; one that can't be looked at keeps its hold. A raw block device that was found held ready is no hold without a device: the state
/// is a known_state() where there is one. Saves the ledger where anything was ended.
///
/// `asker`: who wants the volume; its own processes don't keep it from it.
///
/// Called under the volume's lock; with `not_mounted` only where a hold stands in a call's way: until then it stays, so that health can
/// tell of it.
Result<void> release_gone_holds(Core& core, mount::Kernel& kernel, const std::string& id, VolumeState& state,
                                GoneMeans means = GoneMeans::not_mounted, const Holder* asker = nullptr);

}  // namespace ordinald::agent
