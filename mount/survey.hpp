#pragma once

#include "mount/kernel.hpp"

/// What a file or block device is and holds, without a change to it. The verb Kernel::survey; stateless, any thread.
namespace ordinald::mount {

/// A file's filesystem is looked into through a read-only loop device that goes with its descriptor, in a mount that is nowhere
/// (fsmount(2)) and goes with its descriptor too: ext4 `noload`, xfs `norecovery`, btrfs `rescue=nologreplay`.
Result<Survey> survey_path(const std::string& path);

}  // namespace ordinald::mount
