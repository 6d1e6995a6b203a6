#include "agent/instance_lock.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string_view>
#include <utility>

#include "mount/files.hpp"

namespace ordinald::agent {
namespace {

using mount::errno_error;
using mount::ErrorCode;
using mount::make_error;
using mount::Result;

std::string holder(int file) {
  std::array<char, 24> text{};
  const ssize_t length = ::pread(file, text.data(), text.size() - 1, 0);
  std::string_view pid{text.data(), length > 0 ? static_cast<std::size_t>(length) : 0};
  pid = pid.substr(0, pid.find_first_not_of("0123456789"));
  return pid.empty() ? "another process" : "process " + std::string{pid};
}

}  // namespace

Result<void> make_private_directory(const std::string& directory) { return mount::make_directories(directory, 0700); }

Result<InstanceLock> InstanceLock::acquire(const std::string& directory) {
  TRYV(make_private_directory(directory));
  const std::string path = directory + "/lock";
  mount::UniqueFd file{::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)};
  if (!file) {
    return errno_error(errno, "can't open the lock " + path);
  }
  if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) {
      return make_error(ErrorCode::failed_precondition, "another ordinald works on " + directory + ": " + holder(file.get()) + " holds " +
                                                            path + "; stop it first, or give this one directories of its own");
    }
    return errno_error(errno, "can't lock " + path);
  }
  // For people, and for the refusal above, which does without it: a full disk must not keep the agent from starting.
  const std::string pid = std::to_string(::getpid()) + "\n";
  if (::ftruncate(file.get(), 0) == 0) {
    [[maybe_unused]] const ssize_t written = ::pwrite(file.get(), pid.data(), pid.size(), 0);
  }
  return InstanceLock{std::move(file)};
}

}  // namespace ordinald::agent
