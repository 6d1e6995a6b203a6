#pragma once

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <stdexcept>
#include <string>

#include "mount/types.hpp"
#include "mount/unique_fd.hpp"

namespace ordinald::testing {

/// A file of that size with a loop device on it. TempDir's destructor detaches it. Throws std::runtime_error.
inline mount::Device loop_on(const std::filesystem::path& file, std::uint64_t size, std::uint32_t block_size = 512) {
  const mount::UniqueFd image{::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)};
  const mount::UniqueFd control{::open("/dev/loop-control", O_RDWR | O_CLOEXEC)};
  if (!image || !control || ::ftruncate(image.get(), static_cast<off_t>(size)) != 0)
    throw std::runtime_error("a loop's file: " + file.string());
  for (;;) {
    mount::Device device;
    device.path = "/dev/loop" + std::to_string(::ioctl(control.get(), LOOP_CTL_GET_FREE));
    const mount::UniqueFd loop{::open(device.path.c_str(), O_RDWR | O_CLOEXEC)};
    loop_config config{};
    config.fd = static_cast<unsigned>(image.get());
    config.block_size = block_size;
    if (loop && ::ioctl(loop.get(), LOOP_CONFIGURE, &config) == 0) {
      struct stat info{};
      ::fstat(loop.get(), &info);
      device.number = info.st_rdev;
      return device;
    }
    if (errno != EBUSY) throw std::runtime_error(device.path + ": " + std::strerror(errno));  // else somebody took it meanwhile
  }
}

}  // namespace ordinald::testing
