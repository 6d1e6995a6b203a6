#include "mount/superblock.hpp"

#include <endian.h>
#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <limits>
#include <span>

#include "mount/files.hpp"
#include "mount/unique_fd.hpp"

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
constexpr std::uint16_t ext_magic = 0xEF53;

/// Of a damaged superblock the product may be more than there is: then the most, never a little.
std::uint64_t bytes_of(std::uint64_t blocks, std::uint64_t block_size) {
  std::uint64_t bytes = 0;
  return __builtin_mul_overflow(blocks, block_size, &bytes) ? std::numeric_limits<std::uint64_t>::max() : bytes;
}

FilesystemSize ext_size(Bytes super) {
  if (le16(super, 0x38) != ext_magic || le32(super, 0x18) > 6) {
    return {};
  }
  const std::uint64_t block = 1024ULL << le32(super, 0x18);
  std::uint64_t blocks = le32(super, 0x04);
  constexpr std::uint32_t incompat_64bit = 0x80;
  const bool wide = (le32(super, 0x60) & incompat_64bit) != 0;
  if (wide) {
    blocks |= std::uint64_t{le32(super, 0x150)} << 32;
  }
  FilesystemSize result{.size = bytes_of(blocks, block), .unusable_tail = block - 1};
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
    const std::uint64_t tables = 1 + descriptors + reserved + 2 + inode_table + 50;
    result.unusable_tail += std::min(tables, per_group) * block;  // tables of more than a group: damaged
  }
  return result;
}

/// CRC-32C as ext4 has it: not inverted at the end.
std::uint32_t crc32c(Bytes bytes) {
  std::uint32_t crc = ~0U;
  for (const std::byte byte : bytes) {
    crc ^= static_cast<std::uint32_t>(byte);
    for (int bit = 0; bit < 8; ++bit) {
      crc = (crc >> 1U) ^ ((crc & 1U) != 0 ? 0x82F63B78U : 0U);
    }
  }
  return crc;
}

Ext4Past ext4_past(Bytes super) {
  const auto hex = [&](std::size_t offset, std::size_t size) {
    std::string text;
    for (const std::byte byte : super.subspan(offset, size)) {
      constexpr std::string_view digits = "0123456789abcdef";
      text += digits[static_cast<unsigned>(byte) >> 4U];
      text += digits[static_cast<unsigned>(byte) & 15U];
    }
    return text;
  };
  constexpr std::uint32_t needs_recovery = 0x4;
  constexpr std::uint32_t has_checksum = 0x400;
  constexpr std::size_t checksum_at = superblock_bytes - 4;
  constexpr unsigned valid = 1;
  constexpr unsigned has_errors = 2;
  const std::uint16_t state = le16(super, 0x3A);
  const auto most_mounts = static_cast<std::int16_t>(le16(super, 0x36));
  const std::uint32_t interval = le32(super, 0x44);
  const bool due = (most_mounts > 0 && le16(super, 0x34) >= most_mounts) ||
                   (interval != 0 && std::time(nullptr) >= static_cast<std::time_t>(std::uint64_t{le32(super, 0x40)} + interval));
  return {.mounted = hex(0x68, 16) + "." + hex(0x2C, 4),
          .checked = hex(0x34, 2) + "." + hex(0x40, 4),
          .unclean = (state & (valid | has_errors)) != valid || (le32(super, 0x60) & needs_recovery) != 0 || le32(super, 0xE8) != 0 || due,
          .torn = (le32(super, 0x64) & has_checksum) != 0 && crc32c(super.first(checksum_at)) != le32(super, checksum_at)};
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
  FilesystemSize result{.size = bytes_of(blocks, block_size), .unusable_tail = block_size == 0 ? 0 : block_size - 1};
  if (group_blocks != 0 && blocks % group_blocks == 0) {
    result.unusable_tail += 64 * block_size;  // XFS_MIN_AG_BLOCKS: a shorter last group is left out
  }
  return result;
}

namespace {

enum class Kind : std::uint8_t { none, ext, xfs, btrfs };

struct Superblock {
  Kind kind = Kind::none;  ///< none also where it is cut short
  std::array<std::byte, superblock_bytes> bytes{};
};

Result<Superblock> read_superblock(int device_fd, std::string_view type) {
  Superblock super;
  const bool ext = type == "ext4" || type == "ext3" || type == "ext2";
  const Kind kind = ext ? Kind::ext : type == "xfs" ? Kind::xfs : type == "btrfs" ? Kind::btrfs : Kind::none;
  if (kind == Kind::none) {
    return super;
  }
  TRY(const auto count, read_at(device_fd, super.bytes, kind == Kind::ext ? 1024 : kind == Kind::btrfs ? 65536 : 0));
  super.kind = count < super.bytes.size() ? Kind::none : kind;
  return super;
}

}  // namespace

Result<FilesystemSize> read_filesystem_size(int device_fd, std::string_view type) {
  TRY(const Superblock super, read_superblock(device_fd, type));
  switch (super.kind) {
    case Kind::ext:
      return ext_size(super.bytes);
    case Kind::xfs:
      return xfs_size(super.bytes);
    case Kind::btrfs:
      return btrfs_size(super.bytes);
    case Kind::none:
      break;
  }
  return FilesystemSize{};
}

Result<std::uint32_t> read_smallest_block(int device_fd, std::string_view type) {
  TRY(const Superblock super, read_superblock(device_fd, type));
  switch (super.kind) {
    case Kind::ext:
      return ext_size(super.bytes).size == 0 ? 0 : 1024U << le32(super.bytes, 0x18);
    case Kind::xfs: {
      constexpr std::size_t sector_size = 102;
      return xfs_size(super.bytes).size == 0 ? 0 : std::uint32_t{be16toh(load<std::uint16_t>(super.bytes, sector_size))};
    }
    case Kind::btrfs:
      return btrfs_size(super.bytes).size == 0 ? 0 : le32(super.bytes, 0x90);
    case Kind::none:
      break;
  }
  return 0;
}

Result<bool> has_outside_journal(int device_fd, std::string_view type) {
  TRY(const Superblock super, read_superblock(device_fd, type));
  if (super.kind == Kind::ext && ext_size(super.bytes).size != 0) {
    constexpr std::uint32_t has_journal = 0x4;  // s_feature_compat; an own journal is an inode, s_journal_inum
    return (le32(super.bytes, 0x5C) & has_journal) != 0 && le32(super.bytes, 0xE0) == 0;
  }
  constexpr std::size_t log_start = 48;  // sb_logstart, 0: not within
  return super.kind == Kind::xfs && xfs_size(super.bytes).size != 0 && be64(super.bytes, log_start) == 0;
}

Result<Ext4Past> read_ext4_past(int device_fd) {
  std::array<std::byte, superblock_bytes> super{};
  TRY(const auto count, read_at(device_fd, super, 1024));
  return count == super.size() && le16(super, 0x38) == ext_magic ? ext4_past(super) : Ext4Past{};
}

Result<Ext4Past> read_ext4_past_of_undo(const std::string& path) {
  const UniqueFd file{::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC)};
  if (!file) {
    return errno_error(errno, "opening " + path);
  }
  return read_ext4_past_of_undo(file.get());
}

Result<Ext4Past> read_ext4_past_of_undo(int undo_fd) {
  // Its header says in which of its blocks the superblock is, whose magic number is inverted there (e2fsprogs, lib/ext2fs/undo_io.c).
  std::array<std::byte, 512> header{};
  TRY(const auto header_size, read_at(undo_fd, header, 0));
  if (header_size < header.size() || std::memcmp(header.data(), "E2UNDO02", 8) != 0) {
    return Ext4Past{};
  }
  const std::uint64_t offset = bytes_of(le64(header, 16), le32(header, 32));
  if (offset > static_cast<std::uint64_t>(std::numeric_limits<off_t>::max()) - superblock_bytes) {
    return Ext4Past{};  // pread(2) would refuse it, and a damaged file would be an error at each stage
  }
  std::array<std::byte, superblock_bytes> super{};
  TRY(const auto count, read_at(undo_fd, super, offset));
  return count == super.size() && le16(super, 0x38) == static_cast<std::uint16_t>(~ext_magic) ? ext4_past(super) : Ext4Past{};
}

}  // namespace ordinald::mount
