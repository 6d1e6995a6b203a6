#pragma once

#include "mount/filesystem.hpp"

namespace ordinald::mount {

/// The one object that knows ext4. Lives as long as the process.
const Filesystem* ext4_filesystem();

}  // namespace ordinald::mount
