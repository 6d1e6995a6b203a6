/// `ordinald-test-fuse CONTROL DIRECTORY MOUNTPOINT READY_FD`: shows the directory at the mount point, through FUSE, and does to it what
/// the control file asks (sick_control.hpp). A byte on READY_FD says that it serves. Ends with its parent, or by SIGKILL; either aborts the
/// connection, so nobody waits for it any longer.
#define FUSE_USE_VERSION 312

#include <dirent.h>
#include <fcntl.h>
#include <fuse.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "tests/faults/sick_control.hpp"

namespace {

using namespace ordinald::testing;

SickControl* control = nullptr;
std::string directory;
int ready_fd = -1;

std::string real(const char* path) { return directory + path; }
int answer(long result) { return result < 0 ? -errno : static_cast<int>(result); }
int descriptor(const fuse_file_info* file) { return static_cast<int>(file->fh); }

long futex(std::atomic<std::uint32_t>& word, int operation, std::uint32_t value) {
  return ::syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&word), operation, value, nullptr, nullptr, 0);
}

/// Waits while the operation is held; then 0, or the error that it is to have.
int fault(std::uint32_t op, const char* path, std::uint64_t offset = 0, std::uint64_t size = SickControl::everywhere) {
  if (control->only[0] != '\0' && std::strstr(path, control->only) == nullptr) return 0;
  bool counted = false;
  for (std::uint32_t held = control->held; (held & op) != 0; held = control->held) {
    if (!counted) {
      ++control->waiting;
      futex(control->waiting, FUTEX_WAKE, INT32_MAX);
      counted = true;
    }
    futex(control->held, FUTEX_WAIT, held);
  }
  if ((control->failing & op) == 0) return 0;
  const std::uint64_t end = size == SickControl::everywhere ? size : offset + size;
  if (offset >= control->end || end <= control->begin) return 0;
  for (std::uint64_t passing = control->passing; passing > 0;)
    if (control->passing.compare_exchange_weak(passing, passing - 1)) return 0;
  ++control->refused;
  return -static_cast<int>(control->error.load());
}

void* on_init(fuse_conn_info* connection, fuse_config* config) {
  config->use_ino = 1;
  config->nullpath_ok = 0;
  connection->max_background = 64;
  if (::write(ready_fd, "r", 1) != 1) std::exit(1);
  ::close(ready_fd);
  return nullptr;
}

int on_getattr(const char* path, struct stat* status, fuse_file_info* /*file*/) {
  const int error = fault(sick_look, path);
  return error != 0 ? error : answer(::lstat(real(path).c_str(), status));
}

int on_open(const char* path, fuse_file_info* file) {
  if (const int error = fault(sick_look, path); error != 0) return error;
  const int fd = ::open(real(path).c_str(), (file->flags & ~O_DIRECT) | O_CLOEXEC);
  file->fh = static_cast<std::uint64_t>(fd);
  return fd < 0 ? -errno : 0;
}

int on_create(const char* path, mode_t mode, fuse_file_info* file) {
  const int fd = ::open(real(path).c_str(), (file->flags & ~O_DIRECT) | O_CREAT | O_CLOEXEC, mode);
  file->fh = static_cast<std::uint64_t>(fd);
  return fd < 0 ? -errno : 0;
}

int on_release(const char* /*path*/, fuse_file_info* file) { return answer(::close(descriptor(file))); }

int on_read(const char* path, char* buffer, std::size_t size, off_t offset, fuse_file_info* file) {
  const int error = fault(sick_read, path, static_cast<std::uint64_t>(offset), size);
  return error != 0 ? error : answer(::pread(descriptor(file), buffer, size, offset));
}

int on_write(const char* path, const char* buffer, std::size_t size, off_t offset, fuse_file_info* file) {
  const int error = fault(sick_write, path, static_cast<std::uint64_t>(offset), size);
  return error != 0 ? error : answer(::pwrite(descriptor(file), buffer, size, offset));
}

int on_fsync(const char* path, int /*data_only*/, fuse_file_info* file) {
  const int error = fault(sick_sync, path);
  return error != 0 ? error : answer(::fsync(descriptor(file)));
}

int on_fallocate(const char* path, int mode, off_t offset, off_t size, fuse_file_info* file) {
  if (const int error = fault(sick_allocate, path, static_cast<std::uint64_t>(offset), static_cast<std::uint64_t>(size)); error != 0)
    return error;
  const auto limit = static_cast<off_t>(control->allocate_limit.load());
  const bool beyond = limit != 0 && (mode & FALLOC_FL_PUNCH_HOLE) == 0 && offset + size > limit;
  if (beyond) size = std::max<off_t>(limit - offset, 1);  // as a file system does that fills up in the middle
  if (::fallocate(descriptor(file), mode, offset, size) != 0) return -errno;
  return beyond ? -ENOSPC : 0;
}

off_t on_lseek(const char* /*path*/, off_t offset, int whence, fuse_file_info* file) {
  const off_t found = ::lseek(descriptor(file), offset, whence);
  return found < 0 ? -errno : found;
}

int on_truncate(const char* path, off_t size, fuse_file_info* /*file*/) { return answer(::truncate(real(path).c_str(), size)); }
int on_unlink(const char* path) { return answer(::unlink(real(path).c_str())); }
int on_rename(const char* from, const char* to, unsigned flags) {
  return answer(::renameat2(AT_FDCWD, real(from).c_str(), AT_FDCWD, real(to).c_str(), flags));
}
int on_mkdir(const char* path, mode_t mode) { return answer(::mkdir(real(path).c_str(), mode)); }
int on_chmod(const char* path, mode_t mode, fuse_file_info* /*file*/) { return answer(::chmod(real(path).c_str(), mode)); }
int on_fsyncdir(const char* /*path*/, int /*data_only*/, fuse_file_info* /*file*/) { return 0; }

int on_readdir(const char* path, void* buffer, fuse_fill_dir_t fill, off_t /*offset*/, fuse_file_info* /*file*/, fuse_readdir_flags /*f*/) {
  DIR* const listing = ::opendir(real(path).c_str());
  if (listing == nullptr) return -errno;
  while (const dirent* entry = ::readdir(listing)) fill(buffer, entry->d_name, nullptr, 0, fuse_fill_dir_flags{});
  ::closedir(listing);
  return 0;
}

int on_statfs(const char* path, struct statvfs* status) {
  if (const int error = fault(sick_look, path); error != 0) return error;
  if (::statvfs(real(path).c_str(), status) != 0) return -errno;
  if (const std::uint64_t free = control->free_bytes; free != 0) status->f_bavail = status->f_bfree = free / status->f_frsize;
  return 0;
}

int on_getxattr(const char* path, const char* name, char* value, std::size_t size) {
  const int error = fault(sick_look, path);
  return error != 0 ? error : answer(::lgetxattr(real(path).c_str(), name, value, size));
}
int on_setxattr(const char* path, const char* name, const char* value, std::size_t size, int flags) {
  return answer(::lsetxattr(real(path).c_str(), name, value, size, flags));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) return 2;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  const int control_fd = ::open(argv[1], O_RDWR | O_CLOEXEC);
  void* const memory = ::mmap(nullptr, sizeof(SickControl), PROT_READ | PROT_WRITE, MAP_SHARED, control_fd, 0);
  if (memory == MAP_FAILED) return 2;
  control = static_cast<SickControl*>(memory);
  directory = argv[2];
  ready_fd = std::atoi(argv[4]);

  fuse_operations operations{};
  operations.init = on_init;
  operations.getattr = on_getattr;
  operations.open = on_open;
  operations.create = on_create;
  operations.release = on_release;
  operations.read = on_read;
  operations.write = on_write;
  operations.fsync = on_fsync;
  operations.fsyncdir = on_fsyncdir;
  operations.fallocate = on_fallocate;
  operations.lseek = on_lseek;
  operations.truncate = on_truncate;
  operations.unlink = on_unlink;
  operations.rename = on_rename;
  operations.mkdir = on_mkdir;
  operations.chmod = on_chmod;
  operations.readdir = on_readdir;
  operations.statfs = on_statfs;
  operations.getxattr = on_getxattr;
  operations.setxattr = on_setxattr;

  char* words[] = {argv[0], nullptr};
  fuse_args arguments{.argc = 1, .argv = words, .allocated = 0};
  fuse* const session = fuse_new(&arguments, &operations, sizeof operations, nullptr);
  if (session == nullptr || fuse_mount(session, argv[3]) != 0) return 1;
  fuse_loop_config* const loop = fuse_loop_cfg_create();
  fuse_loop_cfg_set_max_threads(loop, 512);  // each operation that is held has one
  return fuse_loop_mt(session, loop);
}
