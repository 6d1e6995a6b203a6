#include "agent/ctl/device_copy.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include "agent/ctl/signal_watch.hpp"
#include "mount/files.hpp"

namespace ordinald::ctl {
namespace {

using mount::errno_error;
using mount::UniqueFd;
using Bytes = std::span<std::byte>;

constexpr std::size_t piece = std::size_t{4} << 20U;           // read at once
constexpr std::size_t smallest_hole = std::size_t{64} << 10U;  // smaller ones would cost more extents than they spare blocks
constexpr auto between_looks = std::chrono::milliseconds{200};

Result<void> go_on() {
  const std::string why = SignalWatch::broken_off();
  return why.empty() ? Result<void>{mount::success()} : failure(Exit::failed, why);
}

/// Says how far it is, now and then.
class Ticker {
 public:
  Ticker(const CopyProgress& progress, bool comparing) : progress_(progress), comparing_(comparing) {}
  void at(std::uint64_t done) {
    const auto now = std::chrono::steady_clock::now();
    if (progress_ && now - last_ >= between_looks) {
      last_ = now;
      progress_(comparing_, done);
    }
  }

 private:
  const CopyProgress& progress_;
  bool comparing_;
  std::chrono::steady_clock::time_point last_{};
};

Result<void> read_piece(int fd, const std::string& what, Bytes bytes, std::uint64_t offset) {
  const auto count = mount::read_at(fd, bytes, offset);
  if (!count) {
    return Failure{count.error().with_context(what)};
  }
  if (count.value() < bytes.size()) {
    return failure(Exit::failed, what + " ends at byte " + std::to_string(offset + count.value()) + ", before its end");
  }
  return mount::success();
}

Result<void> write_piece(int fd, const std::string& what, Bytes bytes, std::uint64_t offset) {
  while (!bytes.empty()) {
    const ssize_t count = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) {
      TRYV(go_on());
      continue;
    }
    if (count < 0) {
      return Failure{errno_error(errno, "writing " + what + " at byte " + std::to_string(offset))};
    }
    bytes = bytes.subspan(static_cast<std::size_t>(count));
    offset += static_cast<std::uint64_t>(count);
  }
  return mount::success();
}

/// What is not all zeros.
Result<std::uint64_t> write_data(int fd, const std::string& what, Bytes bytes, std::uint64_t offset) {
  std::uint64_t written = 0;
  const auto part = [&](std::size_t at) { return bytes.subspan(at, std::min(smallest_hole, bytes.size() - at)); };
  for (std::size_t begin = 0; begin < bytes.size();) {
    std::size_t end = begin;
    while (end < bytes.size() && !mount::is_zero(part(end))) {
      end += part(end).size();
    }
    if (end > begin) {
      TRYV(write_piece(fd, what, bytes.subspan(begin, end - begin), offset + begin));
      written += end - begin;
    }
    begin = end == bytes.size() ? end : end + part(end).size();
  }
  return written;
}

/// From the disk the next time, and out of everybody's memory. Advice: what is dirty or in use stays.
void drop_cached(int fd, std::uint64_t offset = 0, std::uint64_t length = 0) {
  ::posix_fadvise(fd, static_cast<off_t>(offset), static_cast<off_t>(length), POSIX_FADV_DONTNEED);
}

/// Written back as it goes, so that the progress is true and the node's memory is left to others. What fails is told by fsync.
void write_back(int fd, std::uint64_t offset, std::uint64_t length) {
  ::sync_file_range(fd, static_cast<off64_t>(offset), static_cast<off64_t>(length), SYNC_FILE_RANGE_WRITE);
  if (offset >= length) {
    const std::uint64_t last = offset - length;
    ::sync_file_range(fd, static_cast<off64_t>(last), static_cast<off64_t>(length),
                      SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
    drop_cached(fd, last, length);
  }
}

}  // namespace

DeviceCopy::DeviceCopy(DeviceCopy&& other) noexcept
    : device_(std::move(other.device_)),
      file_(std::move(other.file_)),
      directory_(std::move(other.directory_)),
      name_(std::move(other.name_)),
      inode_(other.inode_),
      written_(other.written_),
      kept_(std::exchange(other.kept_, true)) {}

DeviceCopy::~DeviceCopy() {
  struct stat status{};
  if (!kept_ && ::fstatat(directory_.get(), name_.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0 && status.st_ino == inode_) {
    ::unlinkat(directory_.get(), name_.c_str(), 0);
  }
}

Result<DeviceCopy> DeviceCopy::make(const CopyOrder& order, const CopyProgress& progress) {
  DeviceCopy copy;
  TRYV(copy.open(order));
  TRYV(copy.fill(order, progress));
  TRYV(copy.compare(order, progress));
  TRYV(go_on());
  copy.file_.reset();
  return copy;
}

Result<void> DeviceCopy::open(const CopyOrder& order) {
  device_ = UniqueFd{::open(order.device.c_str(), O_RDONLY | O_EXCL | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)};
  if (!device_) {
    const int error = errno;
    return Failure{
        errno_error(error, error == EBUSY ? order.device + " was mounted, or taken otherwise, just now" : "opening " + order.device)};
  }
  struct stat status{};
  std::uint64_t size = 0;
  if (::fstat(device_.get(), &status) != 0 || !S_ISBLK(status.st_mode) || ::ioctl(device_.get(), BLKGETSIZE64, &size) != 0 ||
      size != order.size) {
    return failure(Exit::failed, order.device + " is not the device any more that was looked at");
  }
  TRYV(open_file(order));
  return check_room(order);
}

Result<void> DeviceCopy::open_file(const CopyOrder& order) {
  const std::size_t slash = order.file.rfind('/');
  name_ = order.file.substr(slash + 1);
  auto directory = mount::open_directory(order.file.substr(0, slash));
  if (!directory) {
    return Failure{directory.error().with_context("the agent's pool (run this where the agent's directories are, in its container)")};
  }
  directory_ = std::move(directory.value());
  file_ = UniqueFd{::openat(directory_.get(), name_.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600)};
  struct stat opened{};
  struct stat named{};
  if (!file_ || ::fstat(file_.get(), &opened) != 0) {
    return Failure{errno_error(errno, "making " + order.file)};
  }
  // Another one with a device of the same last name.
  if (::flock(file_.get(), LOCK_EX | LOCK_NB) != 0) {
    return Failure{errno_error(errno, "another copy into " + order.file + " is going on")};
  }
  if (!S_ISREG(opened.st_mode) || ::fstatat(directory_.get(), name_.c_str(), &named, AT_SYMLINK_NOFOLLOW) != 0 ||
      named.st_ino != opened.st_ino) {
    return failure(Exit::failed, order.file + " was replaced just now");
  }
  inode_ = opened.st_ino;
  kept_ = false;
  // What was left of a copy before goes first.
  if (::ftruncate(file_.get(), 0) != 0 || ::fchmod(file_.get(), 0600) != 0) {
    return Failure{errno_error(errno, "emptying " + order.file)};
  }
  return mount::success();
}

Result<void> DeviceCopy::check_room(const CopyOrder& order) const {
  struct statvfs room{};
  if (::fstatvfs(directory_.get(), &room) != 0) {
    return Failure{errno_error(errno, "asking for the room beside " + order.file)};
  }
  const std::uint64_t free = room.f_bavail * room.f_frsize;
  const std::uint64_t needed = order.keep_free + (order.thick && written_ == 0 ? order.size : 0);
  if (free < needed) {
    return failure(Exit::failed, "the pool's file system has " + std::to_string(free) +
                                     " bytes free, and the copy and the pool's reserve (" + std::to_string(order.keep_free) + ") need " +
                                     std::to_string(needed) + ": delete volumes, enlarge it, or choose another (--pool)");
  }
  return mount::success();
}

Result<void> DeviceCopy::fill(const CopyOrder& order, const CopyProgress& progress) {
  int failed = 0;
  do {
    failed = order.thick ? ::fallocate(file_.get(), 0, 0, static_cast<off_t>(order.size))
                         : ::ftruncate(file_.get(), static_cast<off_t>(order.size));
    TRYV(go_on());
  } while (failed != 0 && errno == EINTR);
  if (failed != 0) {
    return Failure{errno_error(errno, "giving " + order.file + " its " + std::to_string(order.size) + " bytes")};
  }
  std::vector<std::byte> buffer(std::min<std::uint64_t>(piece, order.size));
  Ticker ticker{progress, false};
  drop_cached(device_.get());
  for (std::uint64_t at = 0; at < order.size; at += buffer.size()) {
    TRYV(go_on());
    if (!order.thick) {
      TRYV(check_room(order));
    }
    const Bytes bytes{buffer.data(), std::min<std::uint64_t>(buffer.size(), order.size - at)};
    TRYV(read_piece(device_.get(), order.device, bytes, at));
    TRY(const std::uint64_t written, write_data(file_.get(), order.file, bytes, at));
    written_ += written;
    write_back(file_.get(), at, buffer.size());
    drop_cached(device_.get(), at, bytes.size());
    ticker.at(at + bytes.size());
  }
  if (::fsync(file_.get()) != 0) {
    return Failure{errno_error(errno, "making " + order.file + " durable")};
  }
  return go_on();
}

Result<void> DeviceCopy::compare(const CopyOrder& order, const CopyProgress& progress) {
  std::vector<std::byte> one(std::min<std::uint64_t>(piece, order.size));
  std::vector<std::byte> other(one.size());
  Ticker ticker{progress, true};
  drop_cached(device_.get());
  drop_cached(file_.get());
  for (std::uint64_t at = 0; at < order.size; at += one.size()) {
    TRYV(go_on());
    const std::size_t length = std::min<std::uint64_t>(one.size(), order.size - at);
    TRYV(read_piece(device_.get(), order.device, {one.data(), length}, at));
    TRYV(read_piece(file_.get(), order.file, {other.data(), length}, at));
    if (std::memcmp(one.data(), other.data(), length) != 0) {
      const auto differs = static_cast<std::uint64_t>(std::mismatch(one.begin(), one.end(), other.begin()).first - one.begin());
      return failure(Exit::failed, "the copy of " + order.device + " differs from it at byte " + std::to_string(at + differs) +
                                       ": something writes to the device (fuser -v " + order.device +
                                       "), or a disk gives back other bytes than were written to it (dmesg)");
    }
    drop_cached(device_.get(), at, length);
    drop_cached(file_.get(), at, length);
    ticker.at(at + length);
  }
  return mount::success();
}

}  // namespace ordinald::ctl
