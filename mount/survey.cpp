#include "mount/survey.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "mount/block_device.hpp"
#include "mount/files.hpp"
#include "mount/image_file.hpp"
#include "mount/loop_device.hpp"
#include "mount/loop_search.hpp"
#include "mount/mounter.hpp"
#include "mount/mountinfo.hpp"
#include "mount/probe.hpp"
#include "mount/superblock.hpp"
#include "mount/units.hpp"

namespace ordinald::mount {
namespace {

FileKind kind_of(mode_t mode) {
  return S_ISREG(mode)   ? FileKind::regular
         : S_ISBLK(mode) ? FileKind::block_device
         : S_ISDIR(mode) ? FileKind::directory
         : S_ISLNK(mode) ? FileKind::symlink
                         : FileKind::other;
}

std::string mounts_of(const Device& device) {
  std::string places;
  if (const auto table = read_mount_table()) {
    for (const MountEntry& entry : table.value()) {
      if (is_of_device(entry, device)) {
        places += (places.empty() ? "" : " ") + entry.mount_point;
      }
    }
  }
  return places;
}

bool is_swap(const std::string& path) {
  const auto swaps = read_kernel_file("/proc/swaps");
  return swaps && ("\n" + swaps.value()).find("\n" + path + " ") != std::string::npos;
}

/// What stands on a block device: device mapper, RAID.
std::string holders_of(std::uint64_t number) {
  const std::string path = "/sys/dev/block/" + std::to_string(major(number)) + ":" + std::to_string(minor(number)) + "/holders";
  std::string names;
  const DirectoryStream stream{::opendir(path.c_str())};
  while (const dirent* entry = stream ? ::readdir(stream.get()) : nullptr) {
    const std::string name{static_cast<const char*>(entry->d_name)};
    if (!name.starts_with('.')) {
      names += (names.empty() ? "" : " ") + name;
    }
  }
  return names;
}

std::string who_has_file(const std::string& path, const struct stat& status) {
  const std::size_t slash = path.rfind('/');
  const auto loop =
      search_loops({.directory = path.substr(0, slash), .file = path.substr(slash + 1), .device = status.st_dev, .inode = status.st_ino});
  if (loop && loop.value()) {
    const Device& device = loop.value()->device;
    const std::string places = mounts_of(device);
    return "it is attached as " + device.path + (places.empty() ? ": " : ", which is mounted: umount " + places + " and ") + "losetup -d " +
           device.path;
  }
  return is_swap(path) ? "it is swap space: swapoff " + path : "a program has it open: fuser -v " + path + " shows which";
}

std::string who_has_device(const Device& device) {
  if (const std::string places = mounts_of(device); !places.empty()) {
    return "it is mounted: umount " + places;
  }
  if (const std::string holders = holders_of(device.number); !holders.empty()) {
    return holders + " stands on it (lsblk " + device.path + ")";
  }
  return is_swap(device.path) ? "it is swap space: swapoff " + device.path
                              : "something has it for itself: lsblk " + device.path + "; fuser -v " + device.path;
}

/// What must be said to a filesystem so that it is only read.
std::vector<std::string> read_only_options(const std::string& type) {
  return {"ro", type == "ext4" ? "noload" : type == "xfs" ? "norecovery" : "rescue=nologreplay"};
}

Result<void> read_names(int root, Survey& survey) {
  UniqueFd fd{::openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (!fd) {
    return errno_error(errno, "opening its root");
  }
  struct statvfs usage{};
  if (::fstatvfs(fd.get(), &usage) != 0) {
    return errno_error(errno, "asking for its room");
  }
  survey.total = usage.f_blocks * usage.f_frsize;
  survey.used = (usage.f_blocks - usage.f_bfree) * usage.f_frsize;
  const DirectoryStream stream{::fdopendir(fd.get())};
  if (!stream) {
    return errno_error(errno, "listing its root");
  }
  fd.release();  // the stream closes it
  for (;;) {
    errno = 0;
    const dirent* entry = ::readdir(stream.get());
    if (entry == nullptr) {
      break;
    }
    std::string name{static_cast<const char*>(entry->d_name)};
    if (name != "." && name != "..") {
      survey.names.push_back(std::move(name));
    }
  }
  if (errno != 0) {
    return errno_error(errno, "listing its root");
  }
  survey.name_count = survey.names.size();
  std::ranges::sort(survey.names);
  survey.names.resize(std::min(survey.names.size(), Survey::most_names));
  return success();
}

Result<void> look_inside(const Device& device, Survey& survey) {
  const Signature& filesystem = survey.signatures.front();
  MountRequest request;
  request.device = device;
  request.fs_type = filesystem.type;
  request.uuid = filesystem.uuid;
  request.options = read_only_options(filesystem.type);
  request.option_places.assign(request.options.size(), UINT32_MAX);
  request.attributes = {.read_only = true, .no_suid = true, .no_dev = true, .no_exec = true};
  TRY(const UniqueFd mount, make_mount(request));
  return read_names(mount.get(), survey);
}

bool is_one_of_ours(const Survey& survey) {
  if (survey.signatures.size() != 1 || survey.signatures.front().usage != "filesystem") {
    return false;
  }
  const std::string& type = survey.signatures.front().type;
  return type == "ext4" || type == "xfs" || type == "btrfs";
}

/// By the superblock alone.
Result<void> read_signatures(int fd, const std::string& path, Survey& survey) {
  if (survey.size == 0) {
    return success();
  }
  TRY(survey.signatures, find_signatures(fd, survey.size, path));
  if (!is_one_of_ours(survey)) {
    return success();
  }
  const std::string& type = survey.signatures.front().type;
  TRY(const FilesystemSize size, read_filesystem_size(fd, type));
  TRY(survey.outside_journal, has_outside_journal(fd, type));
  TRY(const std::uint32_t smallest, read_smallest_block(fd, type));
  constexpr std::uint32_t large = 4096;
  constexpr std::uint32_t small = 512;
  survey.filesystem_size = size.on_device(survey.size);
  survey.block_size = smallest >= large && survey.size % large == 0 ? large : small;
  return success();
}

Result<void> survey_file(const std::string& path, Survey& survey) {
  TRY(survey.volume_id, read_image_mark(path));
  const std::size_t slash = path.rfind('/');
  TRY(survey.label, read_image_label({.directory = path.substr(0, slash), .file = path.substr(slash + 1), .volume_id = {}}));
  const UniqueFd fd{::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)};
  struct stat status{};
  if (!fd || ::fstat(fd.get(), &status) != 0) {
    return errno_error(errno, "opening " + path);
  }
  if (!S_ISREG(status.st_mode) || status.st_ino != survey.inode || status.st_dev != survey.device) {
    return make_error(ErrorCode::failed_precondition, path + " was replaced while it was being looked at");
  }
  if (!open_nowhere_else(fd.get())) {
    survey.in_use = errno == EACCES ? "whether anybody has it open can't be told of another user's file: chown root " + path
                                    : who_has_file(path, status);
  }
  TRYV(read_signatures(fd.get(), path, survey));
  if (!survey.in_use.empty() || !is_one_of_ours(survey)) {
    return success();
  }
  {
    TRY(const ReadOnlyLoop loop, attach_read_only(fd.get(), path, survey.block_size));
    if (const auto looked = look_inside(loop.device, survey); !looked) {
      survey.problem = looked.error().message;
    }
  }
  // The loop goes with its last user, which may be somebody who looks at every new device (udev). Then it is as it was.
  for (ShortWait wait; !open_nowhere_else(fd.get()) && wait.again();) {
  }
  return success();
}

Result<void> survey_device(const std::string& path, Survey& survey) {
  UniqueFd fd{::open(path.c_str(), O_RDONLY | O_EXCL | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)};
  const bool busy = !fd && errno == EBUSY;
  if (busy) {
    fd = UniqueFd{::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)};
  }
  if (!fd) {
    return errno_error(errno, "opening " + path);
  }
  struct stat status{};
  if (::fstat(fd.get(), &status) != 0 || !S_ISBLK(status.st_mode)) {
    return make_error(ErrorCode::failed_precondition, path + " was replaced while it was being looked at");
  }
  Device plain{.path = path, .number = status.st_rdev};
  if (const auto backing = read_kernel_file(sysfs_path(plain, "loop/backing_file"))) {
    survey.backing = backing.value();
  }
  TRY(const Device device, describe_open_device(fd.get(), path));
  survey.size = device.size;
  survey.in_use = busy ? who_has_device(device) : "";
  TRYV(read_signatures(fd.get(), path, survey));
  fd.reset();  // the mount needs it for itself
  if (!busy && is_one_of_ours(survey)) {
    if (const auto looked = look_inside(device, survey); !looked) {
      survey.problem = looked.error().message;
    }
  }
  return success();
}

}  // namespace

Result<Survey> survey_path(const std::string& path) {
  struct stat status{};
  if (::lstat(path.c_str(), &status) != 0) {
    const int error = errno;
    const bool absent = error == ENOENT || error == ENOTDIR;
    return errno_error(absent ? ErrorCode::not_found : ErrorCode::internal, error, "looking at " + path);
  }
  Survey survey{.kind = kind_of(status.st_mode),
                .size = static_cast<std::uint64_t>(status.st_size),
                .allocated = static_cast<std::uint64_t>(status.st_blocks) * stat_block,
                .device = status.st_dev,
                .inode = status.st_ino,
                .links = status.st_nlink};
  if (survey.kind == FileKind::regular) {
    TRYV(survey_file(path, survey));
  } else if (survey.kind == FileKind::block_device) {
    TRYV(survey_device(path, survey));
  }
  return survey;
}

}  // namespace ordinald::mount
