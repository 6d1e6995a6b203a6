#include "mount/superblock.hpp"

#include <endian.h>

#include <array>
#include <cstring>
#include <span>

#include "mount/files.hpp"

namespace ordinald::mount {
namespace {

using Bytes = std::span<const std::byte>;

template <class T>
T load(Bytes bytes, std::size_t offset) {
  T value{};
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

std::uint16_t le16(Bytes bytes, std::size_t offset) { return le16toh(load<std::uint16_t>(bytes, offset)); }
std::uint32_t le32(Bytes bytes, std::size_t offset) { return le32toh(load<std::uint32_t>(bytes, offset)); }
std::uint64_t le64(Bytes bytes, std::size_t offset) { return le64toh(load<std::uint64_t>(bytes, offset)); }
std::uint32_t be32(Bytes bytes, std::size_t offset) { return be32toh(load<std::uint32_t>(bytes, offset)); }
std::uint64_t be64(Bytes bytes, std::size_t offset) { return be64toh(load<std::uint64_t>(bytes, offset)); }

constexpr std::size_t superblock_bytes = 1024;

FilesystemSize ext_size(Bytes super) {
  if (le16(super, 0x38) != 0xEF53 || le32(super, 0x18) > 6) {
    return {};
  }
  const std::uint64_t block = 1024ULL << le32(super, 0x18);
  std::uint64_t blocks = le32(super, 0x04);
  constexpr std::uint32_t incompat_64bit = 0x80;
  const bool wide = (le32(super, 0x60) & incompat_64bit) != 0;
  if (wide) {
    blocks |= std::uint64_t{le32(super, 0x150)} << 32;
  }
  FilesystemSize result{.size = blocks * block, .unusable_tail = block - 1};
  const std::uint64_t per_group = le32(super, 0x20);
  const std::uint64_t first = le32(super, 0x14);
  if (per_group != 0 && blocks > first && (blocks - first) % per_group == 0) {
    // It ends with a whole group; a further one has to hold its two bitmaps, its inode table and a copy of the descriptors (both the
    // kernel and mke2fs leave out a group that is smaller than that; mke2fs asks for 50 blocks more).
    const std::uint64_t inode_size = le16(super, 0x58) != 0 ? le16(super, 0x58) : 128;
    const std::uint64_t inode_table = (le32(super, 0x28) * inode_size + block - 1) / block;
    const std::uint64_t descriptor = wide && le16(super, 0xFE) != 0 ? le16(super, 0xFE) : 32;
    const std::uint64_t descriptors = ((blocks - first) / per_group + 1) * descriptor / block + 1;
    const std::uint64_t reserved = le16(super, 0xCE);
    result.unusable_tail += (1 + descriptors + reserved + 2 + inode_table + 50) * block;
  }
  return result;
}

FilesystemSize xfs_size(Bytes super) {
  constexpr std::uint32_t magic = 0x58465342;  // "XFSB"
  return be32(super, 0) != magic ? FilesystemSize{} : ordinald::mount::xfs_size(be32(super, 4), be64(super, 8), be32(super, 84));
}

FilesystemSize btrfs_size(Bytes super) {
  if (std::memcmp(super.data() + 0x40, "_BHRfS_M", 8) != 0) {
    return {};
  }
  const std::uint64_t sector = le32(super, 0x90);
  constexpr std::size_t device_item = 0xC9;
  return {.size = le64(super, device_item + 8), .unusable_tail = sector == 0 ? 0 : sector - 1};
}

}  // namespace

FilesystemSize xfs_size(std::uint64_t block_size, std::uint64_t blocks, std::uint64_t group_blocks) {
  FilesystemSize result{.size = block_size * blocks, .unusable_tail = block_size == 0 ? 0 : block_size - 1};
  if (group_blocks != 0 && blocks % group_blocks == 0) {
    result.unusable_tail += 64 * block_size;  // XFS_MIN_AG_BLOCKS: a shorter last group is left out
  }
  return result;
}

Result<FilesystemSize> read_filesystem_size(int device_fd, std::string_view type) {
  const bool ext = type == "ext4" || type == "ext3" || type == "ext2";
  if (!ext && type != "xfs" && type != "btrfs") {
    return FilesystemSize{};
  }
  std::array<std::byte, superblock_bytes> super{};
  const std::uint64_t offset = ext ? 1024 : type == "btrfs" ? 65536 : 0;
  TRY(const auto count, read_at(device_fd, super, offset));
  if (count < super.size()) {
    return FilesystemSize{};
  }
  return ext ? ext_size(super) : type == "xfs" ? xfs_size(super) : btrfs_size(super);
}

}  // namespace ordinald::mount
