#include "mount/loop_device.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <string_view>

#include "mount/block_device.hpp"
#include "mount/crash_point.hpp"
#include "mount/files.hpp"
#include "mount/image_file.hpp"
#include "mount/loop_search.hpp"

namespace ordinald::mount {
namespace {

Result<BackingFile> backing_file(int image_fd, const ImageRef& image) {
  struct stat status{};
  if (::fstat(image_fd, &status) != 0) {
    return errno_error(errno, "looking at " + describe(image));
  }
  return BackingFile{
      .directory = image.directory, .file = image.file, .device = status.st_dev, .inode = status.st_ino, .names = status.st_nlink};
}

Result<std::optional<OpenLoop>> loop_of_open_image(int image_fd, const ImageRef& image) {
  if (open_nowhere_else(image_fd)) {
    return std::optional<OpenLoop>{};
  }
  TRY(const auto file, backing_file(image_fd, image));
  return search_loops(file);
}

/// The kernel names a free loop but does not keep it: another process may be quicker. One of them always gets it, so this ends.
constexpr int most_tries = 1000;

/// What marks a loop as attached by an agent; losetup(8) writes the file's path there.
constexpr std::string_view agent_mark = "ordinald:";

/// The open loop as a Device.
Device to_device(const OpenLoop& loop) {
  Device device = loop.device;
  const char* const name = reinterpret_cast<const char*>(static_cast<const __u8*>(loop.info.lo_file_name));
  device.by_agent = std::string_view{name, ::strnlen(name, LO_NAME_SIZE)}.starts_with(agent_mark);
  return device;
}

/// Takes a loop that the image has already, as it was attached by an earlier call, an earlier agent, or a person.
Result<Device> adopt(OpenLoop loop, const ImageRef& image, std::uint32_t block_size) {
  const std::string what = describe(image) + " is attached already, as " + describe(loop.device) + ", ";
  if (loop.device.block_size != block_size) {
    return make_error(ErrorCode::failed_precondition, what + "with blocks of " + std::to_string(loop.device.block_size) +
                                                          " bytes and not " + std::to_string(block_size) +
                                                          ": detach it first (losetup -d " + loop.device.path + ")");
  }
  if (loop.info.lo_offset != 0 || loop.info.lo_sizelimit != 0 || (loop.info.lo_flags & LO_FLAGS_READ_ONLY) != 0) {
    return make_error(ErrorCode::failed_precondition,
                      what + "but only a part of it, or read-only: detach it first (losetup -d " + loop.device.path + ")");
  }
  if ((loop.info.lo_flags & LO_FLAGS_AUTOCLEAR) != 0) {
    // It would vanish with its last user, for one that lives on in another mount namespace at a moment that nobody chooses.
    loop.info.lo_flags &= ~static_cast<__u32>(LO_FLAGS_AUTOCLEAR);
    if (::ioctl(loop.fd.get(), LOOP_SET_STATUS64, &loop.info) != 0) {
      return errno_error(errno, "keeping " + describe(loop.device) + " from going away with its last user");
    }
  }
  return to_device(loop);
}

/// That a device takes no discard stays with its number, not with the file, and since Linux 6.8 sysfs can't take it back (with 0 the
/// granularity is 0 too, and no other value fits that): such a number is taken away and made anew. One that anybody has is left alone.
void renew_number(int number) {
  const std::string queue = "/sys/block/loop" + std::to_string(number) + "/queue/";
  const auto now = read_kernel_file(queue + "discard_max_bytes");
  const auto most = read_kernel_file(queue + "discard_max_hw_bytes");
  if (!now || now.value() != "0" || !most || most.value() == "0") {
    return;
  }
  const UniqueFd control{::open("/dev/loop-control", O_RDWR | O_CLOEXEC)};
  if (control && ::ioctl(control.get(), LOOP_CTL_REMOVE, number) == 0) {
    ::ioctl(control.get(), LOOP_CTL_ADD, number);
  }
}

void renew_number_of(const Device& device) {
  if (int number = 0; std::sscanf(device.path.c_str(), "/dev/loop%d", &number) == 1) {
    renew_number(number);
  }
}

/// LOOP_CONFIGURE of one free loop. Of the errors, EBUSY and ENXIO mean that another process has it by now, EINVAL that these flags
/// can't be had.
Result<Device> configure(int number, int image_fd, const ImageRef& image, std::uint32_t block_size, std::uint32_t flags) {
  const std::string path = "/dev/loop" + std::to_string(number);
  const std::string what = "attaching " + describe(image) + " to " + path;
  const UniqueFd fd{::open(path.c_str(), O_RDWR | O_CLOEXEC)};
  if (!fd) {
    const int error = errno;
    return errno_error(error, what + (error == ENOENT ? " (the kernel has this device, but /dev doesn't show it: is it a devtmpfs?)" : ""));
  }
  loop_config config{};
  config.fd = static_cast<__u32>(image_fd);
  config.block_size = block_size;
  config.info.lo_flags = flags;
  // Tells later that it is ours, and not a person's; cut to fit.
  const std::string name = std::string{agent_mark} + image.volume_id;
  std::memcpy(config.info.lo_file_name, name.data(), std::min<std::size_t>(name.size(), LO_NAME_SIZE - 1));
  if (::ioctl(fd.get(), LOOP_CONFIGURE, &config) != 0) {
    return errno_error(errno, what);
  }
  acted("LOOP_CONFIGURE", path);
  // The number's last owner may have left the device's own read-only flag on: it stays with the number, not with the file.
  const int writable = 0;
  if (::ioctl(fd.get(), BLKROSET, &writable) != 0) {
    const int error = errno;
    ::ioctl(fd.get(), LOOP_CLR_FD, 0);
    return errno_error(error, what + ": making the device writable");
  }
  acted("BLKROSET", path);
  auto device = describe_open_device(fd.get(), path);
  if (device && device.value().block_size == block_size) {
    device.value().by_agent = true;
    return device;
  }
  // Direct I/O can raise the block size over some disks; a filesystem made with the other one would no longer mount.
  ::ioctl(fd.get(), LOOP_CLR_FD, 0);
  if (!device) {
    return device.error();
  }
  return errno_error(EINVAL, what + ", which took blocks of " + std::to_string(device.value().block_size) + " bytes instead of " +
                                 std::to_string(block_size));
}

/// There is room for about a million of them, so that more usual causes are a want of memory or somebody's limit on the device.
Error no_free_loop(int error, const ImageRef& image) {
  const auto loops = list_loops();
  return errno_error(ErrorCode::resource_exhausted, error,
                     "getting a free loop device for " + describe(image) + "; the node has " +
                         (loops ? std::to_string(loops.value().size()) + " in use" : "others in use") +
                         " (losetup -l lists them): unstage volumes, or detach what nobody needs (losetup -d)");
}

Result<Device> attach_new(int image_fd, const ImageRef& image, std::uint32_t block_size) {
  const UniqueFd control{::open("/dev/loop-control", O_RDWR | O_CLOEXEC)};
  if (!control) {
    return errno_error(ErrorCode::failed_precondition, errno, "opening /dev/loop-control (is the kernel module loop loaded?)");
  }
  std::uint32_t flags = LO_FLAGS_DIRECT_IO;
  for (int tries = 0; tries < most_tries; ++tries) {
    const int number = ::ioctl(control.get(), LOOP_CTL_GET_FREE, 0);
    if (number < 0) {
      return no_free_loop(errno, image);
    }
    renew_number(number);
    auto device = configure(number, image_fd, image, block_size, flags);
    if (device) {
      return device;
    }
    const int error = device.error().sys_errno;
    if (error == EINVAL && flags != 0) {
      flags = 0;  // no direct I/O here
    } else if (error == ENOENT && tries + 1 < most_tries) {
      ::sched_yield();  // another thread is just making the number anew (renew_number)
    } else if (error != EBUSY && error != ENXIO) {
      return device;
    }
  }
  return make_error(ErrorCode::unavailable, "other processes were quicker to take each free loop device; try again for " + describe(image));
}

/// Whether sysfs says that the loop has no file, or another diskseq: that attachment is over. Opens no device.
Result<bool> is_gone(const Device& device) {
  const auto diskseq = read_kernel_file(sysfs_path(device, "diskseq"));
  if (!diskseq) {
    if (diskseq.error().code == ErrorCode::not_found || diskseq.error().sys_errno == ENODEV) {
      return true;
    }
    return diskseq.error();
  }
  if (diskseq.value() != std::to_string(device.diskseq)) {
    return true;
  }
  return !read_kernel_file(sysfs_path(device, "loop/backing_file"));
}

}  // namespace

bool open_nowhere_else(int fd) {
  // Whoever opens the file while the lease is held makes the kernel send a signal to the holder: SIGIO, which would end this process.
  // SIGURG is ignored by default.
  if (::fcntl(fd, F_SETSIG, SIGURG) != 0 || ::fcntl(fd, F_SETLEASE, F_WRLCK) != 0) {
    return false;
  }
  ::fcntl(fd, F_SETLEASE, F_UNLCK);
  return true;
}

Result<Device> attach_loop(const ImageRef& image, std::uint32_t block_size) {
  TRY(const auto fd, open_image(image, O_RDWR));
  // Where somebody has the image open, but no loop has it, that is no second writer through a loop: attaching goes on.
  TRY(auto existing, loop_of_open_image(fd.get(), image));
  if (existing) {
    return adopt(std::move(*existing), image, block_size);
  }
  return attach_new(fd.get(), image, block_size);
}

Result<ReadOnlyLoop> attach_read_only(int file_fd, const std::string& path, std::uint32_t block_size) {
  const std::string what = "attaching " + path + " read-only";
  const auto failed = [&](int error, const char* how, const std::string& loop) {
    return errno_error(error, std::string{what}.append(how).append(loop));
  };
  const UniqueFd control{::open("/dev/loop-control", O_RDWR | O_CLOEXEC)};
  if (!control) {
    return errno_error(ErrorCode::failed_precondition, errno, "opening /dev/loop-control (is the kernel module loop loaded?)");
  }
  for (int tries = 0; tries < most_tries; ++tries) {
    const int number = ::ioctl(control.get(), LOOP_CTL_GET_FREE, 0);
    if (number < 0) {
      return errno_error(ErrorCode::resource_exhausted, errno, "getting a free loop device for " + path);
    }
    const std::string loop = "/dev/loop" + std::to_string(number);
    UniqueFd fd{::open(loop.c_str(), O_RDONLY | O_CLOEXEC)};
    if (!fd) {
      return failed(errno, ": opening ", loop);
    }
    loop_config config{};
    config.fd = static_cast<__u32>(file_fd);
    config.block_size = block_size;
    // It goes with its last user, so that a worker that is killed leaves none behind.
    config.info.lo_flags = LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR;
    std::memcpy(config.info.lo_file_name, agent_mark.data(), agent_mark.size());
    if (::ioctl(fd.get(), LOOP_CONFIGURE, &config) == 0) {
      TRY(auto device, describe_open_device(fd.get(), loop));
      return ReadOnlyLoop{.fd = std::move(fd), .device = std::move(device)};
    }
    if (errno != EBUSY && errno != ENXIO) {
      return failed(errno, " as ", loop);
    }
  }
  return make_error(ErrorCode::unavailable, "other processes were quicker to take each free loop device; try again for " + path);
}

Result<std::optional<Device>> find_loop(const ImageRef& image) {
  auto fd = open_image(image, O_RDWR);
  if (!fd && fd.error().sys_errno == EROFS) {
    fd = open_image(image, O_RDONLY);  // no lease can be had on it, but sysfs can be searched
  }
  std::optional<OpenLoop> loop;
  if (fd) {
    TRY(loop, loop_of_open_image(fd.value().get(), image));
  } else if (fd.error().code == ErrorCode::not_found) {
    TRY(loop, search_loops({.directory = image.directory, .file = image.file}));
  } else {
    return fd.error();
  }
  return loop ? std::optional{to_device(*loop)} : std::nullopt;
}

Result<void> detach_loop(const Device& device) {
  TRY(const bool gone, is_gone(device));
  if (gone) {
    return success();
  }
  {
    auto fd = open_verified(device, O_RDONLY);
    if (fd) {
      // Linux 6.1 drops what the device's cache still has of a writer whose close was not the last. What can't be written is in the
      // kernel's log, and keeping the device would not save it.
      ::fsync(fd.value().get());
      if (::ioctl(fd.value().get(), LOOP_CLR_FD, 0) != 0 && errno != ENXIO && errno != EBUSY) {
        return errno_error(errno, "detaching " + describe(device));
      }
      acted("LOOP_CLR_FD", device.path);
      if (loop_info64 info{}; ::ioctl(fd.value().get(), LOOP_GET_STATUS64, &info) != 0 && errno == ENXIO) {
        // Nobody else has it, so its read-only flag, which would stay with the number, protects nothing any more.
        const int writable = 0;
        ::ioctl(fd.value().get(), BLKROSET, &writable);
      }
    } else if (fd.error().sys_errno != ENXIO) {  // being taken away already
      return fd.error();
    }
    // The kernel takes the file away with the last close, which may be this one.
  }
  // A program that looks at every device (udev) can have it open for a moment, and the kernel reports no event for its end.
  ShortWait wait;
  do {
    TRY(const bool gone_now, is_gone(device));
    if (gone_now) {
      renew_number_of(device);
      return success();
    }
  } while (wait.again());
  return make_error(ErrorCode::failed_precondition,
                    describe(device) +
                        " is still in use: it is mounted somewhere, perhaps in another mount namespace, or a program has it "
                        "open. It goes away with its last user (find it with: fuser -v " +
                        device.path + "; grep " + device.path + " /proc/*/mountinfo)");
}

Result<void> refuse_loop_discard(const Device& device) {
  TRY(const auto fd, open_verified(device, O_RDONLY));  // held: the number stays this device's
  const std::string path = sysfs_path(device, "queue/discard_max_bytes");
  TRY(const std::string now, read_kernel_file(path));
  if (now == "0") {
    return success();  // and the kernel need not stop the device's queue for it
  }
  const UniqueFd file{::open(path.c_str(), O_WRONLY | O_CLOEXEC)};
  if (!file || ::write(file.get(), "0", 1) != 1) {
    return errno_error(errno, "writing 0 to " + path);
  }
  acted("discard_max_bytes", device.path);
  return success();
}

Result<Device> refresh_loop_size(const Device& device) {
  TRY(const auto fd, open_verified(device, O_RDONLY));
  if (::ioctl(fd.get(), LOOP_SET_CAPACITY, 0) != 0) {
    return errno_error(errno, "making " + describe(device) + " as large as its image");
  }
  acted("LOOP_SET_CAPACITY", device.path);
  return describe_open_device(fd.get(), device.path);
}

}  // namespace ordinald::mount
