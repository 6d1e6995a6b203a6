#include "tests/support/workload.hpp"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <exception>
#include <stdexcept>

namespace ordinald::testing {
namespace {

constexpr int go_fd = 3;
constexpr int done_fd = 4;
constexpr char good = 'y';

[[noreturn]] void live(const std::function<void()>& act) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::prctl(PR_SET_NAME, "workload");
  char word = 'n';
  if (::read(go_fd, &word, 1) != 1) {
    ::_exit(1);
  }
  try {
    act();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "workload: %s\n", error.what());
    ::_exit(1);
  }
  if (::write(done_fd, &good, 1) != 1) {
    ::_exit(1);
  }
  for (;;) {
    ::pause();
  }
}

}  // namespace

Workload::Workload(const std::string& group, const std::function<void()>& act, const std::string& hierarchy) : cgroup_(group, hierarchy) {
  int go[2];
  int done[2];
  if (::pipe2(go, O_CLOEXEC) != 0 || ::pipe2(done, O_CLOEXEC) != 0) {
    throw std::runtime_error("a workload's pipes");
  }
  pid_ = ::fork();
  if (pid_ == 0) {
    // Far enough up that neither is overwritten by the other.
    const int its_go = ::fcntl(go[0], F_DUPFD, 1000);
    const int its_done = ::fcntl(done[1], F_DUPFD, 1000);
    ::dup2(its_go, go_fd);
    ::dup2(its_done, done_fd);
    ::close_range(done_fd + 1, ~0U, 0);
    live(act);
  }
  ::close(go[0]);
  ::close(done[1]);
  char answer = 'n';
  std::string problem;
  try {
    if (pid_ < 0) {
      throw std::runtime_error("fork");
    }
    cgroup_.add(pid_);
  } catch (const std::exception& error) {
    problem = error.what();
  }
  if (problem.empty() && (::write(go[1], &good, 1) != 1 || ::read(done[0], &answer, 1) != 1 || answer != good)) {
    problem = "it could not do what it should";
  }
  ::close(go[1]);
  ::close(done[0]);
  if (!problem.empty()) {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
    throw std::runtime_error("a workload in " + group + ": " + problem);
  }
}

Workload::~Workload() {
  cgroup_.kill_all();
  ::waitpid(pid_, nullptr, 0);
}

void leave_mount_namespace() {
  if (::unshare(CLONE_NEWNS) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    throw std::runtime_error("a mount namespace of its own");
  }
}

}  // namespace ordinald::testing
