// Preloaded into a filesystem's tool: half of its STOP_AT-th write to a block device is done (whole pages, since within one a killed
// process tears nothing), then the process sends itself STOP_SIGNAL. Before that, and at the end, a line goes to the fifo STOP_EVENTS.
// System calls only: it is inside somebody else's program.
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace {

int writes = 0;

int setting(const char* name) {
  const char* text = std::getenv(name);
  return text == nullptr ? 0 : std::atoi(text);
}

void tell(const char* what, int number) {
  const char* path = std::getenv("STOP_EVENTS");
  const int fd = path == nullptr ? -1 : ::open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return;
  char line[64];
  const int size = std::snprintf(line, sizeof line, "%s %d\n", what, number);
  if (::syscall(SYS_write, fd, line, size) != size) ::abort();
  ::close(fd);
}

/// Whether this is the write of which just half is to be done.
bool is_the_one(int fd) {
  struct stat info{};
  return ::fstat(fd, &info) == 0 && S_ISBLK(info.st_mode) && ++writes == setting("STOP_AT");
}

size_t half(size_t count) { return count / 2 / 4096 * 4096; }

void stop() {
  tell("at", ::getpid());
  ::kill(::getpid(), setting("STOP_SIGNAL"));
}

__attribute__((destructor)) void at_end() { tell("ended", writes); }

}  // namespace

extern "C" {

ssize_t pwrite64(int fd, const void* bytes, size_t count, off64_t offset) {
  if (is_the_one(fd)) {
    ::syscall(SYS_pwrite64, fd, bytes, half(count), offset);
    stop();
  }
  return ::syscall(SYS_pwrite64, fd, bytes, count, offset);
}
ssize_t pwrite(int fd, const void* bytes, size_t count, off_t offset) { return pwrite64(fd, bytes, count, offset); }

ssize_t write(int fd, const void* bytes, size_t count) {
  if (is_the_one(fd)) {
    const off_t here = ::lseek(fd, 0, SEEK_CUR);
    ::syscall(SYS_pwrite64, fd, bytes, half(count), here);
    stop();
  }
  return ::syscall(SYS_write, fd, bytes, count);
}

ssize_t pwritev64(int fd, const struct iovec* parts, int count, off64_t offset) {
  if (is_the_one(fd)) {
    ::syscall(SYS_pwritev, fd, parts, count / 2, offset, 0);
    stop();
  }
  return ::syscall(SYS_pwritev, fd, parts, count, offset, 0);
}
ssize_t pwritev(int fd, const struct iovec* parts, int count, off_t offset) { return pwritev64(fd, parts, count, offset); }
}
