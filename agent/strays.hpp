#pragma once

#include <string>
#include <vector>

#include "agent/core.hpp"

namespace ordinald::agent {

/// Something of a volume that no call asked for, and that is a person's to end: the agent can't prove that it is unused.
struct Stray {
  std::string volume;  ///< its id; of a loop device whose file is no volume of ours, what that file is called
  std::string what;
  std::string command;  ///< that ends it, or shows what is in the way
};

/// Mounts of our volumes that neither a stage, a publication nor a mount found at start explains: bound elsewhere by a person, or left
/// where nobody will ask for them again. Those that are normal are none: copies of an explained mount by propagation or a recursive bind,
/// and, while the volume is published, what kubelet binds of it (subPaths, and a raw device's node once more).
///
/// Reads sysfs and the mount table only. To be believed only of a volume whose lock the caller has; else a call may be in between.
Result<std::vector<Stray>> find_stray_mounts(const Core& core, mount::Kernel& kernel);

/// `who` is mounted so. `covered`: another mount lies on top of it at the same path, which is what a command on that path would be about.
Stray stray_mount(const std::string& volume, const std::string& who, const mount::MountEntry& entry, bool covered = false);

/// Whether the loop's file lies in a pool of ours and has an image's name, by what sysfs says: a hint.
bool is_in_pool(const Core& core, const mount::LoopEntry& loop);

}  // namespace ordinald::agent
