#include "agent/ctl/text_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>

#include "agent/durable_file.hpp"
#include "mount/crash_point.hpp"
#include "mount/unique_fd.hpp"

namespace ordinald::ctl {
namespace {

using mount::acted;
using mount::errno_error;
using mount::success;

mount::Result<void> write_all(int fd, std::string_view text, const std::string& path) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written < 0 && errno != EINTR) {
      return errno_error(errno, "writing " + path);
    }
    text.remove_prefix(written < 0 ? 0 : static_cast<std::size_t>(written));
  }
  return success();
}

}  // namespace

mount::Result<void> replace_text_file(const std::string& path, std::string_view text) {
  std::error_code error;
  std::filesystem::path real = std::filesystem::weakly_canonical(path, error);
  if (error) {
    return errno_error(error.value(), "finding " + path);
  }
  struct stat before = {};
  const bool existed = ::stat(real.c_str(), &before) == 0;
  const std::string temporary = real.string() + ".ordinalctl" + std::string{agent::temporary_ending};
  const auto write = [&]() -> mount::Result<void> {
    // What a run that was killed left under the name is nobody's; runs exclude each other by a lock.
    const mount::UniqueFd fd{::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600)};
    if (!fd) {
      return errno_error(errno, "making " + temporary);
    }
    acted("making", temporary);
    TRYV(write_all(fd.get(), text, temporary));
    if (::fchmod(fd.get(), existed ? before.st_mode & 07777 : 0644) != 0 ||
        (existed && ::fchown(fd.get(), before.st_uid, before.st_gid) != 0) || ::fsync(fd.get()) != 0) {
      return errno_error(errno, "writing " + temporary);
    }
    acted("fsync", temporary);
    if (::rename(temporary.c_str(), real.c_str()) != 0) {
      const int why = errno;
      return errno_error(why, why == EBUSY ? "replacing " + path + ", which is a mount of its own here; change it where it is mounted from"
                                           : "renaming " + temporary + " to " + path);
    }
    acted("renaming to", path);
    return agent::sync_directory(real.parent_path().string());
  };
  auto written = write();
  if (!written) {
    ::unlink(temporary.c_str());
  }
  return written;
}

mount::Result<void> rename_text_file(const std::string& path, const std::string& to) {
  if (::rename(path.c_str(), to.c_str()) != 0 && errno != ENOENT) {
    return errno_error(errno, "renaming " + path + " to " + to);
  }
  acted("renaming to", to);
  return agent::sync_directory(std::filesystem::path{path}.parent_path().string());
}

mount::Result<void> remove_text_file(const std::string& path) {
  const std::filesystem::path whole{path};
  return agent::remove_file(whole.parent_path().string(), whole.filename().string(), agent::Durability::power_loss);
}

}  // namespace ordinald::ctl
