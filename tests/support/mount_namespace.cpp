#include "tests/support/mount_namespace.hpp"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>

namespace ordinald::testing {
namespace {

[[noreturn]] void fail(const std::string& what) { throw std::system_error(errno, std::generic_category(), what); }

bool unshare_privately() { return ::unshare(CLONE_NEWNS) == 0 && ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0; }

}  // namespace

void enter_private_mount_namespace() {
  static bool entered = false;
  if (entered) return;
  if (!unshare_privately()) fail("a private mount namespace");
  entered = true;
}

NamespaceHolder::NamespaceHolder() {
  int ready[2];
  if (::pipe2(ready, O_CLOEXEC) != 0) fail("pipe2");
  pid_ = ::fork();
  if (pid_ < 0) fail("fork");
  if (pid_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::prctl(PR_SET_NAME, "ns-holder");
    const char answer = unshare_privately() ? 'y' : 'n';
    if (::write(ready[1], &answer, 1) != 1) ::_exit(1);
    for (;;) ::pause();
  }
  char answer = 'n';
  const bool told = ::read(ready[0], &answer, 1) == 1 && answer == 'y';
  ::close(ready[0]);
  ::close(ready[1]);
  if (!told) fail("a second mount namespace");
}

NamespaceHolder::~NamespaceHolder() {
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

}  // namespace ordinald::testing
