#pragma once

#include <cstdint>
#include <string_view>

#include "mount/result.hpp"
#include "mount/types.hpp"

/// What the superblocks of ext4, xfs and btrfs say about the filesystem's size, and an ext4's about its past. Stateless; any thread. Bytes.
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

/// The smallest block that the filesystem reads or writes, and so the largest that its device may have. 0 as read_filesystem_size.
Result<std::uint32_t> read_smallest_block(int device_fd, std::string_view type);

/// Whether the journal of an ext4 or xfs is on another device. False where there is none of these.
Result<bool> has_outside_journal(int device_fd, std::string_view type);

/// Read from an open device. size 0 where `type` (libblkid's name) is none of the three, or its magic number isn't there.
Result<FilesystemSize> read_filesystem_size(int device_fd, std::string_view type);

/// Read from an open device. Nothing in it where there is no ext4.
Result<Ext4Past> read_ext4_past(int device_fd);
/// Of the superblock that the undo file of an e2fsprogs tool (mke2fs(8), -z) belongs to: as it was at the last block that the file has
/// kept. Nothing in it where the tool had kept nothing yet, or the file is damaged.
Result<Ext4Past> read_ext4_past_of_undo(const std::string& path);
Result<Ext4Past> read_ext4_past_of_undo(int undo_fd);

}  // namespace ordinald::mount
