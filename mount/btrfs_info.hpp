#pragma once

#include <cstdint>
#include <string>

#include "mount/kernel.hpp"

/// What a mounted btrfs says of itself (linux/btrfs.h, ioctls on any directory of it). Its st_dev is anonymous, so its own words have to
/// tell which filesystem and which device it is. Stateless; any thread.
namespace ordinald::mount {

struct BtrfsInfo {
  std::string uuid;
  std::uint64_t devices = 0;
  std::uint64_t sector_size = 0;  ///< the filesystem's size is a multiple of it
  // Of the one device, where there is one:
  std::uint64_t device_id = 0;
  std::uint64_t device_number = 0;  ///< st_rdev of the node that the kernel names; 0 where there is no such node any more
  std::uint64_t size = 0;           ///< how much of the device the filesystem uses, in bytes
};

/// BTRFS_IOC_FS_INFO alone: the UUID.
Result<std::string> read_btrfs_uuid(int directory_fd);

Result<BtrfsInfo> read_btrfs_info(int directory_fd);

/// failed_precondition unless it is this UUID (where given) and lives on this device alone.
Result<BtrfsInfo> verify_btrfs(int directory_fd, const Device& device, const std::string& uuid);

}  // namespace ordinald::mount
