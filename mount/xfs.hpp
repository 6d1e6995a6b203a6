#pragma once

#include "mount/filesystem.hpp"

namespace ordinald::mount {

/// The one object that knows xfs. Lives as long as the process.
const Filesystem* xfs_filesystem();

}  // namespace ordinald::mount
