#include "tests/faults/sick_directory.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/futex.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <new>
#include <stdexcept>
#include <string>
#include <system_error>

#include "tests/support/rig.hpp"

namespace ordinald::testing {
namespace {

[[noreturn]] void fail_errno(const std::string& what) { throw std::system_error(errno, std::generic_category(), what); }

long futex(std::atomic<std::uint32_t>& word, int operation, std::uint32_t value) {
  return ::syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&word), operation, value, nullptr, nullptr, 0);
}

}  // namespace

SickDirectory::SickDirectory(const fs::path& path) : path_(path), temp_("sick"), below_(temp_.path() / "files") {
  fs::create_directories(below_);
  fs::create_directories(path_);
  const std::string control = temp_.path() / "control";
  const int fd = ::open(control.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0 || ::ftruncate(fd, sizeof(SickControl)) != 0) fail_errno("open " + control);
  void* const memory = ::mmap(nullptr, sizeof(SickControl), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  ::close(fd);
  if (memory == MAP_FAILED) fail_errno("mmap " + control);
  control_ = new (memory) SickControl;

  int ready[2];
  if (::pipe(ready) != 0) fail_errno("pipe");
  ::fcntl(ready[0], F_SETFD, FD_CLOEXEC);
  const std::string ready_fd = std::to_string(ready[1]);
  const char* const argv[] = {ORDINALD_TEST_FUSE, control.c_str(), below_.c_str(), path_.c_str(), ready_fd.c_str(), nullptr};
  pid_ = ::fork();
  if (pid_ < 0) fail_errno("fork");
  if (pid_ == 0) {
    ::setpgid(0, 0);
    ::execv(argv[0], const_cast<char* const*>(argv));
    ::_exit(127);
  }
  ::close(ready[1]);
  char byte = 0;
  const bool serves = ::read(ready[0], &byte, 1) == 1;
  ::close(ready[0]);
  if (!serves) throw std::runtime_error(std::string(argv[0]) + " did not begin to serve " + path_.string());
}

SickDirectory::~SickDirectory() {
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
  ::munmap(control_, sizeof(SickControl));
}

void SickDirectory::fail(std::uint32_t ops, int error, std::uint64_t begin, std::uint64_t end) {
  control_->error = static_cast<std::uint32_t>(error);
  control_->begin = begin;
  control_->end = end;
  control_->failing = ops;
}

void SickDirectory::fail_after(std::uint32_t ops, std::uint64_t passing) {
  control_->passing = passing;
  fail(ops);
}

void SickDirectory::hold(std::uint32_t ops) {
  control_->held = ops;
  futex(control_->held, FUTEX_WAKE, INT32_MAX);
}

void SickDirectory::wait_for_held(std::uint32_t before) {
  for (std::uint32_t now = control_->waiting; now == before; now = control_->waiting) futex(control_->waiting, FUTEX_WAIT, now);
}

void SickDirectory::heal() {
  control_->failing = 0;
  control_->passing = 0;
  control_->free_bytes = 0;
  control_->allocate_limit = 0;
  hold(0);
}

void SickDirectory::freeze() {
  ::kill(pid_, SIGSTOP);
  int status = 0;
  ::waitpid(pid_, &status, WUNTRACED);
}

void SickDirectory::thaw() { ::kill(pid_, SIGCONT); }

FreezableDirectory::FreezableDirectory(const fs::path& path, std::int64_t size) : path_(path), temp_("frozen") {
  fs::create_directories(path_);
  const std::string image = temp_.path() / "image";
  write_file(image, "");
  fs::resize_file(image, static_cast<std::uintmax_t>(size));
  if (run_tool({"mkfs.ext4", "-q", "-F", image}) != 0 || run_tool({"mount", "-o", "loop", image, path_}) != 0)
    throw std::runtime_error("can't mount " + image + " at " + path_.string());
}

FreezableDirectory::~FreezableDirectory() {
  if (frozen_) thaw();
}

void FreezableDirectory::freeze() {
  const int fd = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  const bool done = fd >= 0 && ::ioctl(fd, FIFREEZE, 0) == 0;
  ::close(fd);
  if (!done) fail_errno("FIFREEZE of " + path_.string());
  frozen_ = true;
}

void FreezableDirectory::thaw() {
  const int fd = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0 || ::ioctl(fd, FITHAW, 0) != 0) std::perror("FITHAW");
  ::close(fd);
  frozen_ = false;
}

}  // namespace ordinald::testing
