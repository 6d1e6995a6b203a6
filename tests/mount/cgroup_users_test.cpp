/// Who of a workload still has a volume: what counts, where its control group may lie, and what can't be seen.

#include <catch2/catch.hpp>

#include <fcntl.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <functional>
#include <stdexcept>
#include <thread>

#include "mount/cgroup_users.hpp"
#include "tests/mount/linux_node.hpp"
#include "tests/support/workload.hpp"

using namespace ordinald;
using namespace ordinald::testing;
namespace fs = std::filesystem;

namespace {

constexpr const char* cgroups = "/sys/fs/cgroup";

void need(bool done, const char* what) {
  if (!done) {
    throw std::runtime_error(what);
  }
}

std::string uid() { return "6ba7b810-9dad-11d1-80b4-" + std::to_string(1'000'000'000'000 + ::getpid()); }
std::string pod() { return "pod" + uid(); }

mount::CgroupUsers find(const mount::Device& device, const std::string& root = cgroups, const std::string& name = pod()) {
  return must(mount::find_cgroup_users({.names = {name}, .device = device}, root));
}
mount::CgroupUsers find_btrfs(const mount::Device& device, const std::string& uuid) {
  return must(mount::find_cgroup_users({.names = {pod()}, .device = device, .btrfs_uuid = uuid}, cgroups));
}

/// A mount of the test's; taken away with it.
class Mounted {
 public:
  Mounted(const std::string& type, const fs::path& at, const std::string& options = {}) : at_(at) {
    fs::create_directories(at);
    need(::mount("none", at.c_str(), type.c_str(), 0, options.c_str()) == 0, "mounting");
  }
  Mounted(const Mounted&) = delete;
  Mounted& operator=(const Mounted&) = delete;
  ~Mounted() { ::umount2(at_.c_str(), MNT_DETACH); }

 private:
  fs::path at_;
};

/// Runs it in a process of its own, and answers the number that it answers.
int apart(const std::function<int()>& work) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    try {
      ::_exit(work());
    } catch (const std::exception& error) {
      std::fprintf(stderr, "apart: %s\n", error.what());
      ::_exit(255);
    }
  }
  int status = 0;
  ::waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 254;
}

bool skipped(bool possible, const char* why) {
  if (!possible) {
    std::printf("SKIPPED: %s\n", why);
  }
  return !possible;
}
bool no_groups() { return skipped(TestCgroup::possible(), "control groups can't be made here"); }

bool sees_host_pids() {
  struct stat status{};
  return ::stat("/proc/self/ns/pid", &status) == 0 && status.st_ino == 0xEFFFFFFC;
}

/// Of version 1, by itself; false where it can't be had (all is unified).
bool can_mount(const std::string& type, const std::string& options) {
  const TempDir temp{"probe"};
  const bool can = ::mount("none", temp.path().c_str(), type.c_str(), 0, options.c_str()) == 0;
  ::umount2(temp.path().c_str(), MNT_DETACH);
  return can;
}

}  // namespace

TEST_CASE("a process of the group has the volume when it is mounted for it, or open", "[root][cgroup]") {
  if (no_groups()) return;
  LinuxNode node;
  const auto volume = node.volume("v", "ext4", '1', 32 * LinuxNode::mib);
  must(node.mount(volume, "stage"));
  const fs::path stage = node.work("stage");
  const fs::path file = stage / "file";
  std::ofstream{file} << std::string(8192, 'x');

  struct Case {
    const char* how;
    std::function<void()> act;
    std::string at;
  };
  const auto open_file = [&] { need(::open(file.c_str(), O_RDWR) >= 0, "open"); };
  for (const Case& c : std::vector<Case>{
           {"an open file", open_file, file},
           {"a working directory", [&] { need(::chdir(stage.c_str()) == 0, "chdir"); }, stage},
           {"a root directory", [&] { need(::chroot(stage.c_str()) == 0, "chroot"); }, stage},
           {"a mapped file, closed",
            [&] {
              const int fd = ::open(file.c_str(), O_RDWR);
              need(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED, "mmap");
              ::close(fd);
            },
            "a mapped file"},
           {"a deleted file",
            [&] { need(::open((stage / "gone").c_str(), O_RDWR | O_CREAT, 0600) >= 0 && ::unlink((stage / "gone").c_str()) == 0, "open"); },
            (stage / "gone").string() + " (deleted)"},
           {"the device's node", [&] { need(::open(volume.device.path.c_str(), O_RDONLY) >= 0, "open"); }, volume.device.path},
           {"a mount namespace", [] { leave_mount_namespace(); }, stage},
           {"a thread whose process's first has ended",
            [&] {
              std::thread{[&] {
                open_file();
                const char good = 'y';
                (void)!::write(4, &good, 1);
                for (;;) ::pause();
              }}.detach();
              ::syscall(SYS_exit, 0);  // this thread alone
            },
            file},
           {"a forked child's",
            [&] {
              if (::fork() == 0) {
                ::prctl(PR_SET_PDEATHSIG, SIGKILL);
                open_file();
                for (;;) ::pause();
              }
            },
            file},
       }) {
    INFO(c.how);
    const Workload workload{pod(), c.act};
    // The child may need a moment to get there.
    auto found = find(volume.device);
    for (int i = 0; i < 1000 && found.users.empty(); ++i) {
      std::this_thread::yield();
      found = find(volume.device);
    }
    CHECK(found.found);
    CHECK(found.unseen == 0);
    REQUIRE(found.users.size() == 1);
    CHECK(found.users[0].mount_point == c.at);
    CHECK(found.users[0].command == "workload");
    CHECK(found.users[0].mount_namespace != 0);
    CHECK((found.users[0].pid == workload.pid() || std::string{c.how}.starts_with("a forked")));
  }
  {
    INFO("nothing of it");
    const Workload workload{pod(), [] {}};
    const auto found = find(volume.device);
    CHECK(found.found);
    CHECK(found.users.empty());
    CHECK(found.unseen == 0);
  }
  CHECK_FALSE(find(volume.device).found);
  must(node.unmount(volume, "stage"));
}

TEST_CASE("a process has a btrfs, whose files have other device numbers", "[root][cgroup]") {
  if (no_groups()) return;
  LinuxNode node;
  const auto volume = node.volume("v", "btrfs", '1', 128 * LinuxNode::mib);
  auto other = node.volume("other", "btrfs", '2', 128 * LinuxNode::mib);
  other.uuid.front() = '1';
  LinuxNode::make_filesystem(other.device, "btrfs", other.uuid);
  must(node.mount(volume, "stage"));
  must(node.mount(other, "beside"));
  const fs::path nested = node.work("stage") + "/nested";
  REQUIRE(std::system(("btrfs -q subvolume create " + nested.string()).c_str()) == 0);
  const fs::path file = nested / "file";
  std::ofstream{file} << std::string(8192, 'x');
  struct Case {
    const char* how;
    std::function<void()> act;
    std::string at;
  };
  for (const Case& c : std::vector<Case>{
           {"an open file of a nested subvolume", [&] { need(::open(file.c_str(), O_RDWR) >= 0, "open"); }, file},
           {"a mapped file, closed",
            [&] {
              const int fd = ::open(file.c_str(), O_RDWR);
              need(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED, "mmap");
              ::close(fd);
            },
            "a mapped file"},
       }) {
    INFO(c.how);
    const Workload workload{pod(), c.act};
    const auto found = find_btrfs(volume.device, volume.uuid);
    CHECK(found.unseen == 0);
    REQUIRE(found.users.size() == 1);
    CHECK(found.users[0].mount_point == c.at);
    CHECK(find_btrfs(other.device, other.uuid).users.empty());
  }
  must(node.unmount(volume, "stage"));
  must(node.unmount(other, "beside"));
}

TEST_CASE("a process with a file on an xfs that was shut down is told apart", "[root][cgroup]") {
  if (no_groups()) return;
  LinuxNode node;
  const auto broken = node.volume("broken", "xfs", '1', 320 * LinuxNode::mib);
  const auto whole = node.volume("whole", "xfs", '2', 320 * LinuxNode::mib);
  must(node.mount(broken, "stage"));
  must(node.mount(whole, "beside"));
  const fs::path file = node.work("stage") + "/file";
  std::ofstream{file} << "x";
  {
    const Workload workload{pod(), [&] { need(::open(file.c_str(), O_RDWR) >= 0, "open"); }};
    const int root = ::open(node.work("stage").c_str(), O_RDONLY | O_DIRECTORY);
    std::uint32_t without_log = 2;
    REQUIRE(::ioctl(root, _IOR('X', 125, std::uint32_t), &without_log) == 0);  // XFS_IOC_GOINGDOWN
    ::close(root);
    const auto found = find(broken.device);
    CHECK(found.unseen == 0);
    REQUIRE(found.users.size() == 1);
    CHECK(found.users[0].mount_point == file);
    const auto others = find(whole.device);
    CHECK(others.unseen == 0);
    CHECK(others.users.empty());
  }
  must(node.unmount(broken, "stage"));
  must(node.unmount(whole, "beside"));
}

TEST_CASE("a process that sees less of its namespace hides no other", "[root][cgroup]") {
  if (no_groups()) return;
  LinuxNode node;
  const auto volume = node.volume("v", "ext4", '1', 32 * LinuxNode::mib);
  must(node.mount(volume, "stage"));
  fs::create_directory(node.work("jail"));
  const Workload workload{pod(), [&] {
                            leave_mount_namespace();
                            if (::fork() == 0) {
                              ::prctl(PR_SET_PDEATHSIG, SIGKILL);
                              for (;;) ::pause();
                            }
                            need(::chroot(node.work("jail").c_str()) == 0 && ::chdir("/") == 0, "chroot");  // the lower pid of the two
                          }};
  const auto found = find(volume.device);
  REQUIRE(found.users.size() == 1);
  CHECK(found.users[0].pid != workload.pid());
  must(node.unmount(volume, "stage"));
}

TEST_CASE("a process that ends while it is looked at hands nothing on unseen", "[root][cgroup]") {
  if (no_groups()) return;
  LinuxNode node;
  const auto volume = node.volume("v", "ext4", '1', 32 * LinuxNode::mib);
  must(node.mount(volume, "stage"));
  {
    const Workload workload{pod(), [&] {
                              need(::chdir(node.work("stage").c_str()) == 0, "chdir");
                              ::signal(SIGCHLD, SIG_IGN);
                              if (::fork() == 0) {
                                while (::fork() == 0) {  // each forks the next, and ends
                                }
                                ::_exit(0);
                              }
                              need(::chdir("/") == 0, "chdir");
                            }};
    int missed = 0;
    for (int i = 0; i < 300; ++i) {
      const auto found = find(volume.device);
      missed += found.users.empty() && found.unseen == 0 ? 1 : 0;
    }
    CHECK(missed == 0);
  }
  must(node.unmount(volume, "stage"));
}

TEST_CASE("a group is found in the unified hierarchy and in those of version 1, by whatever lies above it", "[root][cgroup]") {
  if (no_groups()) return;
  LinuxNode node;
  const auto volume = node.volume("v", "ext4", '1', 32 * LinuxNode::mib);
  must(node.mount(volume, "stage"));
  struct Kind {
    std::string type;
    std::string options;
    std::string directory;  ///< beneath where control groups are mounted
  };
  for (const Kind& kind : std::vector<Kind>{
           {"cgroup2", "", ""}, {"cgroup2", "", "/unified"}, {"cgroup", "none,name=systemd", "/systemd"}, {"cgroup", "pids", "/pids"}}) {
    INFO(kind.type << " at " << kind.directory);
    if (!can_mount(kind.type, kind.options)) {
      std::printf("SKIPPED: no hierarchy %s %s can be mounted here\n", kind.type.c_str(), kind.options.c_str());
      continue;
    }
    const TempDir temp{"cgroups"};
    const std::string root = temp.path();
    const Mounted mounted{kind.type, root + kind.directory, kind.options};
    std::string slice = "kubepods-burstable-pod" + uid() + ".slice";
    std::ranges::replace(slice, '-', '_');
    slice.replace(0, std::string{"kubepods_burstable_pod"}.size(), "kubepods-burstable-pod");
    for (const std::string& group :
         {pod(), "kubepods/burstable/" + pod(), "podruntime.slice/kubepods/" + pod(), "kubepods.slice/kubepods-burstable.slice/" + slice,
          "kubelet/kubepods/besteffort/" + pod(), std::string{"system.slice/system-postgres.slice/postgres@0.service"},
          // A kubelet in a delegated service, and in a container.
          "system.slice/kubelet.service/kubepods/" + pod(),
          "system.slice/docker-0123.scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/" + slice}) {
      INFO(group);
      const std::string name = group.ends_with(slice) ? "*" + slice.substr(slice.find("-pod")) : group.substr(group.rfind('/') + 1);
      CHECK_FALSE(find(volume.device, root, name).found);
      const Workload workload{group, [] { leave_mount_namespace(); }, root + kind.directory};
      const auto found = find(volume.device, root, name);
      CHECK(found.visible);
      CHECK(found.found);
      REQUIRE(found.users.size() == 1);
      CHECK(found.users[0].pid == workload.pid());
      CHECK(found.users[0].mount_point == node.work("stage"));
    }
    {
      INFO("in a container's group beneath the pod's");
      const Workload workload{pod() + "/crio-0123.scope", [] { leave_mount_namespace(); }, root + kind.directory};
      CHECK(find(volume.device, root).users.size() == 1);
    }
    // Another pod whose uid only begins or ends so.
    const Workload other{pod() + "0", [] { leave_mount_namespace(); }, root + kind.directory};
    CHECK_FALSE(find(volume.device, root).found);
  }
  must(node.unmount(volume, "stage"));
}

TEST_CASE("where the host's control groups are not to be seen, that is said", "[root][cgroup]") {
  const mount::Device none{.path = "/dev/none"};
  const TempDir empty{"cgroups"};
  CHECK_FALSE(find(none, empty.path()).visible);
  CHECK_FALSE(find(none, empty.path() / "nowhere").visible);
  if (no_groups()) return;
  // A part of it: as an agent in a cgroup namespace of its own has it.
  for (const std::string type : {"cgroup2", "cgroup"}) {
    const bool unified = type == "cgroup2";
    const std::string options = unified ? "" : "none,name=systemd";
    if (!can_mount(type, options)) continue;
    INFO(type);
    const TempDir temp{"cgroups"};
    const fs::path inside = temp.path() / (unified ? "" : "systemd");
    const Mounted whole{type, inside, options};
    CHECK(find(none, temp.path()).visible);
    const TestCgroup group{"part", inside};
    CHECK(apart([&] {
            std::ofstream{group.path() + "/cgroup.procs"} << ::getpid() << std::flush;
            leave_mount_namespace();
            const fs::path again = temp.path() / "again" / (unified ? "" : "systemd");
            fs::create_directories(again);
            need(::unshare(CLONE_NEWCGROUP) == 0, "a cgroup namespace");
            need(::mount("none", again.c_str(), type.c_str(), 0, options.c_str()) == 0, "mounting");
            const auto found = mount::find_cgroup_users({.names = {pod()}, .device = none}, temp.path() / "again");
            return found.has_value() && !found.value().visible ? 0 : 1;
          }) == 0);
  }
}

TEST_CASE("a process of another pid namespace counts as one that can't be looked into", "[root][cgroup]") {
  if (no_groups()) return;
  const mount::Device none{.path = "/dev/none"};
  struct stat first{};
  const bool all = sees_host_pids() && ::stat("/proc/1/ns/mnt", &first) == 0;
  CHECK((must(mount::find_cgroup_users({}, cgroups)).unseen == 0) == all);
  for (const std::string type : {"cgroup2", "cgroup"}) {
    const bool unified = type == "cgroup2";
    const std::string options = unified ? "" : "none,name=systemd";
    if (!can_mount(type, options)) continue;
    INFO(type);
    const TempDir temp{"cgroups"};
    const fs::path inside = temp.path() / (unified ? "" : "systemd");
    const Mounted whole{type, inside, options};
    const Workload workload{pod(), [] {}, inside};
    const auto look = [&](const mount::CgroupQuery& query) {
      return apart([&] {
        need(::unshare(CLONE_NEWPID | CLONE_NEWNS) == 0, "a pid namespace");
        return apart([&] {
          need(::mount("proc", "/proc", "proc", 0, nullptr) == 0, "mounting /proc");
          const auto found = mount::find_cgroup_users(query, temp.path());
          return found ? static_cast<int>(std::min<std::uint64_t>(found.value().unseen, 100)) : 200;
        });
      });
    };
    CHECK(look({.names = {pod()}, .device = none}) == 1);
    const int at_all = look({});
    CHECK(at_all > 0);
    CHECK(at_all <= 100);
    CHECK(look({.names = {"pod-of-nobody"}, .device = none}) == 0);
  }
}

TEST_CASE("a group that can't be listed is no group that is gone", "[root][cgroup]") {
  if (no_groups()) return;
  // Without a descriptor left.
  CHECK(apart([] {
          const auto before = mount::find_cgroup_users({.names = {pod()}, .device = {}}, cgroups);
          int fd = 0;
          while ((fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0) {
          }
          const auto found = mount::find_cgroup_users({.names = {pod()}, .device = {}}, cgroups);
          return before && !found ? 0 : 1;
        }) == 0);
}
