/// Any bytes as the superblock of an ext4, xfs or btrfs, as an e2fsprogs undo file, and as a device's beginning that libblkid looks at:
/// read without an error, sizes without an overflow, and a damaged superblock known as one. The first byte says as what.
#include <endian.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string>

#include "mount/files.hpp"
#include "mount/probe.hpp"
#include "mount/superblock.hpp"
#include "tests/fuzz/must.hpp"

namespace {

using namespace ordinald::mount;
using ordinald::fuzz::must;

constexpr std::size_t superblock_bytes = 1024;

/// A file in memory that holds just these bytes from `offset` on.
class File {
 public:
  void fill(std::span<const std::uint8_t> bytes, std::uint64_t offset, std::uint64_t size) const {
    must(::ftruncate(fd_, 0) == 0 && ::ftruncate(fd_, static_cast<off_t>(size)) == 0);
    must(::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset)) == static_cast<ssize_t>(bytes.size()));
  }
  [[nodiscard]] int fd() const { return fd_; }

 private:
  int fd_ = ::memfd_create("superblocks", MFD_CLOEXEC);
};

const File& file() {
  static const File one;
  return one;
}

/// Whole, and zeros where the input is short.
std::array<std::uint8_t, superblock_bytes> whole(std::span<const std::uint8_t> bytes) {
  std::array<std::uint8_t, superblock_bytes> super{};
  std::ranges::copy(bytes.first(std::min(bytes.size(), super.size())), super.begin());
  return super;
}

std::uint32_t le32_at(std::span<const std::uint8_t> bytes, std::size_t at) {
  std::uint32_t value = 0;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return le32toh(value);
}

void check_ext4_past(const Ext4Past& past, std::span<std::uint8_t> super) {
  const bool ext = super[0x38] == 0x53 && super[0x39] == 0xEF;
  must(past.mounted.size() == (ext ? 41U : 0U) && past.checked.size() == (ext ? 13U : 0U));
  must(ext || (!past.torn && !past.unclean));
  const bool has_checksum = (le32_at(super, 0x64) & 0x400U) != 0;
  must(has_checksum || !past.torn);
  if (!ext || !has_checksum || past.torn) return;
  super[0x300] ^= 1;  // whatever is there: it no longer has its checksum
  file().fill(super, 1024, 1024 + superblock_bytes);
  const auto changed = read_ext4_past(file().fd());
  must(changed && changed.value().torn);
}

void check_superblock(const char* type, std::uint64_t offset, std::span<const std::uint8_t> bytes) {
  auto super = whole(bytes);
  file().fill(super, offset, offset + superblock_bytes);
  const auto size = read_filesystem_size(file().fd(), type);
  const auto smallest = read_smallest_block(file().fd(), type);
  const auto outside = has_outside_journal(file().fd(), type);
  const auto past = read_ext4_past(file().fd());
  must(size && smallest && outside && past);
  if (size.value().size == 0) {
    must(smallest.value() == 0 && !outside.value());
  } else if (std::strcmp(type, "ext4") == 0) {
    const std::uint64_t block = smallest.value();
    must(block >= 1024 && block <= 65536 && (block & (block - 1)) == 0);
    must(size.value().size / block >= le32_at(super, 4) || size.value().size == UINT64_MAX);
    must(size.value().unusable_tail <= (std::uint64_t{le32_at(super, 0x20)} + 1) * block);
  } else if (std::strcmp(type, "xfs") == 0) {
    std::uint64_t blocks = 0;
    std::memcpy(&blocks, super.data() + 8, sizeof blocks);
    must(size.value().size >= be64toh(blocks));
  }
  for (const std::uint64_t device : {std::uint64_t{0}, size.value().size - 1, size.value().size, size.value().size + 1, UINT64_MAX}) {
    const std::uint64_t used = size.value().on_device(device);
    must(used == size.value().size || (used == device && device > size.value().size));
  }
  if (offset == 1024) {
    check_ext4_past(past.value(), super);
  }
  // Of any other name nothing is read, and of one that is cut short neither.
  must(read_filesystem_size(file().fd(), "swap").value().size == 0);
  must(::ftruncate(file().fd(), static_cast<off_t>(offset + superblock_bytes - 1)) == 0);
  must(read_filesystem_size(file().fd(), type).value().size == 0);
}

void check_undo(std::span<const std::uint8_t> bytes) {
  file().fill(bytes, 0, bytes.size());
  const auto kept = read_ext4_past_of_undo(file().fd());
  must(kept.has_value());  // damaged is not unreadable: the volume would never be staged again
  must(kept.value().mounted.empty() || kept.value().mounted.size() == 41);
}

/// A superblock that a tool has kept is found again, whatever else is in it.
void check_kept(std::span<const std::uint8_t> bytes) {
  auto super = whole(bytes);
  super[0x38] = 0x53;
  super[0x39] = 0xEF;
  file().fill(super, 1024, 1024 + superblock_bytes);
  const auto past = read_ext4_past(file().fd());
  super[0x38] = 0xAC;
  super[0x39] = 0x10;
  const std::uint8_t block = bytes.empty() ? 1 : std::max<std::uint8_t>(bytes[0], 1);
  std::string undo(std::size_t{block} * 1024, '\0');
  undo.replace(0, 8, "E2UNDO02");
  undo[16] = static_cast<char>(block);
  undo[33] = 4;  // blocks of 1024 bytes
  undo.append(reinterpret_cast<const char*>(super.data()), super.size());
  file().fill({reinterpret_cast<const std::uint8_t*>(undo.data()), undo.size()}, 0, undo.size());
  const auto kept = read_ext4_past_of_undo(file().fd());
  must(past && kept && !kept.value().mounted.empty());
  must(kept.value().mounted == past.value().mounted && kept.value().checked == past.value().checked);
}

void check_signatures(std::span<const std::uint8_t> bytes) {
  constexpr std::uint64_t size = 1 << 20;
  const auto some = bytes.first(std::min<std::size_t>(bytes.size(), size));
  file().fill(some, 0, size);
  const auto found = find_signatures(file().fd(), size, "the fuzzer's file");
  if (!found) {
    must(!found.error().message.empty());
    return;
  }
  const bool zeros = std::ranges::all_of(some, [](std::uint8_t byte) { return byte == 0; });
  must(is_zero(std::as_bytes(some)) == zeros);
  must(!zeros || found.value().empty());
  for (const Signature& signature : found.value()) {
    must(!signature.usage.empty() && !signature.type.empty());
    must(read_filesystem_size(file().fd(), signature.type).has_value());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::span<const std::uint8_t> bytes{data + 1, size - 1};
  switch (data[0] % 6) {
    case 0:
      check_superblock("ext4", 1024, bytes);
      break;
    case 1:
      check_superblock("xfs", 0, bytes);
      break;
    case 2:
      check_superblock("btrfs", 65536, bytes);
      break;
    case 3:
      check_undo(bytes);
      break;
    case 4:
      check_kept(bytes);
      break;
    default:
      check_signatures(bytes);
  }
  return 0;
}
