#include "mount/pool_mark.hpp"

#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>

#include "mount/crash_point.hpp"
#include "mount/files.hpp"

namespace ordinald::mount {
namespace {

constexpr const char* pool_attribute = "trusted.ordinald.pool";
constexpr std::size_t largest_mark = 1024;

}  // namespace

Result<std::string> read_pool_mark(int directory) {
  std::string mark(largest_mark, '\0');
  const ssize_t size = ::fgetxattr(directory, pool_attribute, mark.data(), mark.size());
  if (size < 0) {
    if (errno == ENODATA || errno == EOPNOTSUPP) {
      return std::string{};
    }
    return errno_error(errno, std::string{"reading the attribute "} + pool_attribute + " of a pool's directory");
  }
  mark.resize(static_cast<std::size_t>(size));
  return mark;
}

Result<std::string> mark_pool_directory(const std::string& directory, const std::string& mark) {
  TRY(const auto fd, open_directory(directory));
  if (::fsetxattr(fd.get(), pool_attribute, mark.data(), mark.size(), XATTR_CREATE) != 0 && errno != EEXIST) {
    const int error = errno;
    const std::string what = std::string{"setting the attribute "} + pool_attribute + " of " + directory;
    if (error == EOPNOTSUPP || error == EPERM) {
      return errno_error(ErrorCode::failed_precondition, error,
                         what + " (a pool's file system must keep trusted attributes, and the agent needs CAP_SYS_ADMIN)");
    }
    return errno_error(error, what);
  }
  acted("marking the pool", directory);
  // Also where it was marked: an earlier try may have ended between the two.
  if (::fsync(fd.get()) != 0) {
    return errno_error(errno, "making the directory " + directory + " durable");
  }
  acted("fsync of the pool", directory);
  return read_pool_mark(fd.get());
}

}  // namespace ordinald::mount
