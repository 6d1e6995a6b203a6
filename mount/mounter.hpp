#pragma once

#include "mount/kernel.hpp"
#include "mount/unique_fd.hpp"

/// Filesystems and binds put where they belong, by the new mount API (fsopen(2), open_tree(2), mount_setattr(2), move_mount(2)): a mount
/// is complete, with its attributes, and proven to be the right one, before it can be seen anywhere. Stateless; any thread.
/// Errors: Kernel::mount_filesystem and Kernel::bind.
namespace ordinald::mount {

/// The device's filesystem in a mount that is nowhere; it goes with its descriptor. The request's target has no part in it.
Result<UniqueFd> make_mount(const MountRequest& request);

Result<PathInfo> mount_device(const MountRequest& request);
Result<PathInfo> bind_path(const BindRequest& request);

}  // namespace ordinald::mount
