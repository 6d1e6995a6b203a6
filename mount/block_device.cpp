#include "mount/block_device.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/major.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "mount/crash_point.hpp"

namespace ordinald::mount {
namespace {

std::string number_text(std::uint64_t number) { return std::to_string(major(number)) + ":" + std::to_string(minor(number)); }

bool is_loop(std::uint64_t number) { return major(number) == LOOP_MAJOR; }

std::string proof_text(const Device& device) {
  std::string text = number_text(device.number) + ", diskseq " + std::to_string(device.diskseq);
  if (is_loop(device.number)) {
    text += ", file " + number_text(device.backing_device) + " inode " + std::to_string(device.backing_inode);
  }
  return text;
}

Error another_device(const Device& expected, const std::string& found) {
  return make_error(ErrorCode::failed_precondition, expected.path + " is not the device that it was: expected " + proof_text(expected) +
                                                        ", found " + found + ". Nothing was done to it");
}

/// Number and diskseq, and of a loop the backing file: all that tells devices apart.
Result<Device> identify(int fd, const std::string& path) {
  struct stat status{};
  if (::fstat(fd, &status) != 0) {
    return errno_error(errno, "looking at " + path);
  }
  Device device{.path = path, .number = status.st_rdev};
  __u64 diskseq = 0;
  if (::ioctl(fd, BLKGETDISKSEQ, &diskseq) != 0) {
    return errno_error(errno, "asking for the diskseq of " + path);
  }
  device.diskseq = diskseq;
  if (is_loop(device.number)) {
    TRY(const auto loop, loop_status(fd, path));
    device.backing_device = loop.lo_device;
    device.backing_inode = loop.lo_inode;
  }
  return device;
}

bool same_device(const Device& a, const Device& b) {
  return a.number == b.number && a.diskseq == b.diskseq && a.backing_device == b.backing_device && a.backing_inode == b.backing_inode;
}

}  // namespace

std::string describe(const Device& device) {
  return device.path + " (" + number_text(device.number) + ", diskseq " + std::to_string(device.diskseq) + ")";
}

Result<loop_info64> loop_status(int fd, const std::string& path) {
  loop_info64 info{};
  if (::ioctl(fd, LOOP_GET_STATUS64, &info) != 0) {
    const int error = errno;
    if (error == ENXIO) {
      return errno_error(ErrorCode::not_found, error, path + " has no file attached any more");
    }
    return errno_error(error, "asking for the backing file of " + path);
  }
  return info;
}

Result<UniqueFd> open_verified(const Device& device, int flags) {
  // The node is looked at before it is opened: opening another driver's device, or a FIFO, can have effects of its own.
  struct stat status{};
  if (::stat(device.path.c_str(), &status) != 0) {
    const int error = errno;
    const auto code = error == ENOENT || error == ENOTDIR ? ErrorCode::not_found : ErrorCode::internal;
    return errno_error(code, error, "looking at the device " + describe(device));
  }
  if (!S_ISBLK(status.st_mode)) {
    return another_device(device, "no block device at all");
  }
  if (status.st_rdev != device.number) {
    return another_device(device, number_text(status.st_rdev));
  }
  UniqueFd fd{::open(device.path.c_str(), flags | O_CLOEXEC)};
  if (!fd) {
    const int error = errno;
    if (error == ENOENT || error == ENXIO || error == ENODEV) {
      return errno_error(ErrorCode::not_found, error, "the device " + describe(device) + " is gone");
    }
    if (error == EBUSY) {
      return errno_error(ErrorCode::failed_precondition, error,
                         "the device " + describe(device) + " is in use: something on it is mounted somewhere, or a tool works on it");
    }
    if (error == EROFS || error == EACCES) {
      return errno_error(ErrorCode::failed_precondition, error, "the device " + describe(device) + " can't be opened for writing");
    }
    return errno_error(error, "opening the device " + describe(device));
  }
  auto found = identify(fd.get(), device.path);
  if (!found) {
    if (found.error().code == ErrorCode::not_found) {
      Error error = another_device(device, "a loop device without a file");
      error.sys_errno = ENXIO;
      return error;
    }
    return found.error();
  }
  if (!same_device(device, found.value())) {
    return another_device(device, proof_text(found.value()));
  }
  return fd;
}

Result<Device> describe_open_device(int fd, const std::string& path) {
  TRY(auto device, identify(fd, path));
  __u64 size = 0;
  int block_size = 0;
  int read_only = 0;
  if (::ioctl(fd, BLKGETSIZE64, &size) != 0 || ::ioctl(fd, BLKSSZGET, &block_size) != 0 || ::ioctl(fd, BLKROGET, &read_only) != 0) {
    return errno_error(errno, "asking for the size of " + describe(device));
  }
  device.size = size;
  device.block_size = static_cast<std::uint32_t>(block_size);
  device.read_only = read_only != 0;
  return device;
}

Result<Device> inspect_block_device(const Device& device) {
  auto fd = open_verified(device, O_RDONLY);
  if (!fd) {
    Error error = fd.error();
    if (error.code == ErrorCode::failed_precondition) {
      error.code = ErrorCode::not_found;  // what is there now is another one: this one is gone
    }
    return error;
  }
  return describe_open_device(fd.value().get(), device.path);
}

Result<void> set_block_device_read_only(const Device& device, bool read_only) {
  TRY(const auto fd, open_verified(device, O_RDONLY));
  const int flag = read_only ? 1 : 0;
  if (::ioctl(fd.get(), BLKROSET, &flag) != 0) {
    return errno_error(errno, std::string{"making "} + describe(device) + (read_only ? " read-only" : " writable"));
  }
  acted("BLKROSET", device.path);
  return success();
}

Result<void> erase_block_device(const Device& device, bool thick) {
  TRY(const auto fd, open_verified(device, O_RDWR | O_EXCL));
  TRY(const auto now, describe_open_device(fd.get(), device.path));
  const std::array<std::uint64_t, 2> range{0, now.size};
  // BLKZEROOUT keeps the blocks of a thick image (it asks the loop for zeros without unmapping); it also stands in where the file
  // system below can't punch holes.
  bool emptied = false;
  if (!thick) {
    emptied = ::ioctl(fd.get(), BLKDISCARD, range.data()) == 0;
    if (!emptied && errno != EOPNOTSUPP) {
      return errno_error(errno, "discarding all of " + describe(device));
    }
  }
  if (!emptied && ::ioctl(fd.get(), BLKZEROOUT, range.data()) != 0) {
    return errno_error(errno, "writing zeros over " + describe(device));
  }
  acted("emptying", device.path);
  if (::fsync(fd.get()) != 0) {
    return errno_error(errno, "making the emptied " + describe(device) + " durable");
  }
  return success();
}

}  // namespace ordinald::mount
