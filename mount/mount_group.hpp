#pragma once

#include <cstdint>
#include <string>

#include "mount/kernel.hpp"

/// CSI's volume_mount_group on filesystems that know no such mount option: everything beneath a mount is given to a group, once.
/// Stateless; any thread. Errors: Kernel::apply_group.
namespace ordinald::mount {

/// The root is looked at first and changed last: a root that has it all answers with one stat, and a walk that was interrupted is done
/// again from the start. What a chown takes from a file (setuid, setgid, capabilities) is noted on the file itself before, in
/// `trusted.ordinald.taken`, and put back by whoever repeats the walk, unless the file was written to since; where the filesystem has no
/// room for that note, a walk that dies between the two loses it. A workload may be at work beneath meanwhile: every step is on a
/// descriptor that followed no symlink and left neither the filesystem nor the mount.
Result<void> give_to_group(const std::string& path, const Expected& expected, std::uint32_t gid);

}  // namespace ordinald::mount
