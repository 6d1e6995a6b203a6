#pragma once

#include <cstdint>

#include "mount/kernel.hpp"

/// A mounted filesystem grown to its device, by the ioctl of its kind; no program is run. Stateless; any thread. Bytes.
/// Errors: Kernel::grow_filesystem.
namespace ordinald::mount {

Result<std::uint64_t> grow_mounted(const GrowRequest& request);

}  // namespace ordinald::mount
