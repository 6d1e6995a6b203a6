#include "agent/durable_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "mount/crash_point.hpp"
#include "mount/unique_fd.hpp"

namespace ordinald::agent {
namespace {

using mount::acted;
using mount::errno_error;
using mount::ErrorCode;
using mount::UniqueFd;

Result<void> write_all(int fd, std::string_view text, const std::string& path) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written < 0) {
      if (errno == EINTR) {
        continue;
      }
      return errno_error(errno, "writing " + path);
    }
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return mount::success();
}

/// For its fsync later: opened before anything is changed, because without a descriptor left the change would be there and the caller told
/// that it is not.
Result<UniqueFd> open_directory(const std::string& directory, Durability durability, const std::string& what) {
  UniqueFd fd;
  if (durability == Durability::power_loss) {
    fd.reset(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd) {
      return errno_error(errno, what);
    }
  }
  return fd;
}

Result<void> sync_open_directory(const UniqueFd& fd, const std::string& directory) {
  if (::fsync(fd.get()) != 0) {
    return errno_error(errno, "fsync of the directory " + directory);
  }
  acted("fsync of the directory", directory);
  return mount::success();
}

}  // namespace

Result<void> sync_directory(const std::string& directory) {
  TRY(const UniqueFd fd, open_directory(directory, Durability::power_loss, "fsync of the directory " + directory));
  return sync_open_directory(fd, directory);
}

Result<void> write_file(const std::string& directory, const std::string& name, std::string_view text, Durability durability) {
  const std::string path = directory + "/" + name;
  const std::string temporary = path + std::string{temporary_ending};
  TRY(const UniqueFd where, open_directory(directory, durability, "making " + temporary));
  const UniqueFd fd{::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600)};
  if (!fd) {
    return errno_error(errno, "making " + temporary);
  }
  acted("making", temporary);
  const auto give_up = [&](mount::Error error) -> Result<void> {
    ::unlink(temporary.c_str());
    return error;
  };
  if (auto written = write_all(fd.get(), text, temporary); !written) {
    return give_up(written.error());
  }
  acted("writing", temporary);
  if (durability == Durability::power_loss) {
    if (::fsync(fd.get()) != 0) {
      return give_up(errno_error(errno, "fsync of " + temporary));
    }
    acted("fsync", temporary);
  }
  if (::rename(temporary.c_str(), path.c_str()) != 0) {
    return give_up(errno_error(errno, "renaming " + temporary + " to " + path));
  }
  acted("renaming to", path);
  if (durability == Durability::power_loss) {
    return sync_open_directory(where, directory);
  }
  return mount::success();
}

Result<void> remove_file(const std::string& directory, const std::string& name, Durability durability) {
  const std::string path = directory + "/" + name;
  TRY(const UniqueFd where, open_directory(directory, durability, "removing " + path));
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
    return errno_error(errno, "removing " + path);
  }
  acted("removing", path);
  if (durability == Durability::power_loss) {
    return sync_open_directory(where, directory);
  }
  return mount::success();
}

Result<void> overwrite_file(const std::string& directory, const std::string& name, std::string_view text) {
  const std::string path = directory + "/" + name;
  const UniqueFd fd{::open(path.c_str(), O_WRONLY | O_NOFOLLOW | O_CLOEXEC)};
  struct stat status{};
  if (!fd || ::fstat(fd.get(), &status) != 0) {
    return errno_error(errno, "opening " + path);
  }
  std::string padded{text};
  if (padded.size() > static_cast<std::size_t>(status.st_size)) {
    return errno_error(ENOSPC, "writing into " + path);
  }
  padded.resize(static_cast<std::size_t>(status.st_size), ' ');
  if (::pwrite(fd.get(), padded.data(), padded.size(), 0) != static_cast<ssize_t>(padded.size())) {
    return errno_error(errno, "writing into " + path);
  }
  return mount::success();
}

Result<std::string> set_aside(const std::string& directory, const std::string& name) {
  const std::string path = directory + "/" + name;
  for (int number = 1; number < 1000; ++number) {
    std::string to = path + ".damaged";
    if (number > 1) {
      to.append(".").append(std::to_string(number));
    }
    if (::renameat2(AT_FDCWD, path.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) {
      return to;
    }
    if (errno != EEXIST) {
      return errno_error(errno, std::string{"renaming "}.append(path).append(" to ").append(to));
    }
  }
  return mount::make_error(ErrorCode::internal, "setting " + path + " aside: 999 have been before it; remove them");
}

Result<std::string> read_file(const std::string& path) {
  constexpr std::size_t largest = std::size_t{16} * 1024 * 1024;
  const UniqueFd fd{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (!fd) {
    return errno_error(errno == ENOENT ? ErrorCode::not_found : ErrorCode::internal, errno, "opening " + path);
  }
  std::string text;
  char buffer[16384];
  while (true) {
    const ssize_t got = ::read(fd.get(), buffer, sizeof buffer);
    if (got < 0) {
      if (errno == EINTR) {
        continue;
      }
      return errno_error(errno, "reading " + path);
    }
    if (got == 0) {
      return text;
    }
    text.append(buffer, static_cast<std::size_t>(got));
    if (text.size() > largest) {
      return mount::make_error(ErrorCode::failed_precondition, path + " is larger than 16 MiB");
    }
  }
}

}  // namespace ordinald::agent
