#pragma once

#include <cstdint>
#include <string>

#include "agent/core.hpp"

namespace ordinald::agent {

/// Grows the volume's mounted filesystem to `size` bytes, which its image and record have already, at whatever path of its it can be
/// written by; OK where it has none, or has that size. Under the volume's lock.
/// failed_precondition: mounted for reading only; ext4 without CAP_SYS_RESOURCE; no device (CSI, NodeExpandVolume). It grows at the next
/// stage then.
Result<void> grow_online(Core& core, const std::string& id, std::uint64_t size);

}  // namespace ordinald::agent
