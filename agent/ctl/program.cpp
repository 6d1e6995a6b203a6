#include "agent/ctl/program.hpp"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>

#include "mount/unique_fd.hpp"

extern char** environ;  // NOLINT(readability-redundant-declaration)

namespace ordinald::ctl {
namespace {

using mount::ErrorCode;
using mount::UniqueFd;

constexpr std::size_t kept_output = std::size_t{1} << 20;

/// Reads until the end of the pipe or the deadline; whether it came to the end.
bool read_all(const UniqueFd& pipe, std::chrono::steady_clock::time_point until, std::string& output) {
  std::array<char, 4096> buffer{};
  while (true) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
    pollfd wanted{.fd = pipe.get(), .events = POLLIN, .revents = 0};
    const int ready = ::poll(&wanted, 1, left.count() > 0 ? static_cast<int>(left.count()) : 0);
    if (ready < 0 && errno == EINTR) {
      continue;
    }
    if (ready <= 0) {
      return false;
    }
    const ssize_t count = ::read(pipe.get(), buffer.data(), buffer.size());
    if (count <= 0) {
      return count == 0;
    }
    if (output.size() < kept_output) {
      output.append(buffer.data(), static_cast<std::size_t>(count));
    }
  }
}

}  // namespace

mount::Result<ProgramEnd> run_program(const std::vector<std::string>& argv, std::chrono::milliseconds deadline) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
    return mount::errno_error(errno, "making a pipe");
  }
  const UniqueFd read_end{ends[0]};
  UniqueFd write_end{ends[1]};
  std::vector<char*> words;
  words.reserve(argv.size() + 1);
  for (const std::string& word : argv) {
    words.push_back(const_cast<char*>(word.c_str()));  // posix_spawn(3) takes them so, and changes none
  }
  words.push_back(nullptr);

  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_adddup2(&actions, write_end.get(), STDOUT_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, write_end.get(), STDERR_FILENO);
  pid_t pid = -1;
  const int error = ::posix_spawn(&pid, argv.front().c_str(), &actions, nullptr, words.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (error != 0) {
    return mount::errno_error(error == ENOENT ? ErrorCode::not_found : ErrorCode::internal, error, "starting " + argv.front());
  }
  write_end.reset();

  ProgramEnd end;
  const bool ended = read_all(read_end, std::chrono::steady_clock::now() + deadline, end.output);
  if (!ended) {
    ::kill(pid, SIGKILL);
  }
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (!ended) {
    return mount::make_error(ErrorCode::unavailable, argv.front() + " did not end in time and was killed");
  }
  end.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return end;
}

}  // namespace ordinald::ctl
