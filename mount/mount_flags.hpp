#pragma once

#include <string>
#include <vector>

#include "mount/types.hpp"

namespace ordinald::mount {

/// A call's mount_flags, parted into the mount point's attributes and the filesystem's own options.
struct MountFlags {
  MountAttributes attributes;
  std::vector<std::string> options;
  std::vector<std::uint32_t> places;  ///< of each option in the call's list
};

/// Parts them: ro rw suid nosuid dev nodev exec noexec atime noatime relatime strictatime diratime nodiratime defaults are the mount
/// point's (the last of a pair wins, mount(8)); all else is for the filesystem, and the kernel refuses what it does not know. A flag may be
/// a comma-separated list.
MountFlags split_mount_flags(const std::vector<std::string>& flags);

/// Whether one of the options is `key` or `key=…`.
bool has_option(const MountFlags& flags, std::string_view key);

}  // namespace ordinald::mount
