#include "agent/ctl/local_checks.hpp"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timex.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>

#include "agent/ctl/admin_client.hpp"
#include "agent/ctl/program.hpp"
#include "mount/mountinfo.hpp"
#include "mount/unique_fd.hpp"

namespace ordinald::ctl {
namespace {

namespace fs = std::filesystem;

bool exists(const std::string& path) {
  std::error_code error;
  return fs::exists(path, error);
}

std::string text_of(const std::string& path) {
  std::ifstream file{path};
  return {std::istreambuf_iterator<char>{file}, {}};
}

Check check_kernel(const Node& node) {
  int major = 0;
  int minor = 0;
  std::sscanf(node.kernel_release.c_str(), "%d.%d", &major, &minor);
  Check check{.name = "kernel", .verdict = Verdict::ok, .detail = "Linux " + node.kernel_release, .remedy = {}};
  // mount_setattr(2) is of 5.12, a disk's sequence number of 5.15.
  if (major < 5 || (major == 5 && minor < 15)) {
    check.verdict = Verdict::failed;
    check.detail += ", older than 5.15: it can't prove that a device is still the same one";
    check.remedy = "boot Debian 12's kernel (6.1) or a later one";
  } else if (::syscall(SYS_mount_setattr, -1, "", 0, nullptr, 0) != 0 && errno == ENOSYS) {
    check.verdict = Verdict::failed;
    check.detail += ", without mount_setattr(2): a sandbox (seccomp) hides it";
    check.remedy =
        "run the agent without a system call filter, or with one that lets fsopen, fsmount, open_tree, move_mount and "
        "mount_setattr through";
  }
  return check;
}

Check check_loops(const Node& node) {
  if (exists(node.root + "/dev/loop-control")) {
    return {.name = "loop devices", .verdict = Verdict::ok, .detail = "/dev/loop-control is there", .remedy = {}};
  }
  return {.name = "loop devices",
          .verdict = Verdict::failed,
          .detail = "/dev/loop-control is missing: no image pool can attach a volume",
          .remedy = "modprobe loop, and `echo loop > /etc/modules-load.d/loop.conf` to keep it; in a container, give it the host's /dev"};
}

/// Whether the kernel has the filesystem, now or as a module that it would load.
bool has_filesystem(const Node& node, const std::string& type) {
  const std::string known = text_of(node.root + "/proc/filesystems");
  if (known.find("\t" + type + "\n") != std::string::npos) {
    return true;
  }
  const std::string modules = node.root + "/lib/modules/" + node.kernel_release;
  const std::string file = "/" + type + ".ko";
  return text_of(modules + "/modules.dep").find(file) != std::string::npos ||
         text_of(modules + "/modules.builtin").find(file) != std::string::npos;
}

Check check_filesystems(const Node& node) {
  std::string there;
  std::string missing;
  for (const std::string type : {"ext4", "xfs", "btrfs"}) {
    std::string& list = has_filesystem(node, type) ? there : missing;
    list += (list.empty() ? "" : ", ") + type;
  }
  if (missing.empty()) {
    return {.name = "filesystems", .verdict = Verdict::ok, .detail = there, .remedy = {}};
  }
  return {.name = "filesystems",
          .verdict = there.empty() ? Verdict::failed : Verdict::warning,
          .detail = "the kernel has no " + missing + (there.empty() ? "" : " (it has " + there + ")"),
          .remedy = "install the kernel's modules (linux-image, not its cloud build), or don't ask for volumes with " + missing};
}

struct Tool {
  const char* path;
  const char* flag;  ///< that makes it print its version
  const char* package;
  const char* what_for;
};

constexpr std::array<Tool, 7> tools{{
    {"/usr/sbin/mkfs.ext4", "-V", "e2fsprogs", "ext4 volumes"},
    {"/usr/sbin/e2fsck", "-V", "e2fsprogs", "ext4 volumes"},
    {"/usr/sbin/resize2fs", "", "e2fsprogs", "growing ext4"},
    {"/usr/sbin/e2undo", "", "e2fsprogs", "growing ext4"},
    {"/usr/sbin/mkfs.xfs", "-V", "xfsprogs", "xfs volumes"},
    {"/usr/sbin/xfs_repair", "-V", "xfsprogs", "repairing xfs by hand"},
    {"/usr/bin/btrfs", "version", "btrfs-progs", "btrfs volumes"},
}};

/// The first of the words that it prints that looks like `1.47.0` or `v6.2`.
std::string version_of(const std::string& path, const std::string& flag) {
  const auto end = run_program({path, flag}, std::chrono::seconds{5});
  if (!end) {
    return "(does not run: " + end.error().message + ")";
  }
  std::istringstream words{end.value().output};
  for (std::string word; words >> word;) {
    const std::string number = word.substr(word.starts_with('v') ? 1 : 0);
    if (!number.empty() && number.front() >= '0' && number.front() <= '9' && number.find('.') != std::string::npos) {
      return number;
    }
  }
  return "(of an unknown version)";
}

Check check_tools(const Node& node) {
  std::string there;
  std::string missing;
  std::string packages;
  bool ext4 = true;
  for (const Tool& tool : tools) {
    const std::string path = node.root + tool.path;
    if (!exists(path)) {
      ext4 = ext4 && std::strcmp(tool.package, "e2fsprogs") != 0;
      missing += (missing.empty() ? "" : ", ") + std::string{tool.path} + " (" + tool.what_for + ")";
      if (packages.find(tool.package) == std::string::npos) {
        packages += std::string{" "} + tool.package;
      }
    } else if (*tool.flag != '\0') {
      there += (there.empty() ? "" : ", ") + fs::path{tool.path}.filename().string() + " " + version_of(path, tool.flag);
    }
  }
  if (missing.empty()) {
    return {.name = "tools", .verdict = Verdict::ok, .detail = there, .remedy = {}};
  }
  return {.name = "tools",
          .verdict = ext4 ? Verdict::warning : Verdict::failed,
          .detail = "missing: " + missing + (there.empty() ? "" : "; there: " + there),
          .remedy = "apt-get install" + packages};
}

Check check_user(const Node& node) {
  if (node.user == 0) {
    return {.name = "permissions", .verdict = Verdict::ok, .detail = "ordinalctl runs as root", .remedy = {}};
  }
  return {.name = "permissions",
          .verdict = Verdict::warning,
          .detail = "ordinalctl runs as user " + std::to_string(node.user) +
                    ": the agent's sockets are root's alone, and half of this can't be seen",
          .remedy = "sudo ordinalctl doctor"};
}

Check check_propagation(const Node& node) {
  // The namespace of the node's first process: a service's own and a container's differ from it.
  const std::string table = text_of(node.root + "/proc/1/mountinfo");
  // `36 35 98:0 / / rw shared:1 - ext4 …`: the optional fields end at the dash; of several mounts on / the last is seen.
  Check check{.name = "mount propagation", .verdict = Verdict::warning, .detail = "/ is private", .remedy = {}};
  bool seen = false;
  for (std::size_t begin = 0; begin < table.size();) {
    const std::size_t end = std::min(table.find('\n', begin), table.size());
    const std::string line = table.substr(begin, end - begin);
    begin = end + 1;
    std::array<char, 4097> mount_point{};
    if (std::sscanf(line.c_str(), "%*s %*s %*s %*s %4096s", mount_point.data()) == 1 && std::strcmp(mount_point.data(), "/") == 0) {
      seen = true;
      check.verdict = line.substr(0, line.find(" - ")).find(" shared:") == std::string::npos ? Verdict::warning : Verdict::ok;
    }
  }
  if (check.verdict == Verdict::ok) {
    check.detail = "/ is shared: what the agent mounts is seen by services with a mount namespace of their own";
    return check;
  }
  check.detail = seen ? "/ is private: what the agent mounts later is not seen by a service or container that was started before with a "
                        "mount namespace of its own"
                      : "the mount table of process 1 can't be read";
  check.remedy =
      seen ? "mount --make-rshared / (systemd does so at boot; in a container, mount the volumes' directory with Bidirectional propagation)"
           : "sudo ordinalctl doctor, in the host's pid namespace";
  return check;
}

Check check_udev(const Node& node) {
  if (exists(node.root + "/run/udev/control")) {
    return {.name = "udev", .verdict = Verdict::ok, .detail = "it runs", .remedy = {}};
  }
  return {.name = "udev",
          .verdict = Verdict::warning,
          .detail =
              "it does not run here (no /run/udev/control): links such as /dev/disk/by-id are missing, and events of disks don't come. "
              "Volumes on images need none of that",
          .remedy = "systemctl start systemd-udevd; in a container, mount the host's /run/udev"};
}

Check check_clock() {
  timex now{};
  const int state = ::adjtimex(&now);
  const auto seconds = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  constexpr std::time_t year_2025 = 1735689600;
  if (seconds < year_2025) {
    return {.name = "clock",
            .verdict = Verdict::failed,
            .detail = "the clock stands before 2025: times in records and the log are wrong",
            .remedy = "timedatectl set-time, then a time service such as systemd-timesyncd or chrony"};
  }
  if (state < 0 || (now.status & STA_UNSYNC) != 0) {
    return {.name = "clock",
            .verdict = Verdict::warning,
            .detail = "it is not synchronised: times in records and the log may not fit those of other nodes",
            .remedy = "timedatectl set-ntp true (systemd-timesyncd), or chrony"};
  }
  return {.name = "clock", .verdict = Verdict::ok, .detail = "synchronised", .remedy = {}};
}

}  // namespace

std::string_view to_string(Verdict verdict) {
  switch (verdict) {
    case Verdict::ok:
      return "ok";
    case Verdict::warning:
      return "warning";
    case Verdict::failed:
      return "failed";
  }
  return "failed";
}

Node this_node() {
  utsname names{};
  ::uname(&names);
  return {.root = "", .kernel_release = names.release, .user = ::geteuid()};
}

Check check_socket(const std::string& name, const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  int error = ENAMETOOLONG;
  if (path.size() < sizeof address.sun_path) {
    path.copy(address.sun_path, path.size());
    const mount::UniqueFd socket{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    error = ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ? 0 : errno;
  }
  if (error != 0) {
    const bool permission = error == EACCES || error == EPERM;
    return {
        .name = name,
        .verdict = permission ? Verdict::warning : Verdict::failed,
        .detail = unreachable(path, error).message,
        .remedy = permission ? "sudo ordinalctl doctor" : "systemctl start ordinald, and `journalctl -u ordinald` where it does not stay"};
  }
  struct stat status{};
  if (::stat(path.c_str(), &status) == 0 && (status.st_mode & 0077U) != 0) {
    return {.name = name,
            .verdict = Verdict::failed,
            .detail = path + " is open to others than its owner: whoever connects can take any volume",
            .remedy = "chmod 0600 " + path};
  }
  return {.name = name, .verdict = Verdict::ok, .detail = "an agent listens on " + path, .remedy = {}};
}

std::vector<Check> local_checks(const Node& node) {
  return {check_kernel(node), check_loops(node),       check_filesystems(node), check_tools(node),
          check_user(node),   check_propagation(node), check_udev(node),        check_clock()};
}

}  // namespace ordinald::ctl
