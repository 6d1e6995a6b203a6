#include "mount/btrfs_info.hpp"

#include <linux/btrfs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdio>

#include "mount/block_device.hpp"

namespace ordinald::mount {
namespace {

std::string uuid_text(const __u8 (&bytes)[BTRFS_FSID_SIZE]) {
  std::string text;
  for (int i = 0; i < BTRFS_FSID_SIZE; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) {
      text += '-';
    }
    constexpr const char* digits = "0123456789abcdef";
    text += digits[bytes[i] >> 4];
    text += digits[bytes[i] & 15];
  }
  return text;
}

Result<btrfs_ioctl_fs_info_args> ask(int directory_fd) {
  btrfs_ioctl_fs_info_args info{};
  if (::ioctl(directory_fd, BTRFS_IOC_FS_INFO, &info) != 0) {
    const int error = errno;
    if (error == ENOTTY) {  // its mount is gone, and this is what lies below
      return errno_error(ErrorCode::failed_precondition, error, "asking a btrfs for its UUID");
    }
    return errno_error(error, "asking a btrfs for its UUID");
  }
  return info;
}

}  // namespace

Result<std::string> read_btrfs_uuid(int directory_fd) {
  TRY(const auto info, ask(directory_fd));
  return uuid_text(info.fsid);
}

Result<BtrfsInfo> read_btrfs_info(int directory_fd) {
  TRY(const auto info, ask(directory_fd));
  BtrfsInfo result{.uuid = uuid_text(info.fsid), .devices = info.num_devices, .sector_size = info.sectorsize};
  if (info.num_devices != 1) {
    return result;
  }
  btrfs_ioctl_dev_info_args device{};
  device.devid = info.max_id;
  if (::ioctl(directory_fd, BTRFS_IOC_DEV_INFO, &device) != 0) {
    return errno_error(errno, "asking the btrfs " + result.uuid + " for its device");
  }
  result.device_id = device.devid;
  result.size = device.total_bytes;
  struct stat status{};
  if (::stat(reinterpret_cast<const char*>(device.path), &status) == 0 && S_ISBLK(status.st_mode)) {
    result.device_number = status.st_rdev;
  }
  return result;
}

Result<BtrfsInfo> verify_btrfs(int directory_fd, const Device& device, const std::string& uuid) {
  TRY(auto info, read_btrfs_info(directory_fd));
  if (!uuid.empty() && info.uuid != uuid) {
    return make_error(ErrorCode::failed_precondition,
                      "the btrfs on " + describe(device) + " has the UUID " + info.uuid + ", not " + uuid +
                          ". Where a copy of it is mounted already, the kernel gives the second one a UUID of its own");
  }
  if (info.devices != 1 || info.device_number != device.number) {
    return make_error(ErrorCode::failed_precondition, "the btrfs " + info.uuid + " does not live on " + describe(device) +
                                                          " alone: it has " + std::to_string(info.devices) +
                                                          " device(s); a copy of it may be mounted from another one");
  }
  return info;
}

}  // namespace ordinald::mount
