#include "mount/worker.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <stdexcept>
#include <thread>

#include "mount/left_behind.hpp"
#include "mount/process.hpp"
#include "mount/worker_mark.hpp"
#include "mount/worker_pool.hpp"
#include "tests/mount/loop_file.hpp"
#include "tests/support/cgroup.hpp"
#include "tests/support/temp.hpp"

namespace ordinald::mount {
namespace {

using namespace std::chrono_literals;
using std::chrono::steady_clock;
using testing::TempDir;
namespace fs = std::filesystem;

/// What the workers of these tests serve: `inspect_path` does what its path says.
class OddKernel : public Kernel {
 public:
  explicit OddKernel(ToolRunner run_tool) : run_tool_(std::move(run_tool)) {}
  static std::unique_ptr<Kernel> make(ToolRunner run_tool) { return std::make_unique<OddKernel>(std::move(run_tool)); }

  Result<PathInfo> inspect_path(const std::string& path) override {
    if (path == "throw") throw std::runtime_error("it is odd");
    if (path == "throw an int") throw 7;  // NOLINT
    if (path == "die") ::_exit(3);
    if (path == "stop") ::raise(SIGSTOP);
    if (path == "refuse") return errno_error(ErrorCode::failed_precondition, EBUSY, "refused");
    // Creates a file: never returns while its filesystem is frozen, and no signal helps.
    if (path.starts_with("/")) ::close(::open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    PathInfo info;
    info.mount_id = static_cast<std::uint64_t>(::getpid());
    return info;
  }
  Result<std::vector<MountEntry>> mount_table() override {
    std::vector<MountEntry> table(5000);
    for (MountEntry& entry : table) entry.mount_point = std::string(400, 'm');
    return table;
  }
  Result<void> detach(const Device& device) override {
    if (device.path == "/dev/loop7") return success();
    return make_error(ErrorCode::not_found, "no " + device.path);
  }
  Result<ToolOutcome> run_tool(const ToolRequest& request) override { return run_tool_(request); }

  Result<ImageInfo> create_image(const ImageSpec&) override { return none(); }
  Result<std::optional<ImageInfo>> inspect_image(const ImageRef&) override { return std::optional<ImageInfo>{}; }
  Result<ImageInfo> resize_image(const ImageSpec&) override { return none(); }
  Result<void> relabel_image(const ImageSpec&) override { return none(); }
  Result<ImageInfo> adopt_image(const AdoptRequest&) override { return none(); }
  Result<void> remove_image(const ImageRef&) override { return none(); }
  Result<PoolDirectory> open_pool(const std::string&) override { return none(); }
  Result<std::string> mark_pool(const std::string&, const std::string&) override { return none(); }
  Result<PoolUsage> inspect_pool(const std::string&) override { return none(); }
  Result<Device> attach(const ImageRef&, std::uint32_t) override { return none(); }
  Result<std::optional<Device>> find_attached(const ImageRef&) override { return none(); }
  Result<Device> inspect_device(const Device&) override { return none(); }
  Result<void> refuse_discard(const Device&) override { return none(); }
  Result<void> set_device_read_only(const Device&, bool read_only) override { return read_only ? Result<void>{success()} : none(); }
  Result<Device> refresh_device_size(const Device&) override { return none(); }
  Result<Probe> probe(const ProbeRequest&) override { return none(); }
  Result<void> erase(const Device&, bool) override { return none(); }
  Result<Survey> survey(const std::string&) override { return none(); }
  Result<PathInfo> mount_filesystem(const MountRequest&) override { return none(); }
  Result<PathInfo> bind(const BindRequest&) override { return none(); }
  Result<void> unmount(const UnmountRequest& request) override {
    if (!request.write_back) return success();
    ::raise(SIGSTOP);
    return errno_error(EIO, "what was written last may be lost");
  }
  Result<std::vector<StagingPlace>> staging_places(const std::string&) override { return none(); }
  Result<FilesystemUsage> usage(const std::string&, const Expected&) override { return none(); }
  Result<std::uint64_t> grow_filesystem(const GrowRequest&) override { return none(); }
  Result<void> apply_group(const std::string&, const Expected&, std::uint32_t gid) override {
    throw std::runtime_error(std::to_string(gid));
  }
  Result<std::vector<Pin>> pins(const Device&) override { return none(); }
  Result<std::vector<LoopEntry>> loops() override { return none(); }
  Result<CgroupUsers> cgroup_users(const CgroupQuery&) override { return none(); }

 private:
  static Error none() { return make_error(ErrorCode::unimplemented, "not here"); }
  ToolRunner run_tool_;
};

std::unique_ptr<WorkerPool> make_pool(const fs::path& run_dir, WorkerPool::Options options = {}) {
  auto zygote = Zygote::start(run_dir, &OddKernel::make);
  if (!zygote) FAIL(zygote.error().message);
  auto left = LeftBehind::collect(run_dir);
  if (!left) FAIL(left.error().message);
  return std::make_unique<WorkerPool>(std::move(zygote).value(), std::move(left).value(), options);
}

std::unique_ptr<Kernel> kernel_of(WorkerPool& pool, const std::string& volume) {
  auto kernel = pool.for_volume(volume);
  if (!kernel) FAIL(kernel.error().message);
  return std::move(kernel).value();
}

pid_t pid_of(Kernel& kernel) {
  const auto info = kernel.inspect_path("pid");
  if (!info) FAIL(info.error().message);
  return static_cast<pid_t>(info.value().mount_id);
}

/// True as soon as it holds, false after 10 s. Yields, and never sleeps.
bool soon(const std::function<bool()>& holds) {
  const auto until = steady_clock::now() + 10s;
  while (!holds()) {
    if (steady_clock::now() > until) return false;
    std::this_thread::yield();
  }
  return true;
}

std::vector<std::string> marks(const fs::path& run_dir) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(run_dir / "workers")) names.push_back(entry.path().filename());
  return names;
}

bool gone(pid_t pid) {
  const UniqueFd process = open_pidfd(pid);
  return !process || wait_gone(process, steady_clock::now() + 10s);
}

/// A mounted ext4 that can be frozen: who writes to it then waits in the kernel, and SIGKILL doesn't end it.
class Freezable {
 public:
  explicit Freezable(const fs::path& directory) : at_(directory / "frozen") {
    const Device device = testing::loop_on(directory / "image", 64 << 20);
    fs::create_directory(at_);
    const std::string mkfs = "/usr/sbin/mkfs.ext4 -q " + device.path;
    if (std::system(mkfs.c_str()) != 0 || ::mount(device.path.c_str(), at_.c_str(), "ext4", 0, nullptr) != 0) {  // NOLINT
      throw std::runtime_error("a filesystem to freeze");
    }
    fd_ = UniqueFd{::open(at_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (::ioctl(fd_.get(), FIFREEZE, 0) != 0) throw std::runtime_error("FIFREEZE");
  }
  Freezable(const Freezable&) = delete;
  Freezable& operator=(const Freezable&) = delete;
  ~Freezable() { thaw(); }
  void thaw() {
    if (fd_) ::ioctl(fd_.get(), FITHAW, 0);
    fd_.reset();
  }
  std::string file(int number = 0) const { return (at_ / std::to_string(number)).string(); }

 private:
  fs::path at_;
  UniqueFd fd_;
};

TEST_CASE("worker: verbs go there and answers come back", "[worker][root]") {
  const TempDir run{"worker"};
  const auto pool = make_pool(run.path());
  CHECK(pool->alive());
  const auto kernel = kernel_of(*pool, "data-db-0");
  const pid_t pid = pid_of(*kernel);
  CHECK(pid != ::getpid());
  CHECK(command_of(pid) == "ordinald-worker");

  Device device;
  device.path = "/dev/loop7";
  CHECK(kernel->detach(device).has_value());
  CHECK(kernel->set_device_read_only(device, true).has_value());
  CHECK(kernel->set_device_read_only(device, false).error().code == ErrorCode::unimplemented);
  device.path = "/dev/loop8";
  CHECK(kernel->detach(device).error().message == "no /dev/loop8");
  CHECK(kernel->inspect_image({}).value() == std::nullopt);
  const auto refused = kernel->inspect_path("refuse");
  CHECK(refused.error().code == ErrorCode::failed_precondition);
  CHECK(refused.error().sys_errno == EBUSY);

  const auto table = kernel->mount_table();  // 2 MB: more than a socket holds
  REQUIRE(table.has_value());
  CHECK(table.value().size() == 5000);
  CHECK(table.value().back().mount_point == std::string(400, 'm'));
  CHECK(pid_of(*kernel) == pid);
}

TEST_CASE("worker: an exception in a verb is a bug that is told", "[worker][root]") {
  const TempDir run{"worker"};
  const auto pool = make_pool(run.path());
  const auto kernel = kernel_of(*pool, "v");
  const pid_t pid = pid_of(*kernel);
  const auto thrown = kernel->inspect_path("throw");
  CHECK(thrown.error().code == ErrorCode::internal);
  CHECK(thrown.error().message == "bug: inspect_path: it is odd");
  CHECK(kernel->inspect_path("throw an int").error().message.starts_with("bug: inspect_path: "));
  CHECK(kernel->apply_group("/x", {}, 7).error().message == "bug: apply_group: 7");
  CHECK(pid_of(*kernel) == pid);
}

TEST_CASE("worker: it is given back, used again, and ended when enough are idle", "[worker][root]") {
  const TempDir run{"worker"};
  auto pool = make_pool(run.path(), {.idle_workers = 1});
  auto first = kernel_of(*pool, "a");
  auto second = kernel_of(*pool, "b");
  const pid_t one = pid_of(*first);
  const pid_t two = pid_of(*second);
  CHECK(one != two);
  CHECK(marks(run.path()).size() == 2);
  first.reset();
  second.reset();
  CHECK(gone(two));
  CHECK(soon([&] { return marks(run.path()).size() == 1; }));
  CHECK(pid_of(*kernel_of(*pool, "c")) == one);
  pool.reset();
  CHECK(gone(one));
  CHECK(marks(run.path()).empty());
}

TEST_CASE("worker: its mark says what it works on before it does", "[worker][root]") {
  const TempDir run{"worker"};
  const auto pool = make_pool(run.path());
  const auto mark_of = [&](pid_t pid) {
    const std::string name = std::to_string(pid) + "." + std::to_string(start_time_of(pid).value());
    return parse_mark(testing::read_file(run.path() / "workers" / name)).value();
  };
  auto kernel = kernel_of(*pool, "data\tdb\\0\n");
  const pid_t pid = pid_of(*kernel);
  CHECK(mark_of(pid).volume == "data\tdb\\0\n");
  kernel.reset();
  kernel = kernel_of(*pool, "x");
  CHECK(pid_of(*kernel) == pid);
  CHECK(mark_of(pid).volume == "x");
  CHECK(mark_of(pid).tool_pid == 0);

  ToolRequest cat{.argv = {"/bin/sh", "-c", "echo $$; cut -d' ' -f22 /proc/$$/stat; exec /bin/sleep 1000"}, .device = {}, .deadline = 1s};
  std::thread asks([&] {
    const auto outcome = kernel->run_tool(cat);
    REQUIRE(outcome.has_value());
    CHECK(outcome.value().timed_out);
  });
  CHECK(soon([&] { return mark_of(pid).tool_pid != 0; }));
  const Mark mark = mark_of(pid);
  CHECK(mark.volume == "x");
  CHECK(mark.tool == "sh");
  CHECK(start_time_of(mark.tool_pid).value() == mark.tool_start);
  asks.join();
  CHECK(mark_of(pid).tool_pid == 0);
  CHECK(mark_of(pid).volume == "x");
  CHECK(gone(mark.tool_pid));

  kernel.reset();
  kernel = kernel_of(*pool, std::string(600, 'x'));
  CHECK(kernel->inspect_path("pid").error().code == ErrorCode::invalid_argument);  // what can't be noted isn't done
}

TEST_CASE("worker: it holds its socket and the tools' namespace and nothing else", "[worker][root]") {
  const TempDir run{"worker"};
  const UniqueFd leaking{::open("/etc/hostname", O_RDONLY)};  // without O_CLOEXEC, from before the zygote
  const auto pool = make_pool(run.path());
  const auto other = kernel_of(*pool, "other");
  const auto kernel = kernel_of(*pool, "v");
  std::vector<std::string> open;
  for (const auto& entry : fs::directory_iterator("/proc/" + std::to_string(pid_of(*kernel)) + "/fd")) {
    if (entry.path().filename() != "2") open.push_back(fs::read_symlink(entry.path()).string());  // a sanitizer keeps that one
  }
  std::sort(open.begin(), open.end());
  CAPTURE(open);
  REQUIRE(open.size() == 5);
  CHECK(open[0] == "/dev/null");
  CHECK(open[1] == "/dev/null");
  CHECK(open[2].starts_with(run.path().string() + "/workers/"));
  CHECK(open[3].starts_with("mnt:["));
  CHECK(open[4].starts_with("socket:["));
  const std::string status = testing::read_file("/proc/" + std::to_string(pid_of(*kernel)) + "/status");
  CHECK(status.find("SigBlk:\t0000000000000000") != std::string::npos);
  CHECK(status.find("SigIgn:\t0000000000004007") != std::string::npos);  // HUP, INT, QUIT, TERM
}

TEST_CASE("worker: one that stops answering is left with its volume, and the others are served", "[worker][root]") {
  const TempDir run{"worker"};
  const auto pool = make_pool(run.path(), {.idle_workers = 2, .verb_deadline = 400ms});
  auto kernel = kernel_of(*pool, "stuck");
  const pid_t pid = pid_of(*kernel);
  const auto begin = steady_clock::now();
  const auto answer = kernel->inspect_path("stop");
  const auto took = steady_clock::now() - begin;
  CHECK(took >= 400ms);
  CHECK(took < 5s);
  REQUIRE_FALSE(answer.has_value());
  CHECK(answer.error().code == ErrorCode::unavailable);
  INFO(answer.error().message);
  CHECK(answer.error().message.find("inspect_path of stop for volume stuck") != std::string::npos);
  CHECK(answer.error().message.find(std::to_string(pid)) != std::string::npos);

  const auto again = kernel->inspect_path("pid");  // on the same object, and on a new one
  CHECK(again.error().code == ErrorCode::unavailable);
  kernel.reset();
  const auto refused = pool->for_volume("stuck");
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error().code == ErrorCode::unavailable);
  CHECK(refused.error().message.find("hangs since") != std::string::npos);
  CHECK(refused.error().message.find(std::to_string(pid)) != std::string::npos);

  CHECK(pid_of(*kernel_of(*pool, "another")) != pid);
  auto hangs = pool->hangs();
  REQUIRE(hangs.size() == 1);
  CHECK(hangs[0].volume == "stuck");
  CHECK(hangs[0].pid == pid);
  CHECK(hangs[0].what == "inspect_path of stop");

  ::kill(pid, SIGCONT);
  CHECK(soon([&] { return pool->hangs().empty(); }));
  kernel = kernel_of(*pool, "stuck");
  CHECK(pid_of(*kernel) == pid);  // its late answer was thrown away, and it works again
  kernel.reset();

  SECTION("killed, its volume is served again as well") {
    kernel = kernel_of(*pool, "stuck");
    CHECK_FALSE(kernel->inspect_path("stop").has_value());
    ::kill(pid, SIGKILL);
    CHECK(soon([&] { return pool->for_volume("stuck").has_value(); }));
    CHECK(pool->hangs().empty());
  }
  SECTION("a wait is cut short when the agent ends") {
    const auto patient = make_pool(run.path() / "second");
    kernel = kernel_of(*patient, "stuck");
    std::thread ends([&] {
      CHECK(soon([&] { return marks(run.path() / "second").size() == 1; }));
      patient->stop();
    });
    const auto cut = kernel->inspect_path("stop");
    ends.join();
    CHECK(cut.error().code == ErrorCode::unavailable);
    CHECK(cut.error().message.find("ending") != std::string::npos);
    CHECK(patient->for_volume("another").error().code == ErrorCode::unavailable);
    kernel.reset();
  }
}

TEST_CASE("worker: 64 volumes hang in the kernel and the others don't notice", "[worker][root]") {
  const TempDir run{"worker"};
  Freezable frozen{run.path()};
  auto pool = make_pool(run.path(), {.idle_workers = 2, .verb_deadline = 2s});
  std::vector<std::thread> calls;
  std::atomic<int> unavailable = 0;
  for (int i = 0; i < 64; ++i) {
    calls.emplace_back([&, i] {
      const auto kernel = pool->for_volume("hung-" + std::to_string(i));
      if (kernel && kernel.value()->inspect_path(frozen.file(i)).error().code == ErrorCode::unavailable) ++unavailable;
    });
  }
  for (std::thread& call : calls) call.join();
  CHECK(unavailable == 64);
  CHECK(pool->hangs().size() == 64);
  std::vector<double> took;
  for (int i = 0; i < 200; ++i) {
    const auto begin = steady_clock::now();
    CHECK(kernel_of(*pool, "fine")->inspect_path("pid").has_value());
    took.push_back(std::chrono::duration<double, std::micro>(steady_clock::now() - begin).count());
  }
  std::nth_element(took.begin(), took.begin() + 100, took.end());
  std::printf("for_volume and a verb, 64 volumes hanging: %.0f us\n", took[100]);

  SECTION("thawed, all are served again") {
    frozen.thaw();
    for (int i = 0; i < 64; ++i) CHECK(soon([&] { return pool->for_volume("hung-" + std::to_string(i)).has_value(); }));
    CHECK(pool->hangs().empty());
  }
  SECTION("the agent ends in time") {
    const auto begin = steady_clock::now();
    pool.reset();
    CHECK(steady_clock::now() - begin < 5s);
    // And its successor serves all but those, each of which it names, until they are gone.
    pool = make_pool(run.path());
    CHECK(steady_clock::now() - begin < 10s);
    CHECK(pool->hangs().size() == 64);
    CHECK(kernel_of(*pool, "fine")->inspect_path("pid").has_value());
    const auto refused = pool->for_volume("hung-3");
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().code == ErrorCode::unavailable);
    INFO(refused.error().message);
    CHECK(refused.error().message.find("(ordinald-worker), of an earlier agent") != std::string::npos);
    frozen.thaw();
    CHECK(kernel_of(*pool, "hung-3")->inspect_path("pid").has_value());
    CHECK(soon([&] { return pool->hangs().empty(); }));
  }
}

TEST_CASE("worker: that an unmount lost something is told, also when it took longer than its call", "[worker][root]") {
  const TempDir run{"worker"};
  const auto pool = make_pool(run.path(), {.verb_deadline = 300ms});
  auto kernel = kernel_of(*pool, "v");
  const pid_t pid = pid_of(*kernel);
  const UnmountRequest unmount{.path = "/stage", .expected = {}, .remove = false, .write_back = true};
  CHECK(kernel->unmount(unmount).error().code == ErrorCode::unavailable);
  kernel.reset();
  ::kill(pid, SIGCONT);
  CHECK(soon([&] { return pool->hangs().empty(); }));
  UnmountRequest again = unmount;
  again.write_back = false;
  CHECK(kernel_of(*pool, "other")->unmount(again).has_value());
  CHECK(kernel_of(*pool, "v")->inspect_path("pid").has_value());
  const auto told = kernel_of(*pool, "v")->unmount(again);
  REQUIRE_FALSE(told.has_value());
  CHECK(told.error().sys_errno == EIO);
  CHECK(told.error().message.find("may be lost") != std::string::npos);
  CHECK(kernel_of(*pool, "v")->unmount(again).has_value());
}

TEST_CASE("worker: one that dies is told and replaced", "[worker][root]") {
  const TempDir run{"worker"};
  const auto pool = make_pool(run.path());
  auto kernel = kernel_of(*pool, "v");
  const pid_t pid = pid_of(*kernel);
  const auto answer = kernel->inspect_path("die");
  CHECK(answer.error().code == ErrorCode::unavailable);  // it may have been done
  CHECK(answer.error().message.find("worker process " + std::to_string(pid) + " died") != std::string::npos);
  const pid_t next = pid_of(*kernel);
  CHECK(next != pid);
  CHECK(gone(pid));
  kernel.reset();
  ::kill(next, SIGKILL);  // while idle
  CHECK(gone(next));
  CHECK(pid_of(*kernel_of(*pool, "v")) != next);
}

TEST_CASE("worker: where none can be made, the limit is named, and it goes on later", "[worker][root]") {
  const std::string hierarchy = "/sys/fs/cgroup/pids";
  if (::access((hierarchy + "/cgroup.procs").c_str(), W_OK) != 0) {
    std::puts("SKIPPED: there is no hierarchy of control groups for pids.max");
    return;
  }
  const TempDir run{"worker"};
  auto zygote = Zygote::start(run.path(), &OddKernel::make);
  REQUIRE(zygote.has_value());
  testing::TestCgroup group{"pids", hierarchy};
  group.add(zygote.value().pid());
  testing::write_file(group.path() + "/pids.max", "1");
  WorkerPool pool{std::move(zygote).value(), {}, {}};
  const auto refused = pool.for_volume("v");
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == ErrorCode::resource_exhausted);
  CHECK(refused.error().message.find("pids.max") != std::string::npos);
  testing::write_file(group.path() + "/pids.max", "max");
  CHECK(pid_of(*kernel_of(pool, "v")) > 0);
}

TEST_CASE("worker: without the zygote nothing is served, and it is told", "[worker][root]") {
  const TempDir run{"worker"};
  auto zygote = Zygote::start(run.path(), &OddKernel::make);
  REQUIRE(zygote.has_value());
  const pid_t pid = zygote.value().pid();
  CHECK(soon([&] { return command_of(pid) == "ordinald-fork"; }));
  WorkerPool pool{std::move(zygote).value(), {}, {}};
  const auto kernel = kernel_of(pool, "v");
  const pid_t worker = pid_of(*kernel);
  ::kill(pid, SIGTERM);  // a service manager that signals every process: the daemon decides
  CHECK(pid_of(*kernel_of(pool, "other")) > 0);
  CHECK(pool.alive());
  ::kill(pid, SIGKILL);
  CHECK(gone(worker));
  CHECK(soon([&] { return !pool.alive(); }));
  const auto refused = pool.for_volume("w");
  CHECK(refused.error().code == ErrorCode::unavailable);
  CHECK(refused.error().message.find("restart the agent") != std::string::npos);
}

TEST_CASE("worker: with the daemon, zygote, workers and tools end", "[worker][root]") {
  const TempDir run{"worker"};
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  const UniqueFd read_end{ends[0]};
  UniqueFd write_end{ends[1]};
  const pid_t daemon = ::fork();
  if (daemon == 0) {
    auto zygote = Zygote::start(run.path(), &OddKernel::make);
    const pid_t zygote_pid = zygote.value().pid();
    WorkerPool pool{std::move(zygote).value(), {}, {}};
    const auto idle = kernel_of(pool, "idle");
    const pid_t worker = pid_of(*idle);
    std::thread tool([&] { (void)kernel_of(pool, "tool")->run_tool({.argv = {"/bin/sleep", "1000"}, .device = {}, .deadline = 1000s}); });
    pid_t pids[4] = {zygote_pid, worker, 0, 0};
    soon([&] {
      for (const std::string& name : marks(run.path())) {
        const auto mark = parse_mark(testing::read_file(run.path() / "workers" / name));
        if (mark && mark->tool_pid != 0) {
          pids[2] = std::stoi(name);
          pids[3] = mark->tool_pid;
        }
      }
      return pids[3] != 0;
    });
    if (::write(write_end.get(), pids, sizeof pids) < 0) ::_exit(1);
    for (;;) ::pause();
  }
  write_end.reset();
  pid_t pids[4] = {};
  REQUIRE(::read(read_end.get(), pids, sizeof pids) == sizeof pids);
  std::vector<UniqueFd> processes;
  for (const pid_t pid : pids) {
    REQUIRE(pid > 0);
    processes.push_back(open_pidfd(pid));
    REQUIRE(processes.back());
    CHECK_FALSE(wait_gone(processes.back(), {}));
  }
  const auto begin = steady_clock::now();
  ::kill(daemon, SIGKILL);
  ::waitpid(daemon, nullptr, 0);
  for (const UniqueFd& process : processes) CHECK(wait_gone(process, steady_clock::now() + 5s));
  CHECK(steady_clock::now() - begin < 5s);
  // Their marks tell the successor nothing that still holds.
  const auto left = LeftBehind::collect(run.path());
  REQUIRE(left.has_value());
  CHECK(left.value().alive().empty());
  CHECK(left.value().check("tool").has_value());
  CHECK(marks(run.path()).empty());
}

/// A process that has written a mark, stopped.
pid_t stopped_with_mark(const fs::path& run_dir, const std::string& volume, bool with_tool = false) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    auto mark = WorkerMark::open(run_dir);
    if (!mark || !mark.value().set_volume(volume)) ::_exit(1);
    if (with_tool) {
      const pid_t tool = ::fork();
      if (tool == 0) {
        ::setsid();
        const pid_t grandchild = ::fork();
        if (grandchild == 0) {
          for (;;) ::pause();
        }
        if (!mark.value().set_tool(::getpid(), start_time_of(::getpid()).value(), "mkfs.btrfs")) ::_exit(1);
        for (;;) ::pause();
      }
      const fs::path file = run_dir / "workers" / (std::to_string(::getpid()) + "." + std::to_string(start_time_of(::getpid()).value()));
      soon([&] { return parse_mark(testing::read_file(file))->tool_pid != 0; });
    }
    ::raise(SIGSTOP);
    ::_exit(0);
  }
  ::waitpid(pid, nullptr, WUNTRACED);
  return pid;
}

TEST_CASE("left behind: what an earlier agent left is killed, by pid and start time", "[worker][root]") {
  const TempDir run{"worker"};
  fs::create_directories(run.path() / "workers");
  CHECK(LeftBehind::collect(run.path() / "nowhere").has_value());

  const pid_t worker = stopped_with_mark(run.path(), "v", true);
  const auto mark = parse_mark(testing::read_file(run.path() / "workers" / marks(run.path()).front())).value();
  CHECK(mark.volume == "v");
  CHECK(mark.tool == "mkfs.btrfs");
  const UniqueFd tool = open_pidfd(mark.tool_pid);
  // A mark of a process that has our pid but another start time, an empty one, one that isn't a mark, and something else.
  testing::write_file(run.path() / "workers" / (std::to_string(::getpid()) + ".1"), "v\n");
  testing::write_file(run.path() / "workers" / "1.1", "");
  testing::write_file(run.path() / "workers" / "2.1", "nonsense");
  testing::write_file(run.path() / "workers" / "notes", "mine");

  const auto left = LeftBehind::collect(run.path());
  REQUIRE(left.has_value());
  CHECK(left.value().check("v").has_value());
  CHECK(left.value().check("w").has_value());
  int status = 0;
  CHECK(::waitpid(worker, &status, 0) == worker);
  CHECK(WIFSIGNALED(status));
  CHECK(wait_gone(tool, steady_clock::now() + 5s));
  CHECK(left.value().alive().empty());
  CHECK(marks(run.path()) == std::vector<std::string>{"notes"});
}

TEST_CASE("left behind: what can't be killed keeps its volume and no other", "[worker][root]") {
  const TempDir run{"worker"};
  Freezable frozen{run.path()};
  const pid_t daemon = ::fork();
  if (daemon == 0) {
    const auto pool = make_pool(run.path());
    std::thread call([&] { (void)kernel_of(*pool, "v")->inspect_path(frozen.file()); });
    soon([&] { return marks(run.path()).size() == 1 && !testing::read_file(run.path() / "workers" / marks(run.path())[0]).empty(); });
    // The mark is written just before the verb: wait for the kernel to say that it is in there.
    const pid_t worker = std::stoi(marks(run.path())[0]);
    soon([&] { return testing::read_file("/proc/" + std::to_string(worker) + "/stat").find(") D ") != std::string::npos; });
    ::kill(::getpid(), SIGKILL);
  }
  int status = 0;
  ::waitpid(daemon, &status, 0);
  CHECK(WIFSIGNALED(status));

  const auto left = LeftBehind::collect(run.path());
  REQUIRE(left.has_value());
  CHECK(left.value().check("w").has_value());
  const auto begin = steady_clock::now();
  const auto refused = left.value().check("v", 100ms);
  CHECK(steady_clock::now() - begin >= 100ms);
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error().code == ErrorCode::unavailable);
  const auto alive = left.value().alive();
  REQUIRE(alive.size() == 1);
  CHECK(alive[0].volume == "v");
  CHECK(alive[0].command == "ordinald-worker");
  CHECK(refused.error().message.find(std::to_string(alive[0].pid)) != std::string::npos);

  std::thread thaws([&] { frozen.thaw(); });
  CHECK(left.value().check("v", 10s).has_value());  // waits no longer than it must
  thaws.join();
  CHECK(left.value().alive().empty());
  CHECK(marks(run.path()).empty());
}

TEST_CASE("left behind: a tool that outlives its worker keeps the volume", "[worker][root]") {
  const TempDir run{"worker"};
  SECTION("where SIGKILL ends it, the next call finds it gone") {
    const auto pool = make_pool(run.path());
    const auto mark = [&] {
      const auto names = marks(run.path());
      return names.empty() ? Mark{} : parse_mark(testing::read_file(run.path() / "workers" / names[0])).value_or(Mark{});
    };
    std::thread call([&] {
      const auto kernel = kernel_of(*pool, "v");
      const auto died = kernel->run_tool({.argv = {"/bin/sleep", "1000"}, .device = {}, .deadline = 1000s});
      CHECK(died.error().code == ErrorCode::unavailable);
    });
    CHECK(soon([&] { return mark().tool_pid != 0; }));
    const UniqueFd tool = open_pidfd(mark().tool_pid);
    const pid_t worker = std::stoi(marks(run.path())[0]);
    CHECK_FALSE(wait_gone(tool, {}));
    ::kill(worker, SIGKILL);
    call.join();
    CHECK(pool->for_volume("v").has_value());
    CHECK(wait_gone(tool, {}));
    CHECK(pool->hangs().empty());
    for (const std::string& name : marks(run.path())) CHECK_FALSE(name.starts_with(std::to_string(worker) + "."));
  }
  SECTION("where it doesn't, the volume waits") {
    fs::create_directories(run.path() / "workers");
    Freezable frozen{run.path()};
    const pid_t tool = ::fork();
    if (tool == 0) {
      ::setsid();
      ::close(::open(frozen.file().c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
      ::_exit(0);
    }
    CHECK(soon([&] { return testing::read_file("/proc/" + std::to_string(tool) + "/stat").find(") D ") != std::string::npos; }));
    const auto mark = "v\t" + std::to_string(tool) + " " + std::to_string(start_time_of(tool).value()) + " mkfs.btrfs\n";
    testing::write_file(run.path() / "workers" / "77.1", mark);
    testing::write_file(run.path() / "workers" / "777.1", mark);
    LeftBehind left;
    const auto found = LeftBehind::collect_of(run.path(), 77);
    REQUIRE(found.has_value());
    left.merge(found.value());
    REQUIRE(left.alive().size() == 1);
    CHECK(left.alive()[0].pid == tool);
    CHECK(left.check("v", 10ms).error().code == ErrorCode::unavailable);
    CHECK(left.check("w").has_value());
    frozen.thaw();
    CHECK(left.check("v", 10s).has_value());
    left.merge({});
    CHECK(marks(run.path()) == std::vector<std::string>{"777.1"});
    ::waitpid(tool, nullptr, 0);
  }
}

TEST_CASE("mark: what is written is read", "[worker]") {
  CHECK(parse_mark("")->volume.empty());
  CHECK(parse_mark("v\n\n\n")->volume == "v");
  CHECK(parse_mark("a\\tb\\n\\\\\t12 34 mkfs.xfs\n")->volume == "a\tb\n\\");
  CHECK(parse_mark("v\t12 34 mkfs.xfs\n")->tool_pid == 12);
  CHECK(parse_mark("v\t12 34 mkfs.xfs\n")->tool_start == 34);
  CHECK(parse_mark("v\t12 34 mkfs.xfs\n")->tool == "mkfs.xfs");
  for (const char* bad : {"v", "v\t\n", "v\tx 1 y\n", "v\t1\n", "v\t-3 1 y\n", "v\t1 x\n"}) {
    CAPTURE(bad);
    CHECK_FALSE(parse_mark(bad).has_value());
  }
}

TEST_CASE("worker: what a request costs", "[worker][root][!benchmark]") {
  const TempDir run{"worker"};
  const auto pool = make_pool(run.path());
  const auto median = [](int runs, const auto& work) {
    std::vector<double> took;
    for (int i = 0; i < runs; ++i) {
      const auto begin = steady_clock::now();
      work(i);
      took.push_back(std::chrono::duration<double, std::micro>(steady_clock::now() - begin).count());
    }
    std::nth_element(took.begin(), took.begin() + runs / 2, took.end());
    return took[static_cast<std::size_t>(runs / 2)];
  };
  auto kernel = kernel_of(*pool, "v");
  std::printf("a verb: %.0f us\n", median(2000, [&](int) { CHECK(kernel->inspect_path("pid").has_value()); }));
  std::printf("a mount table of 2 MB: %.0f us\n", median(20, [&](int) { CHECK(kernel->mount_table().has_value()); }));
  kernel.reset();
  std::printf("for_volume, a verb, given back: %.0f us\n",
              median(2000, [&](int i) { CHECK(kernel_of(*pool, std::to_string(i))->inspect_path("pid").has_value()); }));
  std::vector<std::unique_ptr<Kernel>> many;
  std::printf("a new worker: %.0f us, with its first verb\n", median(100, [&](int) {
                many.push_back(kernel_of(*pool, "v"));
                CHECK(many.back()->inspect_path("pid").has_value());
              }));
  const auto smaps = testing::read_file("/proc/" + std::to_string(pid_of(*many[50])) + "/smaps_rollup");
  std::printf("a worker beside 99 others:\n%s\n", smaps.c_str());
}

}  // namespace
}  // namespace ordinald::mount
