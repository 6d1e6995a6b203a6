#include "mount/path_info.hpp"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <optional>
#include <string_view>

#include "mount/btrfs_info.hpp"
#include "mount/files.hpp"
#include "mount/mountinfo.hpp"
#include "mount/proc_text.hpp"

namespace ordinald::mount {
namespace {

FileKind kind_of(std::uint16_t mode) {
  switch (mode & S_IFMT) {
    case S_IFDIR:
      return FileKind::directory;
    case S_IFREG:
      return FileKind::regular;
    case S_IFBLK:
      return FileKind::block_device;
    case S_IFLNK:
      return FileKind::symlink;
    default:
      return FileKind::other;
  }
}

bool means_broken(int error) {
  return error == ENOTCONN || error == ESTALE || error == EIO || error == EHOSTDOWN || error == ENODEV || error == ESHUTDOWN;
}

Result<std::optional<MountEntry>> find_entry(std::uint64_t mount_id) {
  TRY(auto table, read_mount_table());
  for (auto& entry : table) {
    if (entry.id == mount_id) {
      return std::optional{std::move(entry)};
    }
  }
  return std::optional<MountEntry>{};
}

/// The mount that an O_PATH descriptor is on, without asking its filesystem (proc_pid_fdinfo(5)).
Result<std::uint64_t> mount_id_without_filesystem(int fd) {
  TRY(const auto text, read_kernel_file("/proc/self/fdinfo/" + std::to_string(fd)));
  const auto id = mount_id_in(text);
  return id ? Result<std::uint64_t>{*id} : make_error(ErrorCode::internal, "/proc/self/fdinfo names no mount");
}

/// The filesystem doesn't answer, so the mount table has to: milliseconds on a busy node, but the case is rare.
Result<PathInfo> broken_path_info(int fd) {
  PathInfo info;
  info.kind = FileKind::directory;
  info.broken = true;
  TRY(info.mount_id, mount_id_without_filesystem(fd));
  TRY(const auto entry, find_entry(info.mount_id));
  std::array<char, PATH_MAX> path{};
  const ssize_t size = ::readlink(proc_path(fd).c_str(), path.data(), path.size());
  if (size < 0) {
    return errno_error(errno, "asking where a broken mount is");
  }
  if (!entry) {
    return info;
  }
  info.mount_root = entry->mount_point == std::string_view{path.data(), static_cast<std::size_t>(size)};
  info.device = entry->device;
  struct stat source{};
  if (entry->fs_type == "btrfs" && ::stat(entry->source.c_str(), &source) == 0) {
    info.device = source.st_rdev;  // its own number is anonymous, and its UUID can't be asked for
  }
  return info;
}

}  // namespace

std::string describe(const PathInfo& info) {
  const std::string device = std::to_string(major(info.device)) + ":" + std::to_string(minor(info.device));
  if (info.mount_root && info.kind == FileKind::block_device) {
    return "a mount of the device node " + std::to_string(major(info.rdev)) + ":" + std::to_string(minor(info.rdev));
  }
  if (info.mount_root) {
    return (info.broken ? "a broken mount of device " : "a mount of device ") + device +
           (info.fs_uuid.empty() ? "" : " (btrfs " + info.fs_uuid + ")");
  }
  switch (info.kind) {
    case FileKind::none:
      return "nothing";
    case FileKind::directory:
      return "a directory";
    case FileKind::regular:
      return "a file";
    case FileKind::block_device:
      return "a device node";
    case FileKind::symlink:
      return "a symlink";
    case FileKind::other:
      break;
  }
  return "a special file";
}

Result<UniqueFd> open_path(const std::string& path) {
  UniqueFd fd{::open(path.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC)};
  if (!fd) {
    const int error = errno;
    return errno_error(error == ENOENT || error == ENOTDIR ? ErrorCode::not_found : ErrorCode::internal, error, "looking at " + path);
  }
  return fd;
}

Result<PathInfo> path_info_of(int fd) {
  struct statx status{};
  if (::statx(fd, "", AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_BASIC_STATS | STATX_MNT_ID, &status) != 0) {
    if (means_broken(errno)) {
      return broken_path_info(fd);
    }
    return errno_error(errno, "statx");
  }
  PathInfo info;
  info.kind = kind_of(status.stx_mode);
  info.mount_root = (status.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
  info.device = makedev(status.stx_dev_major, status.stx_dev_minor);
  info.mount_id = status.stx_mnt_id;
  if (info.kind == FileKind::block_device) {
    info.rdev = makedev(status.stx_rdev_major, status.stx_rdev_minor);
  }
  struct statfs filesystem{};
  if (::fstatfs(fd, &filesystem) != 0) {
    if (means_broken(errno)) {
      return broken_path_info(fd);
    }
    return errno_error(errno, "statfs");
  }
  info.read_only = (filesystem.f_flags & ST_RDONLY) != 0;
  if (info.kind == FileKind::directory && status.stx_dev_major == 0 && filesystem.f_type == BTRFS_SUPER_MAGIC) {
    const UniqueFd directory{::openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (!directory) {
      return errno_error(errno, "opening a directory of a btrfs");
    }
    TRY(info.fs_uuid, read_btrfs_uuid(directory.get()));
  }
  return info;
}

Result<PathInfo> read_path_info(const std::string& path) {
  const auto fd = open_path(path);
  if (!fd) {
    if (fd.error().code == ErrorCode::not_found) {
      return PathInfo{};
    }
    return fd.error();
  }
  auto info = path_info_of(fd.value().get());
  if (!info) {
    return info.error().with_context("looking at " + path);
  }
  return info;
}

Result<bool> has_attributes(int fd, const PathInfo& info, const MountAttributes& attributes) {
  struct statfs filesystem{};
  if (::fstatfs(fd, &filesystem) != 0) {
    return errno_error(errno, "statfs");
  }
  const auto flags = filesystem.f_flags;
  const AccessTime atime = (flags & ST_NOATIME) != 0    ? AccessTime::noatime
                           : (flags & ST_RELATIME) != 0 ? AccessTime::relatime
                                                        : AccessTime::strictatime;
  MountAttributes found{.read_only = (flags & ST_RDONLY) != 0,
                        .no_suid = (flags & ST_NOSUID) != 0,
                        .no_dev = (flags & ST_NODEV) != 0,
                        .no_exec = (flags & ST_NOEXEC) != 0,
                        .no_dir_atime = (flags & ST_NODIRATIME) != 0,
                        .atime = atime};
  if (found.read_only && !attributes.read_only) {
    // The flag tells of the filesystem too, and one that went read-only after an error is no other mount than what was asked for. Only
    // the mount table tells them apart.
    TRY(const auto entry, find_entry(info.mount_id));
    found.read_only = entry && ("," + entry->options + ",").find(",ro,") != std::string::npos;
  }
  return found == attributes;
}

Result<UniqueFd> open_mounted_directory(const std::string& path, const Expected& expected) {
  UniqueFd fd{::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)};
  if (!fd) {
    const int error = errno;
    const bool absent = error == ENOENT || error == ENOTDIR || error == ELOOP;
    return errno_error(absent ? ErrorCode::failed_precondition : ErrorCode::internal, error, "opening " + path);
  }
  TRY(const auto info, path_info_of(fd.get()));
  if (!matches(info, expected)) {
    return make_error(ErrorCode::failed_precondition,
                      path + " is " + describe(info) + ", not the mount of " + expected.fs_type + " that was expected there");
  }
  return fd;
}

Result<FilesystemUsage> read_usage(const std::string& path, const Expected& expected) {
  auto fd = open_path(path);
  if (!fd) {
    Error error = fd.error();
    if (error.code == ErrorCode::not_found) {
      error.code = ErrorCode::failed_precondition;
    }
    return error;
  }
  TRY(const auto info, path_info_of(fd.value().get()));
  if (!matches(info, expected) || info.kind != FileKind::directory) {
    return make_error(ErrorCode::failed_precondition, path + " is " + describe(info) + ", not the mount that was expected there");
  }
  struct statvfs status{};
  if (::fstatvfs(fd.value().get(), &status) != 0) {
    return errno_error(errno, "asking for the usage of " + path);
  }
  // A filesystem that is being grown, or damaged, can claim more free than there is.
  const auto difference = [](std::uint64_t all, std::uint64_t free) { return all > free ? all - free : 0; };
  return FilesystemUsage{.total = status.f_blocks * status.f_frsize,
                         .available = status.f_bavail * status.f_frsize,
                         .used = difference(status.f_blocks, status.f_bfree) * status.f_frsize,
                         .inodes = status.f_files,
                         .inodes_free = status.f_ffree,
                         .inodes_used = difference(status.f_files, status.f_ffree)};
}

}  // namespace ordinald::mount
