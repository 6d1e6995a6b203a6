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

/// The volume's device, where it is attached: the ledger's, or the one that its pool finds. Works without a record, by asking each pool
/// (a damaged record's volume is still taken down).
Result<std::optional<mount::Device>> find_device(const Core& core, mount::Kernel& kernel, const std::string& id, const VolumeState& state);

/// The state, with the device and the filesystem filled in from the record where the ledger has them no more.
Result<VolumeState> known_state(const Core& core, mount::Kernel& kernel, const std::string& id);

/// Detaches a device that nothing of ours uses any more. One that lives on in another mount namespace goes when that lets go: success, and
/// a warning that names who has it.
Result<void> let_go(const Core& core, mount::Kernel& kernel, const std::string& id, const mount::Device& device);

}  // namespace ordinald::agent
