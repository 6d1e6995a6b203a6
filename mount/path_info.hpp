#pragma once

#include <string>

#include "mount/kernel.hpp"
#include "mount/unique_fd.hpp"

/// What is at a path: statx(2) on a descriptor that follows no symlink at its end, which costs microseconds at any number of mounts.
/// Stateless; any thread. Errors: kernel.hpp.
namespace ordinald::mount {

/// "a mount of device 7:3", "a directory", … for messages.
std::string describe(const PathInfo& info);

/// An O_PATH descriptor of whatever is there, the top mount if it is a mount point. not_found: nothing (ENOENT, ENOTDIR).
Result<UniqueFd> open_path(const std::string& path);

/// Of an open descriptor, O_PATH or not.
Result<PathInfo> path_info_of(int fd);

/// Of a path. Nothing there is FileKind::none.
Result<PathInfo> read_path_info(const std::string& path);

/// Whether the mount that the descriptor is on has exactly these attributes.
Result<bool> has_attributes(int fd, const PathInfo& info, const MountAttributes& attributes);

/// A readable descriptor of the directory mounted at the path. failed_precondition: not a mount of what is expected.
Result<UniqueFd> open_mounted_directory(const std::string& path, const Expected& expected);

/// statvfs(3) of what is mounted there.
Result<FilesystemUsage> read_usage(const std::string& path, const Expected& expected);

}  // namespace ordinald::mount
