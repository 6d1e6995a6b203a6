#include "mount/tool_namespace.hpp"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <string>
#include <string_view>
#include <vector>

#include "mount/archive.hpp"
#include "mount/channel.hpp"
#include "mount/process.hpp"

namespace ordinald::mount {
namespace {

/// What tools need of the node beside `/` itself, where it is a mount of its own.
constexpr std::array<const char*, 8> parts = {"/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc", "/proc", "/sys"};

Error failed(std::string_view step) {
  return errno_error(ErrorCode::internal, errno, "the tools' mount namespace can't be made: " + std::string{step});
}

Result<bool> is_mount(const char* path) {
  struct statx info{};
  if (::statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, 0, &info) != 0) {
    if (errno == ENOENT) return false;
    return failed(std::string{"statx "} + path);
  }
  return (info.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}

UniqueFd clone_of(const char* path) { return UniqueFd{::open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)}; }

struct Part {
  const char* path;
  UniqueFd clone;
};

/// In a process of its own: leaves it in the finished namespace, and answers that.
Result<UniqueFd> build() {
  if (::unshare(CLONE_NEWNS) != 0) return failed("unshare (has the agent CAP_SYS_ADMIN?)");
  const UniqueFd root = clone_of("/");
  if (!root) return failed("clone /");
  std::vector<Part> separate;
  for (const char* path : parts) {
    TRY(const bool is_separate, is_mount(path));
    if (!is_separate) continue;
    separate.push_back({.path = path, .clone = clone_of(path)});
    if (!separate.back().clone) return failed(std::string{"clone "} + path);
  }
  // To the namespace's own root, which is another one when the agent runs in a chroot(2): pivot_root(2) asks for a mount point.
  const UniqueFd self{::open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC)};
  if (!self || ::setns(self.get(), CLONE_NEWNS) != 0) return failed("enter /proc/self/ns/mnt");
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return failed("make / private");

  // The clone covers the old root, and is filled where it is.
  if (::move_mount(root.get(), "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) != 0) return failed("mount the clone of /");
  for (const Part& part : separate) {
    if (::move_mount(part.clone.get(), "", root.get(), part.path + 1, MOVE_MOUNT_F_EMPTY_PATH) != 0)
      return failed(std::string{"mount the clone of "} + part.path);
  }
  if (::fchdir(root.get()) != 0) return failed("enter the clone of /");
  // "." twice: the old root ends up on top of the new one, from where it is taken away with all that is mounted below it.
  if (::syscall(SYS_pivot_root, ".", ".") != 0) return failed("pivot_root");
  if (::umount2(".", MNT_DETACH) != 0) return failed("leave the node's mounts");

  mount_attr attributes{};
  attributes.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
  if (::mount_setattr(root.get(), "", AT_EMPTY_PATH | AT_RECURSIVE, &attributes, sizeof attributes) != 0) return failed("make / read-only");
  return UniqueFd{::fcntl(self.get(), F_DUPFD_CLOEXEC, 0)};
}

Result<void> make_node(const std::string& path, mode_t mode, dev_t number) {
  for (std::size_t slash = path.find('/', 5); slash != std::string::npos; slash = path.find('/', slash + 1)) {
    if (::mkdir(path.substr(0, slash).c_str(), 0755) != 0 && errno != EEXIST) return failed("mkdir for " + path);
  }
  if (::mknod(path.c_str(), mode, number) != 0) return failed("mknod " + path);
  return success();
}

}  // namespace

Result<ToolNamespace> ToolNamespace::make() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return failed("socketpair");
  const UniqueFd ours{ends[0]};
  UniqueFd theirs{ends[1]};
  const pid_t pid = ::fork();
  if (pid < 0) return failed("fork");
  if (pid == 0) {
    const auto built = build();
    const Result<void> answer = built ? Result<void>{success()} : Result<void>{built.error()};
    send_with_fd(theirs.get(), archive::pack(answer), built ? built.value().get() : -1);
    ::_exit(0);
  }
  theirs.reset();
  auto received = receive_with_fd(ours.get());
  while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  if (!received) return make_error(ErrorCode::internal, "the tools' mount namespace can't be made: the process that makes it died");
  TRYV(archive::Reader{received->bytes}.get_result<void>());
  return ToolNamespace{std::move(received->fd)};
}

Result<void> ToolNamespace::enter(const Device& device, const std::string& scratch) const {
  if (device.number != 0 && (!device.path.starts_with("/dev/") || device.path.find("/../") != std::string::npos)) {
    return make_error(ErrorCode::invalid_argument, "a device's path lies beneath /dev: " + device.path);
  }
  UniqueFd writable;
  if (!scratch.empty()) {
    writable = clone_of(scratch.c_str());
    if (!writable) return failed("clone " + scratch);
  }
  if (::setns(fd_.get(), CLONE_NEWNS) != 0) return failed("setns");
  if (::unshare(CLONE_NEWNS) != 0) return failed("unshare a tool's own");
  if (::mount("ordinald", "/dev", "tmpfs", MS_NOSUID | MS_NOEXEC, "size=64k,mode=0755") != 0) return failed("mount /dev");
  TRYV(make_node("/dev/null", S_IFCHR | 0666, makedev(1, 3)));
  if (device.number != 0) {
    TRYV(make_node(device.path, S_IFBLK | 0600, device.number));
  }
  if (writable) {
    const bool mounted =
        ::mkdir(scratch_in_tool, 0700) == 0 && ::move_mount(writable.get(), "", AT_FDCWD, scratch_in_tool, MOVE_MOUNT_F_EMPTY_PATH) == 0;
    if (!mounted) return failed(std::string{"mount "} + scratch_in_tool);
  }
  return success();
}

}  // namespace ordinald::mount
