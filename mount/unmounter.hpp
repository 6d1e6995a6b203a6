#pragma once

#include "mount/kernel.hpp"

/// Mounts taken away again, and their targets removed (rule 5: only where we mounted, never recursively, never through a symlink, never
/// lazily). Stateless; any thread. Errors: Kernel::unmount.
namespace ordinald::mount {

Result<void> unmount_path(const UnmountRequest& request);

}  // namespace ordinald::mount
