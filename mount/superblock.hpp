#pragma once

#include <cstdint>
#include <string_view>

#include "mount/result.hpp"

/// What the superblocks of ext4, xfs and btrfs say about the filesystem's size. Stateless; any thread. Bytes.
/// Layouts: linux Documentation/filesystems/ext4/super.rst, xfs_format.h, uapi/linux/btrfs_tree.h.
namespace ordinald::mount {

struct FilesystemSize {
  std::uint64_t size = 0;
  /// A device longer than `size` by no more than this has no room that the filesystem could use: a last block group (ext4), allocation
  /// group (xfs) or block that would not even hold its own tables.
  std::uint64_t unusable_tail = 0;

  /// `size`, or the device's where only an unusable tail is missing: what to compare with the device when asking whether to grow.
  [[nodiscard]] std::uint64_t on_device(std::uint64_t device_size) const {
    return device_size > size && device_size - size <= unusable_tail ? device_size : size;
  }
};

/// Of an xfs with this geometry, in blocks.
FilesystemSize xfs_size(std::uint64_t block_size, std::uint64_t blocks, std::uint64_t group_blocks);

/// Read from an open device. size 0 where `type` (libblkid's name) is none of the three, or its magic number isn't there.
Result<FilesystemSize> read_filesystem_size(int device_fd, std::string_view type);

}  // namespace ordinald::mount
