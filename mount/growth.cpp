#include "mount/growth.hpp"

#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "mount/block_device.hpp"
#include "mount/btrfs.hpp"
#include "mount/btrfs_info.hpp"
#include "mount/crash_point.hpp"
#include "mount/path_info.hpp"
#include "mount/superblock.hpp"

namespace ordinald::mount {
namespace {

// The kernel's interface, which Debian ships only with the filesystems' own development packages (fs/ext4/ext4.h, fs/xfs/libxfs/xfs_fs.h).
struct XfsGeometry {  // xfs_fsop_geom_v1
  __u32 blocksize, rtextsize, agblocks, agcount, logblocks, sectsize, inodesize, imaxpct;
  __u64 datablocks, rtblocks, rtextents, logstart;
  unsigned char uuid[16];
  __u32 sunit, swidth;
  __s32 version;
  __u32 flags, logsectsize, rtsectsize, dirblocksize;
};
struct XfsGrowth {  // xfs_growfs_data
  __u64 newblocks;
  __u32 imaxpct;
};
constexpr unsigned long ext4_resize = _IOW('f', 16, __u64);
constexpr unsigned long xfs_geometry = _IOR('X', 100, XfsGeometry);
constexpr unsigned long xfs_grow = _IOW('X', 110, XfsGrowth);

std::string what(const GrowRequest& request, std::uint64_t size) {
  return "growing the " + request.fs_type + " at " + request.path + " on " + describe(request.device) + " to " + std::to_string(size) +
         " bytes";
}

Result<std::uint64_t> grow_ext4(int directory, int device_fd, const GrowRequest& request, std::uint64_t device_size) {
  // The kernel asks for the capability before it looks whether there is anything to do, so that is looked at here. The superblock that
  // is read through the device is the mounted one: both are the device's page cache.
  TRY(const auto before, read_filesystem_size(device_fd, request.fs_type));
  if (before.on_device(device_size) >= device_size) {
    return device_size;
  }
  std::uint32_t block_size = 0;
  if (::ioctl(directory, FIGETBSZ, &block_size) != 0 || block_size == 0) {
    return errno_error(errno, what(request, device_size));
  }
  __u64 blocks = device_size / block_size;
  if (::ioctl(directory, ext4_resize, &blocks) != 0) {
    const int error = errno;
    if (error == EPERM) {
      return errno_error(ErrorCode::failed_precondition, error,
                         what(request, device_size) +
                             " needs CAP_SYS_RESOURCE and a filesystem without errors while it is mounted (see dmesg); otherwise it grows "
                             "at its next stage, "
                             "which checks it: unpublish and unstage it, and stage it again");
    }
    if (error == EOPNOTSUPP || error == EINVAL || error == ENOTTY) {
      return errno_error(ErrorCode::failed_precondition, error, what(request, device_size) + " (this ext4 can't grow while mounted)");
    }
    return errno_error(error, what(request, device_size));
  }
  acted("EXT4_IOC_RESIZE_FS", request.path);
  TRY(const auto after, read_filesystem_size(device_fd, request.fs_type));
  return after.on_device(device_size);
}

Result<FilesystemSize> ask_xfs(int directory, const GrowRequest& request, XfsGeometry& geometry) {
  // The kernel is asked: the superblock on the device keeps the old numbers until the log is written back.
  if (::ioctl(directory, xfs_geometry, &geometry) != 0) {
    return errno_error(errno, "asking for the geometry of the xfs at " + request.path);
  }
  return xfs_size(geometry.blocksize, geometry.datablocks, geometry.agblocks);
}

/// Brings the mounted superblock to the device. A new size is in the log alone at first, for half a minute, and a further growth logs it
/// anew and leaves behind what it was. Linux before 6.12 recovers a log with the size that it finds on the device, and stops with EUCLEAN
/// at what lies beyond it: at every try where the log no longer begins with that growth. To set a label writes the superblock at once
/// (ioctl_fslabel(2)): here it is the label that is there.
Result<void> write_xfs_superblock(int directory, int device_fd, const GrowRequest& request, const FilesystemSize& mounted) {
  TRY(const auto written, read_filesystem_size(device_fd, request.fs_type));
  if (written.size == mounted.size) {
    return success();
  }
  std::array<char, FSLABEL_MAX> label{};
  if (::ioctl(directory, FS_IOC_GETFSLABEL, label.data()) != 0 || ::ioctl(directory, FS_IOC_SETFSLABEL, label.data()) != 0 ||
      ::fsync(device_fd) != 0) {
    return errno_error(errno, "writing the superblock of the xfs at " + request.path + " to " + describe(request.device));
  }
  acted("FS_IOC_SETFSLABEL", request.path);
  return success();
}

Result<std::uint64_t> grow_xfs(int directory, int device_fd, const GrowRequest& request, std::uint64_t device_size) {
  XfsGeometry geometry{};
  TRY(const auto before, ask_xfs(directory, request, geometry));
  TRYV(write_xfs_superblock(directory, device_fd, request, before));  // of a growth that was cut off, or somebody else's
  if (before.on_device(device_size) >= device_size) {
    return device_size;
  }
  const XfsGrowth growth{.newblocks = device_size / geometry.blocksize, .imaxpct = geometry.imaxpct};
  if (::ioctl(directory, xfs_grow, &growth) != 0) {
    const int error = errno;
    if (error == EWOULDBLOCK) {
      return errno_error(ErrorCode::unavailable, error, what(request, device_size) + " (it is being grown just now)");
    }
    return errno_error(error, what(request, device_size));
  }
  acted("XFS_IOC_FSGROWFSDATA", request.path);
  TRY(const auto after, ask_xfs(directory, request, geometry));
  TRYV(write_xfs_superblock(directory, device_fd, request, after));
  return after.on_device(device_size);
}

Result<std::uint64_t> grow_btrfs(int directory, const GrowRequest& request, std::uint64_t device_size) {
  TRY(const auto before, verify_btrfs(directory, request.device, {}));
  const FilesystemSize size{.size = before.size, .unusable_tail = before.sector_size - 1};
  if (size.on_device(device_size) >= device_size) {
    return device_size;
  }
  if (device_size < btrfs_filesystem()->minimum_growth()) {
    return before.size;
  }
  btrfs_ioctl_vol_args arguments{};
  const std::string order = std::to_string(before.device_id) + ":max";
  std::memcpy(arguments.name, order.c_str(), order.size() + 1);
  const int result = ::ioctl(directory, BTRFS_IOC_RESIZE, &arguments);
  if (result > 0) {  // btrfs answers a number of its own for "something exclusive is running"
    return make_error(ErrorCode::unavailable, what(request, device_size) + ": a balance, replace or resize is running on it");
  }
  if (result < 0) {
    return errno_error(errno, what(request, device_size));
  }
  acted("BTRFS_IOC_RESIZE", request.path);
  TRY(const auto after, verify_btrfs(directory, request.device, {}));
  return FilesystemSize{.size = after.size, .unusable_tail = size.unusable_tail}.on_device(device_size);
}

Result<std::uint64_t> grow_by_type(const GrowRequest& request) {
  TRY(const auto device_fd, open_verified(request.device, O_RDONLY));
  TRY(const auto device, describe_open_device(device_fd.get(), request.device.path));
  if (request.fs_type == "btrfs") {
    const UniqueFd directory{::open(request.path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)};
    if (!directory) {
      return errno_error(ErrorCode::failed_precondition, errno, "opening " + request.path);
    }
    return grow_btrfs(directory.get(), request, device.size);
  }
  TRY(const auto directory, open_mounted_directory(request.path, {.number = device.number, .fs_type = request.fs_type, .uuid = {}}));
  if (request.fs_type == "ext4") {
    return grow_ext4(directory.get(), device_fd.get(), request, device.size);
  }
  if (request.fs_type == "xfs") {
    return grow_xfs(directory.get(), device_fd.get(), request, device.size);
  }
  return make_error(ErrorCode::invalid_argument, "no way to grow a filesystem of type " + request.fs_type);
}

}  // namespace

Result<std::uint64_t> grow_mounted(const GrowRequest& request) {
  auto grown = grow_by_type(request);
  if (!grown && grown.error().sys_errno == EROFS) {
    Error error = grown.error();
    error.code = ErrorCode::failed_precondition;
    return error;
  }
  return grown;
}

}  // namespace ordinald::mount
