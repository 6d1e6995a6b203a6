#include "mount/command.hpp"

#include <fcntl.h>
#include <sched.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <sstream>

#include "mount/process.hpp"
#include "tests/mount/loop_file.hpp"
#include "tests/support/temp.hpp"

namespace ordinald::mount {
namespace {

using namespace std::chrono_literals;
using std::chrono::steady_clock;
using testing::loop_on;
using testing::TempDir;

const ToolNamespace& tools() {
  static const auto made = ToolNamespace::make();
  if (!made) FAIL(made.error().message);
  return made.value();
}

Result<void> no_mark(pid_t, std::uint64_t, std::string_view) { return success(); }

Result<ToolOutcome> run(std::vector<std::string> argv, const Device& device = {}, std::chrono::milliseconds deadline = 20s) {
  return run_command({.argv = std::move(argv), .device = device, .deadline = deadline}, tools(), &no_mark);
}

ToolOutcome shell(const std::string& script, std::chrono::milliseconds deadline = 20s) {
  auto outcome = run({"/bin/sh", "-c", script}, {}, deadline);
  if (!outcome) FAIL(outcome.error().message);
  return outcome.value();
}

std::vector<std::string> lines(const std::string& text) {
  std::vector<std::string> found;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) found.push_back(line);
  return found;
}

bool soon_gone(pid_t pid) {
  const UniqueFd process = open_pidfd(pid);
  return !process || wait_gone(process, steady_clock::now() + 5s);
}

TEST_CASE("command: exit status, signal and both streams", "[command][root]") {
  const auto outcome = shell("echo out; echo err >&2; exit 7");
  CHECK(outcome.exit_status == 7);
  CHECK(outcome.signal == 0);
  CHECK_FALSE(outcome.timed_out);
  CHECK(outcome.output == "out\nerr\n");
  const auto killed = shell("kill -9 $$");
  CHECK(killed.exit_status == -1);
  CHECK(killed.signal == SIGKILL);
  CHECK_FALSE(killed.timed_out);
}

TEST_CASE("command: nothing is inherited", "[command][root]") {
  ::setenv("ORDINALD_SECRET", "x", 1);
  const UniqueFd leaking{::open("/etc/hostname", O_RDONLY)};  // without O_CLOEXEC
  auto environment = run({"/usr/bin/env"});
  ::unsetenv("ORDINALD_SECRET");
  REQUIRE(environment.has_value());
  auto variables = lines(environment.value().output);
  std::sort(variables.begin(), variables.end());
  CHECK(variables == std::vector<std::string>{"LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"});

  auto descriptors = run({"/bin/ls", "-l", "/proc/self/fd"});
  REQUIRE(descriptors.has_value());
  INFO(descriptors.value().output);
  const auto listed = lines(descriptors.value().output);
  REQUIRE(listed.size() == 5);  // "total", 0, 1, 2 and the one on the directory itself
  CHECK(listed[1].ends_with("0 -> /dev/null"));
  CHECK(listed[2].find("1 -> pipe:") != std::string::npos);
  CHECK(listed[3].find("2 -> pipe:") != std::string::npos);

  const auto status =
      shell("grep -E '^(SigIgn|SigBlk):' /proc/self/status; umask; pwd; ulimit -c; cat /proc/self/oom_score_adj; ls /dev; touch /x 2>&1");
  INFO(status.output);
  const auto said = lines(status.output);
  REQUIRE(said.size() == 8);
  CHECK(said[0] == "SigBlk:\t0000000000000000");
  CHECK(said[1] == "SigIgn:\t0000000000000000");
  CHECK(said[2] == "0022");
  CHECK(said[3] == "/");
  CHECK(said[4] == "0");
  CHECK(said[5] == "500");
  CHECK(said[6] == "null");
  CHECK(said[7].find("Read-only file system") != std::string::npos);
}

TEST_CASE("command: what can't be started", "[command][root]") {
  const auto relative = run({"true"});
  REQUIRE_FALSE(relative.has_value());
  CHECK(relative.error().code == ErrorCode::invalid_argument);
  const auto missing = run({"/usr/sbin/mkfs.none"});
  REQUIRE_FALSE(missing.has_value());
  CHECK(missing.error().code == ErrorCode::internal);
  CHECK(missing.error().sys_errno == ENOENT);
  CHECK(missing.error().message.starts_with("mkfs.none is not installed"));
  const auto no_program = run({"/etc/passwd"});
  REQUIRE_FALSE(no_program.has_value());
  CHECK(no_program.error().sys_errno == EACCES);
  Device odd;
  odd.path = "/dev/../etc/x";
  odd.number = 1;
  CHECK(run({"/usr/bin/true"}, odd).error().code == ErrorCode::invalid_argument);
  const auto refused =
      run_command({.argv = {"/usr/bin/true"}, .device = {}, .deadline = 5s}, tools(),
                  [](pid_t, std::uint64_t, std::string_view) -> Result<void> { return make_error(ErrorCode::internal, "no mark"); });
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error().message == "no mark");
}

TEST_CASE("command: it is marked with its pid and start time before it runs", "[command][root]") {
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  const UniqueFd read_end{ends[0]};
  const UniqueFd write_end{ends[1]};
  const auto outcome = run_command({.argv = {"/bin/sh", "-c", "echo $$; cut -d' ' -f22 /proc/$$/stat"}, .device = {}, .deadline = 5s},
                                   tools(), [&](pid_t pid, std::uint64_t start_time, std::string_view program) -> Result<void> {
                                     const std::string text = std::to_string(pid) + "\n" + std::to_string(start_time) + "\n";
                                     if (program != "sh" || ::write(write_end.get(), text.data(), text.size()) < 0) ::_exit(9);
                                     return success();
                                   });
  REQUIRE(outcome.has_value());
  char text[64];
  const ssize_t size = ::read(read_end.get(), text, sizeof text);
  REQUIRE(size > 0);
  CHECK(outcome.value().output == std::string(text, static_cast<std::size_t>(size)));
}

TEST_CASE("command: at its deadline the whole group is killed", "[command][root]") {
  const auto begin = steady_clock::now();
  const auto outcome = shell("sh -c 'sleep 1000 & echo $!; wait' & sh -c 'sleep 1001 & echo $!; wait' & echo $$; sleep 1002", 300ms);
  CHECK(steady_clock::now() - begin < 5s);
  CHECK(outcome.timed_out);
  CHECK(outcome.signal == SIGKILL);
  CHECK(outcome.took >= 300ms);
  const auto pids = lines(outcome.output);
  REQUIRE(pids.size() == 3);
  for (const std::string& pid : pids) CHECK(soon_gone(std::stoi(pid)));
}

TEST_CASE("command: a deadline holds for one that never stops writing", "[command][root]") {
  const auto outcome = shell("yes", 200ms);
  CHECK(outcome.timed_out);
  CHECK(outcome.output.size() == kept_output);
}

TEST_CASE("command: what a tool leaves behind is killed, and not waited for", "[command][root]") {
  const auto begin = steady_clock::now();
  const auto outcome = shell("sleep 1000 & echo $!");  // holds the pipe open
  CHECK(steady_clock::now() - begin < 5s);
  CHECK(outcome.exit_status == 0);
  CHECK(soon_gone(std::stoi(outcome.output)));

  const auto escaped = shell("setsid sleep 1000 & echo $!");  // in a session of its own
  CHECK(steady_clock::now() - begin < 5s);
  CHECK(escaped.exit_status == 0);
  ::kill(std::stoi(escaped.output), SIGKILL);
}

TEST_CASE("command: the end of a long output is kept", "[command][root]") {
  const auto outcome = shell(
      "i=0; while [ $i -lt 1000 ]; do echo $i; i=$((i+1)); done; head -c 5000000 /dev/zero 2>/dev/null; yes | head -c 8000000; echo the "
      "end");
  CHECK(outcome.exit_status == 0);
  CHECK(outcome.output.size() == kept_output);
  CHECK(outcome.output.ends_with("y\nthe end\n"));
}

TEST_CASE("command: its memory is bounded", "[command][root]") {
  const auto greedy = run_command(
      {.argv = {"/bin/bash", "-c", "x=x; while :; do x+=$x; done"}, .device = {}, .deadline = 20s, .memory = 64 << 20}, tools(), &no_mark);
  REQUIRE(greedy);
  CHECK(greedy.value().exit_status == 2);
  CHECK_THAT(greedy.value().output, Catch::Contains("cannot allocate"));
  // Where nothing is said: half of the node's.
  const auto pages = static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  const auto kib = std::max<std::uint64_t>(pages / 2, 1 << 30) / 1024;
  CHECK(shell("ulimit -v").output == std::to_string(kib) + "\n");
}

TEST_CASE("command: it dies with its parent", "[command][root]") {
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  const UniqueFd read_end{ends[0]};
  UniqueFd write_end{ends[1]};
  tools();
  const pid_t parent = ::fork();
  if (parent == 0) {
    (void)run_command({.argv = {"/bin/sleep", "1000"}, .device = {}, .deadline = 1000s}, tools(), [&](pid_t pid, auto...) -> Result<void> {
      if (::write(write_end.get(), &pid, sizeof pid) < 0) ::_exit(1);
      return success();
    });
    ::_exit(0);
  }
  write_end.reset();
  pid_t tool = 0;
  REQUIRE(::read(read_end.get(), &tool, sizeof tool) == sizeof tool);
  const UniqueFd process = open_pidfd(tool);
  CHECK_FALSE(wait_gone(process, {}));
  ::kill(parent, SIGKILL);
  ::waitpid(parent, nullptr, 0);
  CHECK(wait_gone(process, steady_clock::now() + 5s));
}

TEST_CASE("tool namespace: it keeps no volume's filesystem alive", "[command][root]") {
  const TempDir directory{"tools"};
  const Device device = loop_on(directory.path() / "image", 64 << 20);
  REQUIRE(run({"/usr/sbin/mkfs.ext4", "-q", device.path}, device).value().exit_status == 0);
  const auto at = directory.path() / "mounted";
  std::filesystem::create_directory(at);
  REQUIRE(::mount(device.path.c_str(), at.c_str(), "ext4", 0, nullptr) == 0);
  const auto made = ToolNamespace::make();
  REQUIRE(made.has_value());
  const auto table = run_command({.argv = {"/bin/cat", "/proc/self/mountinfo"}, .device = {}, .deadline = 5s}, made.value(), &no_mark);
  REQUIRE(table.has_value());
  INFO(table.value().output);
  CHECK(table.value().output.find("ext4") != std::string::npos);  // or whatever / is
  CHECK(table.value().output.find(device.path) == std::string::npos);
  CHECK(lines(table.value().output).size() <= 10);
  // A tool that runs meanwhile pins nothing either.
  const pid_t tool = ::fork();
  if (tool == 0) {
    (void)run_command({.argv = {"/bin/sleep", "1000"}, .device = {}, .deadline = 1000s}, made.value(), &no_mark);
    ::_exit(0);
  }
  CHECK(::umount(at.c_str()) == 0);
  const UniqueFd exclusive{::open(device.path.c_str(), O_RDWR | O_EXCL | O_CLOEXEC)};
  CHECK(exclusive);
  ::kill(tool, SIGKILL);
  ::waitpid(tool, nullptr, 0);
}

TEST_CASE("tool namespace: it is made in a chroot as well", "[command][root]") {
  const TempDir directory{"tools"};
  for (const char* part : {"usr", "etc", "proc", "sys", "dev"}) {
    std::filesystem::create_directory(directory.path() / part);
    REQUIRE(::mount(("/" + std::string{part}).c_str(), (directory.path() / part).c_str(), nullptr, MS_BIND, nullptr) == 0);
  }
  for (const char* part : {"bin", "sbin", "lib", "lib64"})
    std::filesystem::create_directory_symlink("usr/" + std::string{part}, directory.path() / part);
  testing::write_file(directory.path() / "here", "");
  const pid_t child = ::fork();
  if (child == 0) {
    if (::chroot(directory.path().c_str()) != 0 || ::chdir("/") != 0) ::_exit(1);
    const auto made = ToolNamespace::make();
    if (!made) ::_exit(2);
    const auto outcome = run_command({.argv = {"/bin/ls", "/", "/dev"}, .device = {}, .deadline = 5s}, made.value(), &no_mark);
    if (!outcome) ::_exit(3);
    ::_exit(outcome.value().output == "/:\nbin\ndev\netc\nhere\nlib\nlib64\nproc\nsbin\nsys\nusr\n\n/dev:\nnull\n" ? 0 : 4);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("tool namespace: the filesystems' tools do their work there", "[command][root]") {
  const TempDir directory{"tools"};
  const auto ok = [](std::vector<std::string> argv, const Device& device) {
    const auto outcome = run(std::move(argv), device);
    if (!outcome) FAIL(outcome.error().message);
    INFO(outcome.value().output);
    CHECK(outcome.value().exit_status == 0);
    return outcome.value().output;
  };
  const std::string uuid = "3b2c5d1e-6f70-4a81-9c92-0d1e2f3a4b5c";
  SECTION("ext4") {
    const Device device = loop_on(directory.path() / "image", 128 << 20);
    ok({"/usr/sbin/mkfs.ext4", "-q", "-U", uuid, device.path, "64M"}, device);
    CHECK(ok({"/usr/sbin/e2fsck", "-p", device.path}, device).find("clean") != std::string::npos);
    ok({"/usr/sbin/e2fsck", "-f", "-p", device.path}, device);
    ok({"/usr/sbin/resize2fs", device.path}, device);
    CHECK(ok({"/usr/sbin/dumpe2fs", "-h", device.path}, device).find("Block count:              131072") != std::string::npos);
  }
  SECTION("xfs") {
    const Device device = loop_on(directory.path() / "image", 400 << 20);
    ok({"/usr/sbin/mkfs.xfs", "-q", "-m", "uuid=" + uuid, device.path}, device);
    ok({"/usr/sbin/xfs_repair", "-n", device.path}, device);
  }
  SECTION("btrfs") {
    const Device device = loop_on(directory.path() / "image", 128 << 20);
    ok({"/usr/sbin/mkfs.btrfs", "-U", uuid, device.path}, device);
    ok({"/usr/bin/btrfs", "check", device.path}, device);
  }
  SECTION("a device deeper beneath /dev") {
    Device device = loop_on(directory.path() / "image", 64 << 20);
    device.path = "/dev/mapper/group-volume";
    ok({"/usr/sbin/mkfs.ext4", "-q", device.path}, device);
  }
}

extern "C" char** environ;

double microseconds(const auto& work) {
  const auto begin = steady_clock::now();
  work();
  return std::chrono::duration<double, std::micro>(steady_clock::now() - begin).count();
}

/// The value that this share of them doesn't exceed.
double quantile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  return values[static_cast<std::size_t>(share * static_cast<double>(values.size()))];
}

void bare(std::vector<std::string> argv) {
  std::vector<char*> words;
  for (std::string& word : argv) words.push_back(word.data());
  words.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
  pid_t pid = 0;
  REQUIRE(::posix_spawn(&pid, words[0], &actions, nullptr, words.data(), environ) == 0);
  ::posix_spawn_file_actions_destroy(&actions);
  ::waitpid(pid, nullptr, 0);
}

struct DetachLoop {
  const Device& device;
  ~DetachLoop() { ::ioctl(UniqueFd{::open(device.path.c_str(), O_RDONLY | O_CLOEXEC)}.get(), LOOP_CLR_FD, 0); }
};

TEST_CASE("command: what it costs above a bare posix_spawn", "[command][root][!benchmark]") {
  const TempDir directory{"tools"};
  // In memory: no other work on the machine's disk is measured.
  const auto memory = directory.path() / "memory";
  std::filesystem::create_directory(memory);
  REQUIRE(::mount("ordinald", memory.c_str(), "tmpfs", 0, nullptr) == 0);
  const Device device = loop_on(memory / "image", 1 << 30);
  const DetachLoop detach{device};  // before the tmpfs goes: TempDir couldn't find it any more
  REQUIRE(run({"/usr/sbin/mkfs.ext4", "-q", device.path}, device).value().exit_status == 0);
  const std::vector<std::string> argv = {"/usr/sbin/e2fsck", "-p", device.path};
  const auto compare = [&](const char* when) {
    std::vector<double> floor;
    std::vector<double> ours;
    for (int i = 0; i < 200; ++i) {
      floor.push_back(microseconds([&] { bare(argv); }));
      ours.push_back(microseconds([&] { CHECK(run(argv, device).value().exit_status == 0); }));
    }
    for (const double share : {0.25, 0.5, 0.9}) {
      const double least = quantile(floor, share);
      const double took = quantile(ours, share);
      std::printf("e2fsck -p, %s, %.0f %%: bare %.0f us, run_command %.0f us, %+.0f us\n", when, share * 100, least, took, took - least);
    }
  };
  compare("few mounts");
  const auto mounts = directory.path() / "mounts";
  std::filesystem::create_directory(mounts);
  for (int i = 0; i < 5000; ++i) {
    const auto at = mounts / std::to_string(i);
    std::filesystem::create_directory(at);
    REQUIRE(::mount(directory.path().c_str(), at.c_str(), nullptr, MS_BIND, nullptr) == 0);
  }
  std::printf("the namespace made with 5000 mounts: %.0f us\n", microseconds([] { CHECK(ToolNamespace::make().has_value()); }));
  compare("5000 mounts");
}

}  // namespace
}  // namespace ordinald::mount
