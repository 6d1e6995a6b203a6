#include "mount/process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <ctime>

#include "mount/proc_text.hpp"

namespace ordinald::mount {
namespace {

/// The whole of a small file of /proc; empty when it can't be read.
std::string read_small(const std::string& path, int& sys_errno) {
  const UniqueFd file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (!file) {
    sys_errno = errno;
    return {};
  }
  char text[1024];
  const ssize_t size = ::read(file.get(), text, sizeof text);
  if (size < 0) {
    sys_errno = errno;
    return {};
  }
  return {text, static_cast<std::size_t>(size)};
}

}  // namespace

Result<std::uint64_t> start_time_of(pid_t pid) {
  const std::string path = "/proc/" + std::to_string(pid) + "/stat";
  int sys_errno = 0;
  const std::string text = read_small(path, sys_errno);
  if (sys_errno == ENOENT || sys_errno == ESRCH) return errno_error(ErrorCode::not_found, sys_errno, path);
  if (sys_errno != 0) return errno_error(sys_errno, path);
  const auto ticks = start_time_in(text);
  return ticks ? Result<std::uint64_t>{*ticks} : make_error(ErrorCode::internal, path + " has no start time");
}

UniqueFd open_pidfd(pid_t pid) { return UniqueFd{static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))}; }

UniqueFd open_process(pid_t pid, std::uint64_t start_time) {
  UniqueFd pidfd = open_pidfd(pid);
  if (!pidfd) return {};
  // Asked after the descriptor is held: from here on the pid can't become another's without our seeing the end of this one.
  const auto started = start_time_of(pid);
  if (!started || started.value() != start_time) return {};
  return pidfd;
}

bool wait_gone(const UniqueFd& pidfd, std::chrono::steady_clock::time_point until) {
  using namespace std::chrono;
  for (;;) {
    const auto left = std::max(ceil<milliseconds>(until - steady_clock::now()), milliseconds{0});
    pollfd wait{.fd = pidfd.get(), .events = POLLIN, .revents = 0};
    const int ready = ::poll(&wait, 1, static_cast<int>(left.count()));
    if (ready > 0) return true;
    if (ready == 0) return false;
    if (errno != EINTR) return false;
  }
}

std::string command_of(pid_t pid) {
  int sys_errno = 0;
  std::string text = read_small("/proc/" + std::to_string(pid) + "/comm", sys_errno);
  if (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

std::string clock_text(std::chrono::system_clock::time_point when) {
  const std::time_t seconds = std::chrono::system_clock::to_time_t(when);
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  char text[32];
  return {text, std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts)};
}

void become_plain_process(const char* name) {
  ::prctl(PR_SET_NAME, name);
  for (int number = 1; number < NSIG; ++number) ::signal(number, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

}  // namespace ordinald::mount
