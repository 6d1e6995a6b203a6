#include "mount/pool_lock.hpp"

#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "mount/files.hpp"
#include "mount/pool_mark.hpp"
#include "mount/proc_text.hpp"

namespace ordinald::mount {
namespace {

/// Of the lock on the inode; for people.
std::string holder_of(std::uint64_t inode) {
  const auto locks = read_kernel_file("/proc/locks");
  const auto pid = flock_holder_in(locks ? locks.value() : std::string{}, inode);
  if (!pid) {
    return "a process that can't be seen from here";
  }
  std::string command;
  if (const auto words_of = read_kernel_file("/proc/" + *pid + "/cmdline")) {
    command = words_of.value();
    std::ranges::replace_if(command, [](char c) { return c < ' ' || c > '~'; }, ' ');
    command.erase(command.find_last_not_of(' ') + 1);
  }
  return "process " + *pid + (command.empty() ? "" : " (" + command + ")");
}

}  // namespace

Result<PoolDirectory> open_pool_directory(const std::string& path) {
  PoolDirectory directory;
  TRY(directory.fd, open_directory(path));
  struct stat status{};
  if (::fstat(directory.fd.get(), &status) != 0) {
    return errno_error(errno, "looking at the directory " + path);
  }
  directory.device = status.st_dev;
  directory.inode = status.st_ino;
  TRY(directory.mark, read_pool_mark(directory.fd.get()));
  return directory;
}

Result<void> lock_pool_directory(const PoolDirectory& directory, const std::string& path) {
  if (::flock(directory.fd.get(), LOCK_EX | LOCK_NB) == 0) {
    return success();
  }
  const int error = errno;
  if (error == EWOULDBLOCK) {
    return make_error(ErrorCode::failed_precondition, path + " is another agent's: " + holder_of(directory.inode) +
                                                          " has it. Two would serve and delete each other's volumes; stop that one, or "
                                                          "give this one a directory of its own");
  }
  return errno_error(error, "locking " + path);
}

}  // namespace ordinald::mount
