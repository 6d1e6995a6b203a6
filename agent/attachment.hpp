#pragma once

#include <optional>
#include <string>

#include "agent/core.hpp"

/// A volume's device, as an operation under the volume's lock finds it.
namespace ordinald::agent {

/// The device, attached; where the volume is in use already, the one that it is in use as. Without this, an image that was replaced while
/// its volume is mounted would give a second device beside the first.
Result<mount::Device> attach_device(const Core& core, mount::Kernel& kernel, const mount::Pool& pool, const VolumeRecord& record,
                                    const VolumeState& state);

/// Of a volume that is attached already: where its pool is thick, allocates what its image has lost of its blocks since, and lets the
/// device take no discard. What can't be had is told in the log, and keeps nobody from a volume that is in use.
void keep_thick(const Core& core, mount::Kernel& kernel, const mount::Pool& pool, const VolumeRecord& record, const mount::Device& device);

/// The volume's device, where it is attached: the ledger's, or the one that its pool finds. Works without a record, by asking each pool
/// (a damaged record's volume is still taken down).
Result<std::optional<mount::Device>> find_device(const Core& core, mount::Kernel& kernel, const std::string& id, const VolumeState& state);

/// The state, with the device and the filesystem filled in from the record where the ledger has them no more.
Result<VolumeState> known_state(const Core& core, mount::Kernel& kernel, const std::string& id);

/// Detaches a device that nothing of ours uses any more. One that lives on in another mount namespace goes when that lets go: success, and
/// a warning that names who has it.
Result<void> let_go(const Core& core, mount::Kernel& kernel, const std::string& id, const mount::Device& device);

/// Whether a device that was let go is still there, for whoever has it.
bool lives_on(mount::Kernel& kernel, const mount::Device& device);

/// Saves what is left when something of the volume was taken away; where that was the last, its device goes first. A staging path may have
/// been unmounted by somebody and dropped, and then the last is no unstage.
Result<void> save_what_is_left(Core& core, mount::Kernel& kernel, const std::string& id, VolumeState state);

}  // namespace ordinald::agent
