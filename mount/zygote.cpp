#include "mount/zygote.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <utility>

#include "mount/archive.hpp"
#include "mount/channel.hpp"
#include "mount/process.hpp"
#include "mount/tool_namespace.hpp"
#include "mount/worker.hpp"
#include "mount/worker_mark.hpp"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define ORDINALD_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define ORDINALD_SANITIZED 1
#endif
#endif

namespace ordinald::mount {
namespace {

/// How long the daemon waits for a worker to be forked. The zygote waits for nothing itself, but for the tools' namespace once.
constexpr timeval fork_patience{.tv_sec = 10, .tv_usec = 0};

struct Forked {
  pid_t pid = 0;
  int sys_errno = 0;
  void fields(auto& f) { f(pid, sys_errno); }
};

/// Standard streams of a process that must not keep the daemon's own open: a hung worker would keep whoever reads them waiting.
void detach_streams() {
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null < 0) return;
  ::dup2(null, STDIN_FILENO);
  ::dup2(null, STDOUT_FILENO);
#ifndef ORDINALD_SANITIZED  // a sanitizer's report must be seen
  ::dup2(null, STDERR_FILENO);
#endif
  ::close(null);
}

/// Moves the descriptor to a number just above the standard streams, so that one close_range(2) closes all others.
void keep_only(UniqueFd& kept) {
  if (kept.get() != 3) {
    ::dup3(kept.get(), 3, O_CLOEXEC);
    kept.reset(3);
  }
  ::close_range(4, ~0U, 0);
}

/// What ends the daemon in an orderly way (a terminal's Ctrl-C, a service manager that signals every process) is the daemon's to act on:
/// zygote and workers go on until it has drained, and then see their sockets end.
void leave_signals_to_daemon() {
  ::setsid();
  for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGQUIT}) ::signal(number, SIG_IGN);
}

/// Dies with the parent. It may have died before the call, so that is looked at afterwards.
void die_with(pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(1);
}

struct ZygoteProcess {
  UniqueFd control;
  UniqueFd ended;  ///< a signalfd(2): some child has
  std::string run_dir;
  MakeKernel make_kernel;
  Result<ToolNamespace> tools;

  Forked fork_worker(UniqueFd& daemon_end) {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return {.sys_errno = errno};
    daemon_end.reset(ends[0]);
    UniqueFd worker_end{ends[1]};
    const pid_t zygote = ::getpid();
    const pid_t pid = ::fork();
    if (pid < 0) {
      const int failure = errno;
      daemon_end.reset();
      return {.sys_errno = failure};
    }
    if (pid == 0) {
      die_with(zygote);
      become_plain_process("ordinald-worker");
      leave_signals_to_daemon();
      control.reset();
      ended.reset();
      daemon_end.reset();
      serve_verbs(std::move(worker_end), run_dir, make_kernel, tools);
      ::_exit(0);
    }
    return {.pid = pid};
  }

  void serve() {
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    ::sigprocmask(SIG_BLOCK, &child, nullptr);
    ended.reset(::signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK));
    for (;;) {
      pollfd waits[2] = {{.fd = control.get(), .events = POLLIN, .revents = 0}, {.fd = ended.get(), .events = POLLIN, .revents = 0}};
      if (::poll(waits, 2, -1) < 0 && errno != EINTR) return;
      if (waits[1].revents != 0) {
        signalfd_siginfo info{};
        while (::read(ended.get(), &info, sizeof info) > 0) {
        }
        while (::waitpid(-1, nullptr, WNOHANG) > 0) {
        }
      }
      if (waits[0].revents == 0) continue;
      if (!receive_with_fd(control.get())) return;  // the daemon has ended; with us go the workers
      UniqueFd daemon_end;
      const Forked forked = fork_worker(daemon_end);
      if (!send_with_fd(control.get(), archive::pack(forked), daemon_end.get())) return;
    }
  }
};

}  // namespace

Result<Zygote> Zygote::start(const std::string& run_dir, MakeKernel make_kernel) {
  std::error_code trouble;
  std::filesystem::create_directories(run_dir, trouble);
  if (trouble) return errno_error(trouble.value(), "create " + run_dir);
  const std::string marks = marks_directory(run_dir);
  if (::mkdir(marks.c_str(), 0700) != 0 && errno != EEXIST) return errno_error(errno, "create " + marks);

  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return errno_error(errno, "socketpair for the zygote");
  UniqueFd ours{ends[0]};
  UniqueFd theirs{ends[1]};
  const pid_t daemon = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) return errno_error(errno, "fork the zygote");
  if (pid == 0) {
    die_with(daemon);
    become_plain_process("ordinald-fork");
    leave_signals_to_daemon();
    ours.release();  // closed below, with all else
    detach_streams();
    keep_only(theirs);
    if (::chdir("/") != 0) ::_exit(1);
    ::umask(022);
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);  // what tools leave behind is reaped here, also where the agent is a container's pid 1
    ZygoteProcess{
        .control = std::move(theirs), .ended = UniqueFd{}, .run_dir = run_dir, .make_kernel = make_kernel, .tools = ToolNamespace::make()}
        .serve();
    ::_exit(0);
  }
  ::setsockopt(ours.get(), SOL_SOCKET, SO_RCVTIMEO, &fork_patience, sizeof fork_patience);
  return Zygote{pid, std::move(ours), run_dir};
}

Zygote::~Zygote() {
  if (!control_) return;  // moved from
  control_.reset();       // it ends by itself
  if (const UniqueFd pidfd = open_pidfd(pid_); pidfd && !wait_gone(pidfd, std::chrono::steady_clock::now() + std::chrono::seconds{1})) {
    ::kill(pid_, SIGKILL);
  }
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

Result<Zygote::Worker> Zygote::make_worker() {
  const Error gone = make_error(ErrorCode::unavailable, "the process that makes workers (ordinald-fork, pid " + std::to_string(pid_) +
                                                            ") is gone or does not answer: restart the agent");
  if (!send_with_fd(control_.get(), "w", -1)) return gone;
  auto received = receive_with_fd(control_.get());
  if (!received) {
    ::shutdown(control_.get(), SHUT_RDWR);  // an answer that came later would be taken for the next one's
    return gone;
  }
  Forked forked;
  archive::Reader reader{received->bytes};
  reader.get(forked);
  if (!reader.done()) return gone;
  if (!received->fd && forked.sys_errno == 0) {  // it was sent, and could not be taken
    return errno_error(ErrorCode::resource_exhausted, EMFILE, "take a new worker's socket (raise the agent's limit of open files)");
  }
  if (!received->fd) {
    return errno_error(ErrorCode::resource_exhausted, forked.sys_errno,
                       "fork a worker (is there memory, and does pids.max of the agent's control group allow another process?)");
  }
  return Worker{.pid = forked.pid, .socket = std::move(received->fd)};
}

bool Zygote::alive() const {
  pollfd wait{.fd = control_.get(), .events = POLLIN, .revents = 0};
  return ::poll(&wait, 1, 0) == 0;  // it says nothing unasked, so whatever is to be read is its end
}

}  // namespace ordinald::mount
