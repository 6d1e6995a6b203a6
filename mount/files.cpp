#include "mount/files.hpp"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "mount/crash_point.hpp"

namespace ordinald::mount {

Result<UniqueFd> open_directory(const std::string& path) {
  UniqueFd fd{::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (!fd) {
    const int error = errno;
    if (error == ENOENT || error == ENOTDIR) {
      return errno_error(ErrorCode::not_found, error, "the directory " + path + " can't be opened");
    }
    return errno_error(error, "opening the directory " + path);
  }
  return fd;
}

Result<void> make_directories(const std::string& path, unsigned mode) {
  const std::filesystem::path directory = std::filesystem::path{path}.lexically_normal();
  const std::string parent = directory.has_filename() ? directory.parent_path() : directory.parent_path().parent_path();
  int made = ::mkdir(path.c_str(), mode);
  if (made != 0 && errno == ENOENT && parent != path) {
    TRYV(make_directories(parent));
    made = ::mkdir(path.c_str(), mode);
  }
  if (made != 0 && errno != EEXIST) {
    return errno_error(errno, "making the directory " + path);
  }
  acted("making the directory", path);
  // Also of one that was there: whoever made it may have died before this.
  TRY(const auto above, open_directory(parent));
  if (::fsync(above.get()) != 0) {
    return errno_error(errno, "fsync of the directory " + parent);
  }
  acted("fsync of the directory", parent);
  return success();
}

Result<UniqueFd> open_beneath(int directory, const std::string& name, int flags) {
  open_how how{};
  how.flags = static_cast<std::uint64_t>(flags | O_CLOEXEC | O_NOFOLLOW);
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS;
  // EAGAIN: something was renamed anywhere while the kernel followed the name, and it could not prove that we stayed beneath.
  long fd = -1;
  for (int tries = 0; tries < 100; ++tries) {
    fd = ::syscall(SYS_openat2, directory, name.c_str(), &how, sizeof how);
    if (fd >= 0 || (errno != EAGAIN && errno != EINTR)) {
      break;
    }
  }
  if (fd < 0) {
    const int error = errno;
    if (error == ENOENT) {
      return errno_error(ErrorCode::not_found, error, name + " can't be opened");
    }
    if (error == ELOOP || error == EXDEV) {
      return errno_error(ErrorCode::failed_precondition, error, name + " is a symlink, or leads out of its directory");
    }
    return errno_error(error, "opening " + name);
  }
  return UniqueFd{static_cast<int>(fd)};
}

Result<std::string> read_kernel_file(const std::string& path, int directory) {
  const UniqueFd fd{::openat(directory, path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (!fd) {
    const int error = errno;
    if (error == ENOENT || error == ENOTDIR) {
      return errno_error(ErrorCode::not_found, error, "opening " + path);
    }
    return errno_error(error, "opening " + path);
  }
  std::string text;
  std::size_t used = 0;
  while (true) {
    text.resize(used + (used < 4096 ? 4096 : used));
    const ssize_t count = ::read(fd.get(), text.data() + used, text.size() - used);
    if (count < 0) {
      if (errno == EINTR) {
        continue;
      }
      return errno_error(errno, "reading " + path);
    }
    if (count == 0) {
      break;
    }
    used += static_cast<std::size_t>(count);
  }
  text.resize(used);
  if (text.ends_with('\n')) {
    text.pop_back();
  }
  return text;
}

bool means_gone(int error) { return error == ENOENT || error == ENODEV || error == ESRCH; }

Result<void> each_entry(const std::string& directory, unsigned char type, const std::function<Result<void>(const std::string&)>& visit) {
  const DirectoryStream stream{::opendir(directory.c_str())};
  if (!stream) {
    return means_gone(errno) ? success() : Result<void>{errno_error(errno, "listing " + directory)};
  }
  while (true) {
    errno = 0;
    const dirent* entry = ::readdir(stream.get());
    if (entry == nullptr) {
      return errno == 0 || means_gone(errno) ? success() : Result<void>{errno_error(errno, "listing " + directory)};
    }
    const std::string name{static_cast<const char*>(entry->d_name)};
    if (entry->d_type == type && name != "." && name != "..") {
      TRYV(visit(name));
    }
  }
}

Result<std::size_t> read_at(int fd, std::span<std::byte> buffer, std::uint64_t offset) {
  std::size_t done = 0;
  while (done < buffer.size()) {
    const ssize_t count = ::pread(fd, buffer.data() + done, buffer.size() - done, static_cast<off_t>(offset + done));
    if (count < 0) {
      if (errno == EINTR) {
        continue;
      }
      return errno_error(errno, "reading at byte " + std::to_string(offset + done));
    }
    if (count == 0) {
      break;
    }
    done += static_cast<std::size_t>(count);
  }
  return done;
}

bool is_zero(std::span<const std::byte> bytes) {
  // A run is all zeros when its first byte is and each byte equals the next: memcmp does that with the widest vectors there are.
  return bytes.empty() || (bytes.front() == std::byte{0} && std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

std::string proc_path(int fd) { return "/proc/self/fd/" + std::to_string(fd); }

}  // namespace ordinald::mount
