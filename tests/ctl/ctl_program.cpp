#include "tests/ctl/ctl_program.hpp"

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <catch2/catch.hpp>
#include <cerrno>
#include <csignal>
#include <system_error>
#include <utility>

#include "tests/support/program_words.hpp"

namespace ordinald::testing {
namespace {

[[noreturn]] void fail_errno(const char* what) { throw std::system_error(errno, std::generic_category(), what); }

/// Only async-signal-safe calls: see ProgramWords.
[[noreturn]] void run_child(const ProgramWords& words) {
  ::alarm(60);  // it outlives exec
  ::execve(words.argv()[0], words.argv(), words.environment());
  ::_exit(127);
}

std::vector<std::string> settings_of(const Environment& environment) {
  std::vector<std::string> settings;
  if (!environment.contains("PATH")) settings.emplace_back("PATH=/usr/sbin:/usr/bin:/sbin:/bin");
  for (const auto& [name, value] : environment) settings.push_back(name + "=" + value);
  return settings;
}

int wait_for(pid_t pid) {
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/// Whether there may be more.
bool read_some(int fd, std::string& into) {
  std::array<char, 65536> buffer{};
  const ssize_t count = ::read(fd, buffer.data(), buffer.size());
  if (count > 0) into.append(buffer.data(), static_cast<std::size_t>(count));
  return count > 0;
}

}  // namespace

std::ostream& operator<<(std::ostream& stream, const Ran& ran) {
  return stream << "status " << ran.status << "\n-- stdout\n" << ran.out << "-- stderr\n" << ran.err;
}

Ran run_program(const std::vector<std::string>& argv, const Environment& environment) {
  std::array<int, 2> out{};
  std::array<int, 2> err{};
  if (::pipe2(out.data(), O_CLOEXEC) != 0 || ::pipe2(err.data(), O_CLOEXEC) != 0) fail_errno("pipe2");
  const ProgramWords words{argv, settings_of(environment)};
  const pid_t pid = ::fork();
  if (pid < 0) fail_errno("fork");
  if (pid == 0) {
    ::dup2(out[1], STDOUT_FILENO);
    ::dup2(err[1], STDERR_FILENO);
    run_child(words);
  }
  ::close(out[1]);
  ::close(err[1]);
  Ran ran;
  std::array<pollfd, 2> ends{{{.fd = out[0], .events = POLLIN, .revents = 0}, {.fd = err[0], .events = POLLIN, .revents = 0}}};
  while (ends[0].fd >= 0 || ends[1].fd >= 0) {
    if (::poll(ends.data(), ends.size(), -1) < 0 && errno != EINTR) fail_errno("poll");
    for (pollfd& end : ends) {
      if (end.fd >= 0 && end.revents != 0 && !read_some(end.fd, &end == ends.data() ? ran.out : ran.err)) {
        ::close(std::exchange(end.fd, -1));
      }
    }
  }
  ran.status = wait_for(pid);
  return ran;
}

Ran run_on_terminal(const std::vector<std::string>& argv, unsigned short columns, const Environment& environment,
                    const std::string& typed) {
  const winsize size{.ws_row = 50, .ws_col = columns, .ws_xpixel = 0, .ws_ypixel = 0};
  const ProgramWords words{argv, settings_of(environment)};
  int terminal = -1;
  const pid_t pid = ::forkpty(&terminal, nullptr, nullptr, &size);
  if (pid < 0) fail_errno("forkpty");
  if (pid == 0) run_child(words);
  Ran ran;
  if (!typed.empty() && ::write(terminal, typed.data(), typed.size()) != static_cast<ssize_t>(typed.size())) fail_errno("write");
  while (read_some(terminal, ran.out)) {  // ends with EIO, when the program has
  }
  ran.status = wait_for(pid);
  ::close(terminal);
  for (std::size_t i = 0; (i = ran.out.find('\r', i)) != std::string::npos;) ran.out.erase(i, 1);
  return ran;
}

Ctl::Ctl(std::string admin_socket, std::string endpoint) : admin_socket_(std::move(admin_socket)), endpoint_(std::move(endpoint)) {}

std::vector<std::string> Ctl::argv(std::vector<std::string> words) const {
  std::vector<std::string> all{ORDINALCTL_PROGRAM, "--admin-socket", admin_socket_, "--endpoint", endpoint_};
  all.insert(all.end(), words.begin(), words.end());
  return all;
}

Ran Ctl::operator()(std::vector<std::string> words) const { return run_program(argv(std::move(words))); }

nlohmann::json Ctl::json(std::vector<std::string> words, int status) const {
  words.insert(words.end(), {"--output", "json"});
  const Ran ran = run_program(argv(std::move(words)));
  INFO(ran);
  CHECK(ran.status == status);
  nlohmann::json document = ran.json();
  REQUIRE_FALSE(document.is_discarded());
  return document;
}

Ran Ctl::on_terminal(std::vector<std::string> words, unsigned short columns, const Environment& environment) const {
  return run_on_terminal(argv(std::move(words)), columns, environment);
}

}  // namespace ordinald::testing
