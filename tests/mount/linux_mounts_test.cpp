// What is special to the real kernel's mounts; the contract that all kernels share is in kernel_contract_*.
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <cerrno>
#include <chrono>
#include <fstream>
#include <future>
#include <thread>

#include "mount/crash_point.hpp"
#include "mount/mount_words.hpp"
#include "mount/mountinfo.hpp"
#include "mount/superblock.hpp"
#include "mount/unique_fd.hpp"
#include "tests/mount/linux_node.hpp"

using namespace ordinald::mount;
using namespace ordinald::testing;

namespace {

constexpr std::uint64_t mib = LinuxNode::mib;

int write_errno(const std::string& path) {
  const UniqueFd fd{::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644)};
  return fd ? 0 : errno;
}

mode_t mode_of(const std::string& path) {
  struct stat status{};
  REQUIRE(::lstat(path.c_str(), &status) == 0);
  return status.st_mode & 07777;
}

gid_t group_of(const std::string& path) {
  struct stat status{};
  REQUIRE(::lstat(path.c_str(), &status) == 0);
  return status.st_gid;
}

}  // namespace

TEST_CASE("a mount is the filesystem asked for, and its attributes are exact", "[root]") {
  LinuxNode node;
  const auto volume = node.volume("v", GENERATE("ext4", "xfs", "btrfs"));
  const MountAttributes attributes{.read_only = true, .no_suid = true, .no_exec = true, .atime = AccessTime::noatime};
  const auto info = must(node.mount(volume, "stage", {}, attributes));
  CHECK(matches(info, volume.expected()));
  CHECK(info.read_only);
  CHECK(mode_of(node.work("stage")) != 0);
  CHECK(write_errno(node.work("stage/file")) == EROFS);
  CHECK(must(node.mount(volume, "stage", {}, attributes)).mount_id == info.mount_id);
  refused(node.mount(volume, "stage"), ErrorCode::failed_precondition);
  must(node.unmount(volume, "stage"));
  CHECK_FALSE(std::filesystem::exists(node.work("stage")));
  must(node.mount(volume, "stage", {}, {.atime = AccessTime::strictatime}));
  CHECK(write_errno(node.work("stage/file")) == 0);
  must(node.unmount(volume, "stage"));
  must(node.kernel().detach(volume.device));
}

TEST_CASE("an option that the kernel refuses is named by its place and never quoted", "[root]") {
  LinuxNode node;
  const auto volume = node.volume("v", GENERATE("ext4", "xfs", "btrfs"));
  const std::string option =
      GENERATE("hunter2secret", "hunter2secret=4711topsecret", "commit=hunter2secret", "source=/dev/hunter2secret", "logbufs=hunter2secret",
               "compress=hunter2secret", "rescue=hunter2secret:4711topsecret", "subvol=hunter2secret");
  const auto result = node.mount(volume, "stage", {"hunter2secret"}, {});
  CHECK(refused(result, ErrorCode::invalid_argument).find("mount_flags[3]") != std::string::npos);
  const auto other = node.mount(volume, "stage", {option});
  REQUIRE(other.has_error());
  INFO(other.error().message);
  CHECK(other.error().message.find("hunter2") == std::string::npos);
  CHECK(other.error().message.find("topsecret") == std::string::npos);
  CHECK_FALSE(std::filesystem::exists(node.work("stage")));
}

TEST_CASE("options' texts are hidden in the kernel's words", "[mount]") {
  const std::vector<std::string> options{"compress=zstd:99", "a", "own=thing"};
  const std::vector<std::uint32_t> places{2, 0, UINT32_MAX};
  CHECK(hide_options("btrfs: Bad value for 'compress'", options, places) == "btrfs: Bad value for 'mount_flags[2]'");
  CHECK(hide_options("level 99 of zstd, a bad a", options, places) ==
        "level mount_flags[2] of mount_flags[2], mount_flags[0] bad mount_flags[0]");
  CHECK(hide_options("own=thing", options, places) == "own=thing");
}

TEST_CASE("a filesystem that can't be mounted as it is is refused, with the kernel's reason", "[root]") {
  LinuxNode node;
  SECTION("damaged") {
    const auto volume = node.volume("v", GENERATE("ext4", "xfs", "btrfs"));
    LinuxNode::run("dd conv=notrunc bs=4k seek=16 count=1 if=/dev/urandom of=" + volume.device.path);  // btrfs's superblock
    LinuxNode::run("dd conv=notrunc bs=512 seek=1 count=16 if=/dev/urandom of=" + volume.device.path);
    if (volume.type == "xfs") {
      LinuxNode::run("dd conv=notrunc bs=8 seek=2 count=8 if=/dev/urandom of=" + volume.device.path);
    }
    refused(node.mount(volume, "stage"), ErrorCode::failed_precondition);
    CHECK_FALSE(std::filesystem::exists(node.work("stage")));
  }
  SECTION("of another kind") {
    auto volume = node.volume("v", "ext4");
    volume.type = "xfs";
    refused(node.mount(volume, "stage"), ErrorCode::failed_precondition);
  }
  SECTION("a copy of one that is mounted") {
    const auto volume = node.volume("v", GENERATE("xfs", "btrfs"));
    must(node.mount(volume, "first"));
    must(node.unmount(volume, "first"));
    auto copy = volume;
    copy.image = node.image("copy");
    copy.device = node.attached(copy.image, volume.device.size);
    LinuxNode::run("dd conv=sparse bs=1M if=" + volume.device.path + " of=" + copy.device.path);
    must(node.mount(volume, "first"));
    refused(node.mount(copy, "second"), ErrorCode::failed_precondition);
    CHECK(matches(must(node.kernel().inspect_path(node.work("first"))), volume.expected()));
    CHECK_FALSE(std::filesystem::exists(node.work("second")));
  }
  SECTION("no such kind of filesystem") {
    auto volume = node.volume("v", "ext4");
    volume.type = "nosuchfs";
    refused(node.mount(volume, "stage"), ErrorCode::failed_precondition);
  }
}

TEST_CASE("a bind has its attributes and nothing else's, and a repeated one changes nothing", "[root]") {
  LinuxNode node;
  const auto volume = node.volume("v", GENERATE("ext4", "btrfs"));
  must(node.mount(volume, "stage", {}, {.no_suid = true, .atime = AccessTime::noatime}));
  BindRequest request{.source = node.work("stage"),
                      .expected = volume.expected(),
                      .target = node.work("target"),
                      .kind = TargetKind::directory,
                      .attributes = {.read_only = true, .no_exec = true}};
  const auto info = must(node.kernel().bind(request));
  CHECK(info.read_only);
  CHECK(write_errno(node.work("target/file")) == EROFS);
  CHECK(write_errno(node.work("stage/file")) == 0);
  CHECK(must(node.kernel().bind(request)).mount_id == info.mount_id);
  request.attributes.no_exec = false;
  refused(node.kernel().bind(request), ErrorCode::failed_precondition);
  request.target = node.work("missing/target");
  refused(node.kernel().bind(request), ErrorCode::failed_precondition);
  // A staging path that nothing is mounted on, as after a reboot, gives a workload no empty directory.
  must(node.kernel().unmount({.path = node.work("target"), .expected = volume.expected(), .remove = true}));
  must(node.kernel().unmount({.path = node.work("stage"), .expected = volume.expected(), .remove = false}));
  request.target = node.work("target");
  refused(node.kernel().bind(request), ErrorCode::failed_precondition);
  CHECK_FALSE(std::filesystem::exists(node.work("target")));
}

TEST_CASE("a mount that somebody looks at for a moment is unmounted all the same", "[root]") {
  LinuxNode node;
  const auto volume = node.volume("v", "ext4");
  must(node.mount(volume, "stage"));
  UniqueFd look{::open(node.work("stage").c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)};
  REQUIRE(look);
  std::atomic<pid_t> tid = 0;
  auto unmounting = std::async(std::launch::async, [&] {
    tid = static_cast<pid_t>(::syscall(SYS_gettid));
    return node.kernel().unmount({.path = node.work("stage"), .expected = volume.expected(), .remove = false});
  });
  const auto waits = [&] {
    std::ifstream file{"/proc/self/task/" + std::to_string(tid) + "/syscall"};
    long number = -1;
    return (file >> number) && number == SYS_clock_nanosleep;
  };
  while (unmounting.wait_for(std::chrono::seconds{0}) != std::future_status::ready && (tid == 0 || !waits())) {
    std::this_thread::yield();
  }
  look.reset();
  must(unmounting.get());
}

TEST_CASE("a block target is the device's node, and read-only is the device's own", "[root]") {
  LinuxNode node;
  const auto device = node.attached(node.image("v"), mib);
  const Expected expected{.number = device.number, .fs_type = {}, .uuid = {}};
  const BindRequest request{
      .source = device.path, .expected = expected, .target = node.work("target"), .kind = TargetKind::file, .attributes = {}};
  const auto info = must(node.kernel().bind(request));
  CHECK(matches(info, expected));
  CHECK(must(node.kernel().bind(request)).mount_id == info.mount_id);
  must(node.kernel().set_device_read_only(device, true));
  {
    const UniqueFd fd{::open(request.target.c_str(), O_RDWR | O_CLOEXEC)};
    REQUIRE(fd);
    CHECK(::write(fd.get(), "x", 1) == -1);
    CHECK(errno == EPERM);
  }
  CHECK(must(node.kernel().inspect_device(device)).read_only);
  // The node of another device is not what is expected.
  refused(
      node.kernel().unmount({.path = request.target, .expected = {.number = device.number + 1, .fs_type = {}, .uuid = {}}, .remove = true}),
      ErrorCode::failed_precondition);
  must(node.kernel().unmount({.path = request.target, .expected = expected, .remove = true}));
  CHECK_FALSE(std::filesystem::exists(request.target));
  must(node.kernel().detach(device));
}

TEST_CASE("a filesystem that was shut down is still a mount, and still unmounted", "[root]") {
  LinuxNode node;
  const auto volume = node.volume("v", "xfs");
  must(node.mount(volume, "stage"));
  {
    const UniqueFd fd{::open(node.work("stage").c_str(), O_RDONLY | O_CLOEXEC)};
    REQUIRE(fd);
    constexpr unsigned long xfs_go_down = _IOR('X', 125, __u32);
    __u32 flags = 2;  // no log flush
    REQUIRE(::ioctl(fd.get(), xfs_go_down, &flags) == 0);
  }
  const auto info = must(node.kernel().inspect_path(node.work("stage")));
  CHECK(info.broken);
  CHECK(info.mount_root);
  CHECK(matches(info, volume.expected()));
  must(node.unmount(volume, "stage"));
  CHECK_FALSE(std::filesystem::exists(node.work("stage")));
  must(node.kernel().detach(volume.device));
}

TEST_CASE("a mounted filesystem grows to its device", "[root]") {
  LinuxNode node;
  const std::string type = GENERATE("ext4", "xfs", "btrfs");
  const auto volume = node.volume("v", type);
  must(node.mount(volume, "stage"));
  const GrowRequest request{.device = volume.device, .fs_type = type, .path = node.work("stage")};
  CHECK(must(node.kernel().grow_filesystem(request)) == 400 * mib);
  must(node.kernel().resize_image({.image = volume.image, .size = 600 * mib, .thick = false}));
  must(node.kernel().refresh_device_size(volume.device));
  const auto before = must(node.kernel().usage(request.path, volume.expected())).total;
  const auto grown = node.kernel().grow_filesystem(request);
  if (grown.has_error() && type == "ext4") {
    CHECK(grown.error().sys_errno == EPERM);  // no CAP_SYS_RESOURCE here
    refused(grown, ErrorCode::failed_precondition);
  } else {
    CHECK(must(grown) == 600 * mib);
    CHECK(must(node.kernel().usage(request.path, volume.expected())).total >= before + 190 * mib);
    CHECK(must(node.kernel().grow_filesystem(request)) == 600 * mib);
  }
  must(node.unmount(volume, "stage"));
  refused(node.kernel().grow_filesystem(request), ErrorCode::failed_precondition);
}

TEST_CASE("the growth of a mounted xfs is on its device, not in its log alone, and its label stays", "[root]") {
  LinuxNode node;
  const auto volume = node.volume("v", "xfs");
  const std::string label = GENERATE("", "twelve-bytes");
  if (!label.empty()) {
    LinuxNode::run("xfs_admin -L '" + label + "' " + volume.device.path);
  }
  must(node.mount(volume, "stage"));
  const GrowRequest request{.device = volume.device, .fs_type = "xfs", .path = node.work("stage")};
  const UniqueFd image{::open(LinuxNode::path_of(volume.image).c_str(), O_RDONLY | O_CLOEXEC)};
  const UniqueFd directory{::open(request.path.c_str(), O_RDONLY | O_CLOEXEC)};
  const auto enlarge = [&](std::uint64_t size) {
    must(node.kernel().resize_image({.image = volume.image, .size = size, .thick = false}));
    must(node.kernel().refresh_device_size(volume.device));
  };
  enlarge(600 * mib);
  SECTION("the agent's own") {
    CHECK(must(node.kernel().grow_filesystem(request)) == 600 * mib);
    CHECK(must(read_filesystem_size(image.get(), "xfs")).size == 600 * mib);
    enlarge(800 * mib);
    CHECK(must(node.kernel().grow_filesystem(request)) == 800 * mib);
    CHECK(must(read_filesystem_size(image.get(), "xfs")).size == 800 * mib);
  }
  SECTION("one that was cut off before that, or somebody else's") {
    LinuxNode::run("xfs_growfs " + request.path);
    REQUIRE(must(read_filesystem_size(image.get(), "xfs")).size == 400 * mib);
    CHECK(must(node.kernel().grow_filesystem(request)) == 600 * mib);
    CHECK(must(read_filesystem_size(image.get(), "xfs")).size == 600 * mib);
  }
  std::array<char, FSLABEL_MAX> now{};
  REQUIRE(::ioctl(directory.get(), FS_IOC_GETFSLABEL, now.data()) == 0);
  CHECK(now.data() == label);
}

TEST_CASE("a mount group is given to everything, once, and nothing is lost or left", "[root]") {
  LinuxNode node;
  const auto volume = node.volume("v", GENERATE("ext4", "xfs", "btrfs"));
  must(node.mount(volume, "stage"));
  const std::string root = node.work("stage");
  constexpr gid_t group = 4242;
  write_file(root + "/plain", "x");
  ::chmod((root + "/plain").c_str(), 0600);
  write_file(root + "/tool", "x");
  REQUIRE(::chmod((root + "/tool").c_str(), 04755) == 0);
  // VFS_CAP_REVISION_2, cap_net_raw permitted
  const unsigned char capability[20] = {1, 0, 0, 2, 0, 0x20, 0, 0};
  REQUIRE(::setxattr((root + "/tool").c_str(), "security.capability", capability, sizeof capability, 0) == 0);
  const std::string outside = node.work("outside");
  write_file(outside, "x");
  const auto outside_mode = mode_of(outside);
  std::filesystem::create_symlink(outside, root + "/link");
  std::filesystem::create_directories(root + "/mounted");
  REQUIRE(::mount("none", (root + "/mounted").c_str(), "tmpfs", 0, "mode=0700") == 0);
  // Deeper than there are descriptors, and than a path can be long.
  {
    UniqueFd at{::open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    const std::string name(200, 'd');
    for (int i = 0; i < 1200; ++i) {
      REQUIRE(::mkdirat(at.get(), name.c_str(), 0700) == 0);
      at.reset(::openat(at.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
      REQUIRE(at);
    }
    REQUIRE(::close(::openat(at.get(), "bottom", O_CREAT | O_WRONLY | O_CLOEXEC, 0600)) == 0);
    must(node.kernel().apply_group(root, volume.expected(), group));
    struct stat bottom{};
    REQUIRE(::fstatat(at.get(), "bottom", &bottom, 0) == 0);
    CHECK(bottom.st_gid == group);
    CHECK((bottom.st_mode & 07777) == 0660);
  }
  CHECK(group_of(root) == group);
  CHECK((mode_of(root) & 02070) == 02070);
  CHECK(mode_of(root + "/plain") == 0660);
  CHECK(mode_of(root + "/tool") == 04775);
  unsigned char found[20] = {};
  CHECK(::getxattr((root + "/tool").c_str(), "security.capability", found, sizeof found) == sizeof found);
  CHECK(std::equal(std::begin(found), std::end(found), std::begin(capability)));
  CHECK(group_of(root + "/link") == group);
  CHECK(group_of(outside) != group);
  CHECK(mode_of(outside) == outside_mode);
  CHECK(mode_of(root + "/mounted") == 0700);
  CHECK(group_of(root + "/mounted") != group);
  // The root has it: nothing beneath is looked at again.
  REQUIRE(::chown((root + "/plain").c_str(), 0, 0) == 0);
  must(node.kernel().apply_group(root, volume.expected(), group));
  CHECK(group_of(root + "/plain") == 0);
  // Interrupted before the root: everything is done again.
  REQUIRE(::chown(root.c_str(), 0, 0) == 0);
  must(node.kernel().apply_group(root, volume.expected(), group));
  CHECK(group_of(root + "/plain") == group);
  REQUIRE(::umount((root + "/mounted").c_str()) == 0);
}

#ifdef ORDINALD_CRASH_POINTS

TEST_CASE("a walk for a mount group that dies at any of its acts is done again, and takes nothing from any program", "[root]") {
  struct Died {};
  LinuxNode node;
  const auto volume = node.volume("v", GENERATE("ext4", "xfs", "btrfs"));
  must(node.mount(volume, "stage"));
  const std::string root = node.work("stage");
  const unsigned char capability[20] = {1, 0, 0, 2, 0, 0x20, 0, 0};
  const std::string capable = root + "/capable";
  const std::string both = root + "/both";
  const std::string written = root + "/written";
  for (const std::string& file : {capable, both, written}) write_file(file, "x");
  const auto has_capability = [&](const std::string& file) {
    unsigned char found[20] = {};
    return ::getxattr(file.c_str(), "security.capability", found, sizeof found) == sizeof found &&
           std::equal(std::begin(found), std::end(found), std::begin(capability));
  };
  const auto give = [&](const std::string& file) {
    REQUIRE(::setxattr(file.c_str(), "security.capability", capability, sizeof capability, 0) == 0);
  };
  give(capable);
  REQUIRE(::chmod(both.c_str(), 06755) == 0);
  give(both);
  REQUIRE(::chmod(written.c_str(), 04755) == 0);
  gid_t group = 4242;
  gid_t had = group;  // by a walk that was done
  const bool back = GENERATE(false, true);
  must(node.kernel().apply_group(root, volume.expected(), had));
  int died = 0;
  for (bool done = false; !done;) {
    // Another group each time, and dead one act later; then the repetition, or the group that it had before.
    ++group;
    const int at = died + 1;
    int acts = 0;
    std::string last;
    set_act_hook([&](std::string_view act, std::string_view object) {
      last = std::string{act} + " " + std::string{object};
      if (++acts == at) throw Died{};
    });
    try {
      must(node.kernel().apply_group(root, volume.expected(), group));
      done = true;
    } catch (const Died&) {
      ++died;
    }
    set_act_hook(nullptr);
    INFO("died at " << last);
    const bool took = !done && (mode_of(written) & 04000) == 0;
    if (took) write_file(written, "other");  // a program that has another content now has rightly lost it
    had = back && !done ? had : group;
    must(node.kernel().apply_group(root, volume.expected(), had));
    CHECK((mode_of(capable) & 0070) == 0060);
    CHECK(has_capability(capable));
    CHECK(mode_of(both) == 06775);
    CHECK(has_capability(both));
    CHECK(mode_of(written) == (took ? 0775 : 04775));
    REQUIRE(::chmod(written.c_str(), 04775) == 0);
    for (const std::string& file : {capable, both, written}) {
      CHECK(group_of(file) == had);
      CHECK(::getxattr(file.c_str(), "trusted.ordinald.taken", nullptr, 0) < 0);
    }
  }
  CHECK(died > 6);
}

#endif

TEST_CASE("the mount table is read with its escapes, and half a table is refused", "[mount]") {
  const auto table =
      must(parse_mountinfo("36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/ro\\134ot rw,errors=continue\n"
                           "37 36 0:42 / /a\\011b\\012c ro - tmpfs none rw\n"));
  REQUIRE(table.size() == 2);
  CHECK(table[0].id == 36);
  CHECK(table[0].parent == 35);
  CHECK(table[0].device == ((98U << 8) | 0U));
  CHECK(table[0].root == "/mnt1");
  CHECK(table[0].mount_point == "/mnt 2");
  CHECK(table[0].options == "rw,noatime");
  CHECK(table[0].fs_type == "ext3");
  CHECK(table[0].source == "/dev/ro\\ot");
  CHECK(table[0].super_options == "rw,errors=continue");
  CHECK(table[1].mount_point == "/a\tb\nc");
  CHECK(must(parse_mountinfo("")).empty());
  refused(parse_mountinfo("36 35 98:0 /mnt1 /mnt2 rw - ext3 /dev/root rw\nnonsense\n"), ErrorCode::internal);
  refused(parse_mountinfo("36 35 98:0 /mnt1\n"), ErrorCode::internal);
  CHECK_FALSE(must(read_mount_table()).empty());
}
