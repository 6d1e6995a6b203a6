#include "mount/blank_proof.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <span>

#include "mount/block_device.hpp"
#include "mount/files.hpp"
#include "mount/image_file.hpp"

namespace ordinald::mount {
namespace {

constexpr std::uint64_t mebibyte = 1 << 20;
constexpr std::uint64_t alignment = 4096;  // enough for O_DIRECT on every disk there is

/// A buffer that O_DIRECT accepts.
class AlignedBuffer {
 public:
  AlignedBuffer() : bytes_{static_cast<std::byte*>(std::aligned_alloc(alignment, mebibyte))} {
    if (!bytes_) {
      throw std::bad_alloc{};
    }
  }
  [[nodiscard]] std::span<std::byte> span() { return {bytes_.get(), mebibyte}; }

 private:
  std::unique_ptr<std::byte, decltype([](std::byte* bytes) { std::free(bytes); })> bytes_;
};

std::string at_byte(std::span<const std::byte> bytes, std::uint64_t offset) {
  const auto found = std::ranges::find_if(bytes, [](std::byte byte) { return byte != std::byte{0}; });
  return std::to_string(offset + static_cast<std::uint64_t>(found - bytes.begin()));
}

/// Reads `[begin, end)`. O_DIRECT, which `direct` has on until the file system refuses it: a buffered read of an unwritten extent makes
/// SEEK_DATA call it (and, by read-ahead, its neighbours) data.
Result<std::optional<std::string>> data_in_range(int fd, bool& direct, AlignedBuffer& buffer, std::uint64_t begin, std::uint64_t end,
                                                 const std::string& what) {
  for (std::uint64_t offset = begin; offset < end;) {
    const auto wanted = buffer.span().first(std::min<std::uint64_t>(buffer.span().size(), end - offset));
    auto count = read_at(fd, wanted, offset);
    if (!count && count.error().sys_errno == EINVAL && direct) {
      if (::fcntl(fd, F_SETFL, 0) != 0) {
        return errno_error(errno, "reading " + what + " without direct I/O");
      }
      direct = false;
      continue;
    }
    if (!count) {
      return count.error().with_context("proving " + what + " blank");
    }
    const auto bytes = wanted.first(count.value());
    if (!is_zero(bytes)) {
      return std::optional{what + " holds data (the first at byte " + at_byte(bytes, offset) + ")"};
    }
    if (bytes.size() < wanted.size()) {
      break;  // the end of the file
    }
    offset += bytes.size();
  }
  return std::optional<std::string>{};
}

/// Every byte that the file system doesn't know to be a hole or unwritten.
Result<std::optional<std::string>> data_in_image(int device_fd, const ProbeRequest& request) {
  const std::string what = describe(request.image);
  TRY(auto fd, open_image(request.image, O_RDONLY));
  struct stat status{};
  if (::fstat(fd.get(), &status) != 0) {
    return errno_error(errno, "looking at " + what);
  }
  if (status.st_dev != request.device.backing_device || status.st_ino != request.device.backing_inode) {
    return make_error(ErrorCode::failed_precondition, what + " is not the file behind " + describe(request.device));
  }
  // What is only in the loop's cache is not in the file yet.
  if (::fsync(device_fd) != 0) {
    return errno_error(errno, "writing back what is cached of " + describe(request.device));
  }
  // An unwritten extent that somebody has read is in the page cache, and so called data. Without its pages it is a hole again.
  if (const int error = ::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_DONTNEED); error != 0) {
    return errno_error(error, "dropping the cache of " + what);
  }
  bool direct = ::fcntl(fd.get(), F_SETFL, O_DIRECT) == 0;
  std::optional<AlignedBuffer> buffer;
  const auto size = static_cast<std::uint64_t>(status.st_size);
  for (std::uint64_t offset = 0; offset < size;) {
    const off_t data = ::lseek(fd.get(), static_cast<off_t>(offset), SEEK_DATA);
    if (data < 0) {
      if (errno == ENXIO) {
        break;  // nothing but holes from here
      }
      return errno_error(errno, "looking for data in " + what);
    }
    const off_t hole = ::lseek(fd.get(), data, SEEK_HOLE);
    if (hole < 0) {
      return errno_error(errno, "looking for data in " + what);
    }
    if (!buffer) {
      buffer.emplace();
    }
    const auto begin = static_cast<std::uint64_t>(data) / alignment * alignment;
    const auto end = (static_cast<std::uint64_t>(hole) + alignment - 1) / alignment * alignment;
    TRY(auto found, data_in_range(fd.get(), direct, *buffer, begin, end, what));
    if (found) {
      return found;
    }
    offset = static_cast<std::uint64_t>(hole);
  }
  return std::optional<std::string>{};
}

Result<std::optional<std::string>> data_at_edges(int device_fd, const ProbeRequest& request) {
  const std::string what = describe(request.device);
  __u64 size = 0;
  if (::ioctl(device_fd, BLKGETSIZE64, &size) != 0) {
    return errno_error(errno, "asking for the size of " + what);
  }
  AlignedBuffer buffer;
  bool direct = false;
  const std::uint64_t edge = std::min<std::uint64_t>(size, mebibyte);
  TRY(auto found, data_in_range(device_fd, direct, buffer, 0, edge, what));
  if (!found) {
    TRY(found, data_in_range(device_fd, direct, buffer, size - edge, size, what));
  }
  return found;
}

}  // namespace

Result<std::optional<std::string>> find_data(int device_fd, const ProbeRequest& request) {
  switch (request.proof) {
    case BlankProof::none:
      break;
    case BlankProof::all_zero:
      return data_in_image(device_fd, request);
    case BlankProof::edges_zero:
      return data_at_edges(device_fd, request);
  }
  return std::optional<std::string>{};
}

}  // namespace ordinald::mount
