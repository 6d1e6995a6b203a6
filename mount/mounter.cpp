#include "mount/mounter.hpp"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <limits>
#include <string>
#include <utility>

#include "mount/block_device.hpp"
#include "mount/btrfs_info.hpp"
#include "mount/crash_point.hpp"
#include "mount/mount_target.hpp"
#include "mount/mount_words.hpp"
#include "mount/path_info.hpp"
#include "mount/superblock.hpp"

namespace ordinald::mount {
namespace {

std::uint64_t attribute_bits(const MountAttributes& attributes) {
  std::uint64_t bits = 0;
  bits |= attributes.read_only ? MOUNT_ATTR_RDONLY : 0;
  bits |= attributes.no_suid ? MOUNT_ATTR_NOSUID : 0;
  bits |= attributes.no_dev ? MOUNT_ATTR_NODEV : 0;
  bits |= attributes.no_exec ? MOUNT_ATTR_NOEXEC : 0;
  bits |= attributes.no_dir_atime ? MOUNT_ATTR_NODIRATIME : 0;
  switch (attributes.atime) {
    case AccessTime::relatime:
      bits |= MOUNT_ATTR_RELATIME;
      break;
    case AccessTime::noatime:
      bits |= MOUNT_ATTR_NOATIME;
      break;
    case AccessTime::strictatime:
      bits |= MOUNT_ATTR_STRICTATIME;
      break;
  }
  return bits;
}

std::string what(const MountRequest& request) { return "mounting " + describe(request.device) + " as " + request.fs_type; }

std::string with_words(const std::string& text, int context, const MountRequest& request) {
  const std::string words = hide_options(read_kernel_words(context), request.options, request.option_places);
  return words.empty() ? text : text + " (the kernel says: " + words + ")";
}

Result<void> set_option(int context, const MountRequest& request, std::size_t index) {
  const std::string& option = request.options[index];
  const std::uint32_t place = request.option_places[index];
  const bool own = place == std::numeric_limits<std::uint32_t>::max();
  const auto equals = option.find('=');
  const std::string key = option.substr(0, equals);
  int result = 0;
  if (key == "source") {
    result = -1;  // the device is not the caller's choice
    errno = EINVAL;
  } else if (equals == std::string::npos) {
    result = ::fsconfig(context, FSCONFIG_SET_FLAG, key.c_str(), nullptr, 0);
  } else {
    result = ::fsconfig(context, FSCONFIG_SET_STRING, key.c_str(), option.c_str() + equals + 1, 0);
  }
  if (result == 0) {
    return success();
  }
  const int error = errno;
  if (own) {
    return errno_error(error, with_words(what(request) + ": its option " + option, context, request));
  }
  return errno_error(ErrorCode::invalid_argument, error,
                     with_words(what(request) + ": mount_flags[" + std::to_string(place) + "] is refused", context, request));
}

/// Which errno of FSCONFIG_CMD_CREATE is not about the state of what is on the device.
bool is_nobodys_fault(int error, const std::string& fs_type) {
  // What a damaged btrfs answers, its superblock apart, is EIO as well.
  return error == ENOMEM || (error == EIO && fs_type != "btrfs") || error == ENXIO || error == EINTR || error == ENOSPC ||
         error == EMFILE || error == ENFILE;
}

Result<void> create_superblock(int context, const MountRequest& request) {
  if (::fsconfig(context, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) == 0) {
    return success();
  }
  const int error = errno;
  const std::string text = with_words(what(request), context, request);
  if (is_nobodys_fault(error, request.fs_type)) {
    return errno_error(error, text);
  }
  Error refusal = errno_error(ErrorCode::failed_precondition, error, text);
  if (error == EBUSY) {
    refusal.message += ". Something else has the device in use, or has it mounted in another way";
  } else if (error == EROFS || error == EACCES) {
    refusal.message += ". The device is read-only";
  } else {
    refusal.message +=
        ". It needs a person: the filesystem is damaged, a copy of one that is mounted already, of a kind that this kernel doesn't know, "
        "or mount_flags don't fit it; dmesg may say more";
  }
  return refusal;
}

/// That the detached mount is the filesystem and the device that were asked for.
Result<void> verify(int mount_fd, const MountRequest& request) {
  if (request.fs_type == "btrfs") {
    const UniqueFd directory{::openat(mount_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (!directory) {
      return errno_error(errno, what(request) + ": opening its root");
    }
    TRYV(verify_btrfs(directory.get(), request.device, request.uuid));
    return success();
  }
  struct stat status{};
  if (::fstat(mount_fd, &status) != 0) {
    return errno_error(errno, what(request) + ": looking at its root");
  }
  if (status.st_dev != request.device.number) {
    return make_error(ErrorCode::failed_precondition, what(request) + " gave a filesystem of device " +
                                                          std::to_string(major(status.st_dev)) + ":" +
                                                          std::to_string(minor(status.st_dev)) + " instead; it was not put anywhere");
  }
  return success();
}

}  // namespace

Result<UniqueFd> make_mount(const MountRequest& request) {
  if (request.options.size() != request.option_places.size()) {
    return make_error(ErrorCode::invalid_argument, what(request) + ": each option needs its place");
  }
  // Closed before the mount, which needs the device for itself. What it proves still holds: the superblock is checked by number below.
  TRYV(open_verified(request.device, O_RDONLY));
  const UniqueFd context{::fsopen(request.fs_type.c_str(), FSOPEN_CLOEXEC)};
  if (!context) {
    const int error = errno;
    return errno_error(error == ENODEV ? ErrorCode::failed_precondition : errno_error(error, "").code, error,
                       what(request) + (error == ENODEV ? ": this kernel doesn't know the filesystem (is its module there?)" : ""));
  }
  if (::fsconfig(context.get(), FSCONFIG_SET_STRING, "source", request.device.path.c_str(), 0) != 0) {
    return errno_error(errno, with_words(what(request), context.get(), request));
  }
  for (std::size_t i = 0; i < request.options.size(); ++i) {
    TRYV(set_option(context.get(), request, i));
  }
  TRYV(create_superblock(context.get(), request));
  UniqueFd mount{::fsmount(context.get(), FSMOUNT_CLOEXEC, static_cast<unsigned>(attribute_bits(request.attributes)))};
  if (!mount) {
    return errno_error(errno, with_words(what(request), context.get(), request));
  }
  acted("FSCONFIG_CMD_CREATE", request.device.path);
  TRYV(verify(mount.get(), request));
  return mount;
}

namespace {

/// What the superblock of an xfs says; 0 where it can't be told. XFS writes it past the device's page cache, which somebody (udev) may have
/// kept since: that is dropped.
std::uint64_t xfs_size_on(const Device& device) {
  const auto fd = open_verified(device, O_RDONLY);
  if (fd) {
    ::posix_fadvise(fd.value().get(), 0, 0, POSIX_FADV_DONTNEED);
  }
  const auto size = fd ? read_filesystem_size(fd.value().get(), "xfs") : fd.error();
  return size ? size.value().size : 0;
}

/// make_mount, and of an xfs that grew just before the power failed as often as it takes. Linux before 6.12 recovers the log of one with
/// the size that the superblock had before: it replays the growth, writes the superblock, and fails at the first block beyond the old end
/// with EUCLEAN; or it comes to an end, and keeps the old length of the last group in memory, until that shuts the filesystem down. So a
/// mount that brought the size forward is made again, with the new size from the start. One that failed and did not has found damage.
Result<UniqueFd> make_mount_of_grown(const MountRequest& request) {
  if (request.fs_type != "xfs") {
    return make_mount(request);
  }
  for (std::uint64_t size = xfs_size_on(request.device);;) {
    auto mount = make_mount(request);
    if (!mount && mount.error().sys_errno != EUCLEAN) {
      return mount;
    }
    const std::uint64_t before = std::exchange(size, xfs_size_on(request.device));
    if (size <= before) {
      return mount;
    }
  }
}

/// A copy of the source's mount that is nowhere yet, proven to be what is expected, with the attributes.
Result<UniqueFd> clone_source(const BindRequest& request) {
  UniqueFd tree{::open_tree(AT_FDCWD, request.source.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT)};
  if (!tree) {
    const int error = errno;
    const bool absent = error == ENOENT || error == ENOTDIR;
    return errno_error(absent ? ErrorCode::failed_precondition : ErrorCode::internal, error, "binding " + request.source);
  }
  TRY(const auto info, path_info_of(tree.get()));
  if (!matches(info, request.expected)) {
    // The clone is a mount's root always, so it is the device that differs: of a plain directory, the one of the file system around it.
    return make_error(ErrorCode::failed_precondition,
                      request.source + " is not what it should be: it is " + describe(info) + ", expected was " +
                          (request.expected.fs_type.empty() ? "the device node " : request.expected.fs_type + " of device ") +
                          std::to_string(major(request.expected.number)) + ":" + std::to_string(minor(request.expected.number)) +
                          ". Nothing was bound");
  }
  mount_attr attributes{};
  attributes.attr_set = attribute_bits(request.attributes);
  attributes.attr_clr =
      (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NODIRATIME | MOUNT_ATTR__ATIME) &
      (~attributes.attr_set | MOUNT_ATTR__ATIME);  // the kinds of atime are one field: set means clear, then set
  if (::mount_setattr(tree.get(), "", AT_EMPTY_PATH, &attributes, sizeof attributes) != 0) {
    return errno_error(errno, "setting the flags of the mount point for " + request.target);
  }
  return tree;
}

}  // namespace

Result<PathInfo> mount_device(const MountRequest& request) {
  TRY(auto target, MountTarget::prepare(request.target, TargetKind::directory));
  TRY(const auto there,
      target.already_mounted({.number = request.device.number, .fs_type = request.fs_type, .uuid = request.uuid}, request.attributes));
  if (there) {
    return *there;
  }
  TRY(const auto mount, make_mount_of_grown(request));
  return target.attach(mount.get());
}

Result<PathInfo> bind_path(const BindRequest& request) {
  TRY(auto target, MountTarget::prepare(request.target, request.kind));
  TRY(const auto there, target.already_mounted(request.expected, request.attributes));
  if (there) {
    return *there;
  }
  TRY(const auto tree, clone_source(request));
  return target.attach(tree.get());
}

}  // namespace ordinald::mount
