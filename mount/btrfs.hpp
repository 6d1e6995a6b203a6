#pragma once

#include "mount/filesystem.hpp"

namespace ordinald::mount {

/// The one object that knows btrfs. Lives as long as the process.
const Filesystem* btrfs_filesystem();

}  // namespace ordinald::mount
