// What doctor says of a node: of one that a test builds, of this one without an agent, and of claim files.
#include <sys/stat.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <string>

#include "agent/ctl/local_checks.hpp"
#include "agent/ctl/program.hpp"
#include "tests/ctl/ctl_program.hpp"
#include "tests/support/temp.hpp"

namespace ordinald::testing {
namespace {

namespace fs = std::filesystem;
using Catch::Contains;
using ctl::Check;
using ctl::Verdict;

/// A node on which all is well, beneath a directory.
struct BuiltNode {
  TempDir temp{"node"};
  ctl::Node node{.root = temp.path(), .kernel_release = "6.1.0-28-amd64", .user = 0};

  BuiltNode() {
    file("/proc/filesystems", "nodev\tsysfs\n\text3\n\text4\n");
    file("/lib/modules/6.1.0-28-amd64/modules.dep", "kernel/fs/xfs/xfs.ko: kernel/lib/libcrc32c.ko\n");
    file("/lib/modules/6.1.0-28-amd64/modules.builtin", "kernel/fs/btrfs/btrfs.ko\n");
    file("/proc/1/mountinfo", "22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n23 22 0:5 / /dev rw - devtmpfs udev rw\n");
    file("/dev/loop-control", "");
    file("/run/udev/control", "");
    for (const std::string tool : {"/usr/sbin/resize2fs", "/usr/sbin/e2undo"}) file(tool, "");
    for (const std::string tool : {"/usr/sbin/mkfs.ext4", "/usr/sbin/e2fsck"}) program(tool, "echo \"mke2fs 1.47.0 (5-Feb-2023)\" >&2");
    program("/usr/sbin/mkfs.xfs", "echo mkfs.xfs version 6.1.0");
    program("/usr/sbin/xfs_repair", "echo xfs_repair version 6.1.0");
    program("/usr/bin/btrfs", "echo btrfs-progs v6.2");
  }
  void file(const std::string& path, const std::string& text) const {
    fs::create_directories((node.root + path).substr(0, (node.root + path).rfind('/')));
    write_file(node.root + path, text);
  }
  void program(const std::string& path, const std::string& line) const {
    file(path, "#!/bin/sh\n" + line + "\n");
    ::chmod((node.root + path).c_str(), 0755);
  }
  Check check(const std::string& name) const {
    for (const Check& check : ctl::local_checks(node)) {
      if (check.name == name) return check;
    }
    FAIL("no check " << name);
    return {};
  }
};

}  // namespace

TEST_CASE("doctor: a node as it should be") {
  const BuiltNode built;
  for (const Check& check : ctl::local_checks(built.node)) {
    INFO(check.name << ": " << check.detail);
    CHECK((check.name == "clock" || (check.verdict == Verdict::ok && check.remedy.empty())));
  }
  CHECK(built.check("tools").detail == "mkfs.ext4 1.47.0, e2fsck 1.47.0, mkfs.xfs 6.1.0, xfs_repair 6.1.0, btrfs 6.2");
}

TEST_CASE("doctor: each thing that is wrong has its verdict and a remedy") {
  BuiltNode built;
  const auto expect = [&](const std::string& name, Verdict verdict, const std::string& detail, const std::string& remedy) {
    const Check check = built.check(name);
    INFO(check.detail << "\n" << check.remedy);
    CHECK(check.verdict == verdict);
    CHECK_THAT(check.detail, Contains(detail));
    CHECK_THAT(check.remedy, Contains(remedy));
  };
  fs::remove(built.node.root + "/usr/sbin/mkfs.xfs");
  expect("tools", Verdict::warning, "missing: /usr/sbin/mkfs.xfs (xfs volumes); there: mkfs.ext4 1.47.0", "apt-get install xfsprogs");
  fs::remove(built.node.root + "/usr/sbin/e2fsck");
  expect("tools", Verdict::failed, "/usr/sbin/e2fsck", "apt-get install e2fsprogs xfsprogs");
  built.program("/usr/sbin/e2fsck", "sleep 0; kill -9 $$");
  built.program("/usr/sbin/mkfs.xfs", "echo no number");
  expect("tools", Verdict::ok, "mkfs.xfs (of an unknown version)", "");

  built.file("/lib/modules/6.1.0-28-amd64/modules.dep", "");
  expect("filesystems", Verdict::warning, "no xfs (it has ext4, btrfs)", "linux-image");
  built.file("/proc/filesystems", "");
  built.file("/lib/modules/6.1.0-28-amd64/modules.builtin", "");
  expect("filesystems", Verdict::failed, "no ext4, xfs, btrfs", "linux-image");

  fs::remove(built.node.root + "/dev/loop-control");
  expect("loop devices", Verdict::failed, "/dev/loop-control is missing", "modprobe loop");
  fs::remove(built.node.root + "/run/udev/control");
  expect("udev", Verdict::warning, "does not run", "systemd-udevd");
  built.file("/proc/1/mountinfo", "22 1 254:1 / / rw,relatime - ext4 /dev/vda1 rw\n23 22 0:5 / /dev rw shared:4 - devtmpfs udev rw\n");
  expect("mount propagation", Verdict::warning, "/ is private", "mount --make-rshared /");
  fs::remove(built.node.root + "/proc/1/mountinfo");
  expect("mount propagation", Verdict::warning, "can't be read", "sudo");

  for (const std::string release : {"4.19.0", "5.14.21", ""}) {
    built.node.kernel_release = release;
    expect("kernel", Verdict::failed, "older than 5.15", "boot");
  }
  built.node.kernel_release = "5.15.0";
  CHECK(built.check("kernel").verdict == Verdict::ok);
  built.node.user = 1000;
  expect("permissions", Verdict::warning, "user 1000", "sudo");
}

TEST_CASE("doctor: it works where no agent runs, and finds a claim file that is wrong") {
  const TempDir temp{"ctl"};
  const Ctl ctl{(temp.path() / "admin.sock").string()};
  const auto claims = [&] {
    const nlohmann::json answer = ctl.json({"doctor", "--claims-dir", temp.path().string()}, 6);
    for (const nlohmann::json& check : answer.at("checks")) {
      if (check.at("name") == "claim files") return check;
    }
    return nlohmann::json{};
  };
  CHECK(claims().at("verdict") == "ok");
  write_file(temp.path() / "db.json", R"({"set": "db", "replica": 2})");
  CHECK(claims().at("verdict") == "failed");
  CHECK_THAT(claims().at("detail").get<std::string>(), Contains("db.json") && Contains("replica"));
  CHECK_THAT(ctl({"doctor"}).out, Contains("systemctl start ordinald"));
}

TEST_CASE("a program that is asked ends in time, or is ended") {
  using ctl::run_program;
  using namespace std::chrono_literals;
  const auto said = run_program({"/bin/sh", "-c", "echo out; echo err >&2; exit 3"}, 10s);
  REQUIRE(said);
  CHECK(said.value().status == 3);
  CHECK(said.value().output == "out\nerr\n");
  CHECK(run_program({"/bin/sh", "-c", "kill -9 $$"}, 10s).value().status == 137);
  CHECK(run_program({"/bin/cat"}, 10s).value().output.empty());  // nothing on its input
  CHECK(run_program({"/nowhere/tool"}, 10s).error().code == mount::ErrorCode::not_found);
  CHECK(run_program({"/bin/sleep", "100"}, 50ms).error().code == mount::ErrorCode::unavailable);
  CHECK(run_program({"/bin/sh", "-c", "yes | head -c 3000000"}, 10s).value().output.size() < 1100000);
}

}  // namespace ordinald::testing
