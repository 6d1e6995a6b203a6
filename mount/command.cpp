#include "mount/command.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <ctime>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "mount/crash_point.hpp"
#include "mount/process.hpp"
#include "mount/unique_fd.hpp"

namespace ordinald::mount {
namespace {

using std::chrono::steady_clock;

/// The out-of-memory killer takes the tool before the daemon. Raising it is always allowed.
void be_killed_first() {
  const UniqueFd file{::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC)};
  if (file && ::write(file.get(), "500", 3) != 3) return;  // a kernel without it has nothing to adjust
}

/// So that a check of a damaged filesystem, which can ask for any amount, fails alone and takes neither the daemon nor a workload with it.
rlimit memory_limit(std::uint64_t asked) {
  if (asked == 0) {
    const auto pages = static_cast<std::uint64_t>(std::max(::sysconf(_SC_PHYS_PAGES), 0L));
    asked = std::max<std::uint64_t>(pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)) / 2, std::uint64_t{1} << 30U);
  }
  rlimit limit{};
  ::getrlimit(RLIMIT_AS, &limit);
  limit.rlim_cur = std::min<rlim_t>(asked, limit.rlim_max);
  return limit;
}

/// All that the child needs, made before it exists: it shares our memory until it executes the program (vfork(2)), so whatever it
/// still held at that moment would stay allocated here. In return its error needs no pipe.
struct Launch {
  const ToolRequest& request;
  const ToolNamespace& tools;
  const ToolMark& mark;
  std::string name;         ///< the program's, without its directory
  std::vector<char*> argv;  ///< ends with a null pointer
  pid_t parent = 0;
  int output = -1;  ///< for its stdout and stderr
  std::optional<Error> error = std::nullopt;
};

Result<void> prepare(const Launch& launch) {
  if (::setsid() < 0) return errno_error(errno, "setsid");
  become_plain_process(launch.name.c_str());
  TRY(const std::uint64_t started, start_time_of(::getpid()));
  TRYV(launch.mark(::getpid(), started, launch.name));
  be_killed_first();
  const rlimit no_core{.rlim_cur = 0, .rlim_max = 0};
  ::setrlimit(RLIMIT_CORE, &no_core);
  ::umask(022);

  TRYV(launch.tools.enter(launch.request.device, launch.request.scratch));
  const int null = ::open("/dev/null", O_RDONLY);
  if (null < 0) return errno_error(errno, "open /dev/null in the tool's namespace");
  if (::dup2(null, STDIN_FILENO) < 0 || ::dup2(launch.output, STDOUT_FILENO) < 0 || ::dup2(launch.output, STDERR_FILENO) < 0)
    return errno_error(errno, "dup2");
  if (::close_range(3, ~0U, 0) != 0) return errno_error(errno, "close_range");
  return success();
}

Error execute(const Launch& launch) {
  static char path[] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
  static char locale[] = "LC_ALL=C";
  static char* const environment[] = {path, locale, nullptr};
  // Last of all: what is done before still has the caller's memory, which may be larger.
  rlimit before{};
  ::getrlimit(RLIMIT_AS, &before);
  const rlimit limit = memory_limit(launch.request.memory);
  ::setrlimit(RLIMIT_AS, &limit);
  ::execve(launch.argv[0], launch.argv.data(), environment);
  const int sys_errno = errno;
  ::setrlimit(RLIMIT_AS, &before);
  if (sys_errno == ENOENT) {
    return errno_error(ErrorCode::internal, sys_errno,
                       launch.name + " is not installed (on this node, or in the agent's image): " + launch.request.argv[0]);
  }
  return errno_error(ErrorCode::internal, sys_errno, "execute " + launch.request.argv[0]);
}

/// The child's way to its program.
[[noreturn, gnu::noinline]] void run_child(Launch& launch) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != launch.parent) ::_exit(127);  // it died before the line above: nobody would end us
  if (auto prepared = prepare(launch); !prepared) {
    launch.error = prepared.error();
  } else {
    launch.error = execute(launch);
  }
  ::_exit(127);
}

/// Returns once the program has begun, or couldn't. vfork(2) and not fork(2): it saves 0.1 ms, more in a bigger process. What the
/// child changes besides memory (descriptors, working directory, namespaces, signals) is its own. A frame of its own, because the child
/// may overwrite what it likes of it.
[[gnu::noinline]] pid_t start(Launch& launch) {
  const pid_t pid = ::vfork();      // NOLINT(clang-analyzer-security.insecureAPI.vfork,bugprone-unsafe-functions)
  if (pid == 0) run_child(launch);  // NOLINT(clang-analyzer-unix.Vfork)
  return pid;
}

void keep_end(std::string& output) {
  if (output.size() > kept_output) output.erase(0, output.size() - kept_output);
}

/// Reads once. False: nothing more will come.
bool read_some(int pipe, std::string& output) {
  std::array<char, kept_output> chunk;
  const ssize_t got = ::read(pipe, chunk.data(), chunk.size());
  if (got < 0) return errno == EINTR;
  output.append(chunk.data(), static_cast<std::size_t>(got));
  if (output.size() > 4 * kept_output) keep_end(output);
  return got > 0;
}

/// Until the program exits (true) or its time is up. A descendant that keeps the pipe open is not waited for.
bool follow(int output_pipe, int pidfd, steady_clock::time_point deadline, std::string& output) {
  std::array<pollfd, 2> waits = {pollfd{.fd = pidfd, .events = POLLIN, .revents = 0},
                                 pollfd{.fd = output_pipe, .events = POLLIN, .revents = 0}};
  for (;;) {
    const auto left = std::max(deadline - steady_clock::now(), steady_clock::duration{0});
    const auto seconds = std::chrono::floor<std::chrono::seconds>(left);
    const timespec span{.tv_sec = seconds.count(), .tv_nsec = std::chrono::nanoseconds{left - seconds}.count()};
    const int ready = ::ppoll(waits.data(), waits.size(), &span, nullptr);
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return false;
    if (waits[0].revents != 0) return true;
    if (!read_some(output_pipe, output)) waits[1].fd = -1;
    if (steady_clock::now() >= deadline) return false;  // one that never stops writing has a deadline all the same
  }
}

/// What is in the pipe now that its writers are dead. Bounded: one that left the process group could write for ever.
void drain(int output_pipe, std::string& output) {
  ::fcntl(output_pipe, F_SETFL, O_NONBLOCK);
  for (int reads = 0; reads < 64 && read_some(output_pipe, output); ++reads) {
  }
  keep_end(output);
}

}  // namespace

Result<ToolOutcome> run_command(const ToolRequest& request, const ToolNamespace& tools, const ToolMark& mark) {
  if (request.argv.empty() || !request.argv[0].starts_with('/')) {
    return make_error(ErrorCode::invalid_argument, "bug: a program is named by its absolute path");
  }
  const auto begin = steady_clock::now();
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return errno_error(errno, "pipe2 for " + request.argv[0]);
  const UniqueFd output{ends[0]};
  UniqueFd output_of_child{ends[1]};
  Launch launch{.request = request,
                .tools = tools,
                .mark = mark,
                .name = request.argv[0].substr(request.argv[0].rfind('/') + 1),
                .argv = {},
                .parent = ::getpid(),
                .output = output_of_child.get()};
  for (const std::string& word : request.argv) launch.argv.push_back(const_cast<char*>(word.c_str()));  // execve(2) changes nothing
  launch.argv.push_back(nullptr);

  const pid_t pid = start(launch);
  if (pid < 0) return errno_error(errno, "vfork for " + request.argv[0]);
  output_of_child.reset();
  acted("starting", launch.name);

  ToolOutcome outcome;
  int pidfd_errno = 0;
  if (!launch.error) {
    const UniqueFd pidfd = open_pidfd(pid);
    // Without one (no descriptor left) it can't be followed: it is killed, and the caller told.
    pidfd_errno = pidfd ? 0 : errno;
    outcome.timed_out = !pidfd || !follow(output.get(), pidfd.get(), begin + request.deadline, outcome.output);
    ::kill(-pid, SIGKILL);  // before it is reaped: as long as it is a zombie its number is no other group's
  }
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (launch.error) return *std::move(launch.error);
  if (pidfd_errno != 0) return errno_error(pidfd_errno, "pidfd_open for " + request.argv[0]);
  acted("reaping", launch.name);
  drain(output.get(), outcome.output);

  if (WIFEXITED(status)) outcome.exit_status = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) outcome.signal = WTERMSIG(status);
  outcome.took = std::chrono::duration_cast<std::chrono::milliseconds>(steady_clock::now() - begin);
  return outcome;
}

}  // namespace ordinald::mount
