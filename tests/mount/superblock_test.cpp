/// What damaged superblocks and undo files say, found by fuzz_superblocks.
#include "mount/superblock.hpp"

#include <endian.h>
#include <sys/mman.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <string>

#include "mount/unique_fd.hpp"

using namespace ordinald::mount;

namespace {

UniqueFd file_of(const std::string& bytes) {
  UniqueFd fd{::memfd_create("superblock", MFD_CLOEXEC)};
  REQUIRE(::pwrite(fd.get(), bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
  return fd;
}

template <class T>
void put(std::string& bytes, std::size_t at, T value) {
  std::memcpy(bytes.data() + at, &value, sizeof value);
}

/// Of 4096 blocks of 4 KiB, one whole group.
std::string ext4_device() {
  std::string bytes(2048, '\0');
  put(bytes, 1024 + 0x38, htole16(0xEF53));
  put(bytes, 1024 + 0x18, htole32(2));
  put(bytes, 1024 + 0x04, htole32(4096));
  put(bytes, 1024 + 0x20, htole32(4096));
  return bytes;
}

}  // namespace

TEST_CASE("a damaged superblock's size is the most there is, never a little") {
  std::string ext4 = ext4_device();
  put(ext4, 1024 + 0x60, htole32(0x80));         // 64bit
  put(ext4, 1024 + 0x150, htole32(0x80000000));  // 2^63 blocks of 4 KiB
  CHECK(read_filesystem_size(file_of(ext4).get(), "ext4").value().size == UINT64_MAX);
  CHECK(xfs_size(4096, std::uint64_t{1} << 60U, 0).size == UINT64_MAX);
  CHECK(xfs_size(4096, std::uint64_t{1} << 30U, 0).size == std::uint64_t{1} << 42U);
}

TEST_CASE("a damaged ext4's tables are no reason to leave much of a device unused") {
  std::string ext4 = ext4_device();
  put(ext4, 1024 + 0x28, htole32(UINT32_MAX));  // inodes in each group
  const FilesystemSize size = read_filesystem_size(file_of(ext4).get(), "ext4").value();
  CHECK(size.size == 4096 * 4096);
  CHECK(size.on_device(size.size + 3 * size.size) == size.size);
}

TEST_CASE("an undo file whose superblock would be nowhere has kept nothing") {
  std::string undo(512, '\0');
  undo.replace(0, 8, "E2UNDO02");
  put(undo, 16, htole64(UINT64_MAX));
  put(undo, 32, htole32(1024));
  const auto kept = read_ext4_past_of_undo(file_of(undo).get());
  REQUIRE(kept);
  CHECK(kept.value().mounted.empty());
  put(undo, 16, htole64(INT64_MAX));
  put(undo, 32, htole32(1));
  CHECK(read_ext4_past_of_undo(file_of(undo).get()).value().mounted.empty());
}
