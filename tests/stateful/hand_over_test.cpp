// Mode 6 through every order of events that an orchestrator, a person and a kernel can produce.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <unistd.h>

#include <fstream>
#include <functional>
#include <stdexcept>
#include <thread>

#include "tests/stateful/orchestrator.hpp"

namespace ordinald::testing {
namespace {

void need(bool done, const char* what) {
  if (!done) throw std::runtime_error(what);
}

std::string process(const Workload& workload) { return "process " + std::to_string(workload.pid()) + " (workload, mount namespace "; }

/// Waits until the agent has logged it.
bool logged(Rig& rig, const std::string& words) {
  for (int i = 0; i < 1000; ++i) {
    if (rig.agent().log().find(words) != std::string::npos) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

/// One volume, staged, and its first pod, which has it.
struct Held {
  explicit Held(Rig& rig, const v1::VolumeCapability& capability = rwop)
      : orchestrator(rig), volume(orchestrator.provision("data-db-0", "ordinal", "prod", capability)), first(new_pod("db-0")) {
    REQUIRE(orchestrator.stage(volume) == OK);
    REQUIRE(orchestrator.publish(volume, first) == OK);
  }
  Orchestrator orchestrator;
  ClaimedVolume volume;
  PodId first;
  PodId second = new_pod("db-0");
};

}  // namespace

TEST_CASE("hand-over: the new pod before the old is unpublished, whatever restarts in between", "[stateful][root]") {
  Rig rig;
  Held it{rig};
  REQUIRE(try_write(it.orchestrator.target(it.volume, it.first) / "file", "first") == 0);
  for (int i = 0; i < 3; ++i) {
    const Outcome refused = it.orchestrator.publish(it.volume, it.second);
    CHECK(refused == FAILED_PRECONDITION);
    CHECK_THAT(refused.message,
               Catch::Contains("held by prod/db-0 (uid " + it.first.uid + ") at " + it.orchestrator.target(it.volume, it.first).string()) &&
                   Catch::Contains("it is mounted there, and no process has it") &&  // its image is still being pulled
                   Catch::Contains("ordinalctl release " + it.volume.id + " --holder " + it.first.uid));
    CHECK_FALSE(fs::exists(it.orchestrator.target(it.volume, it.second)));
    if (i == 0) rig.crash();
    if (i == 1) {
      rig.agent().stop();  // as an upgrade does it
      rig.agent().start();
    }
  }
  {
    const auto running = it.orchestrator.run(it.volume, it.first);
    CHECK_THAT(it.orchestrator.publish(it.volume, it.second).message, Catch::Contains(process(*running)) && Catch::Contains(" has it at "));
  }
  CHECK(it.orchestrator.unpublish(it.volume, new_pod("db-0")) == OK);  // of one that never was
  CHECK(it.orchestrator.publish(it.volume, it.second) == FAILED_PRECONDITION);
  REQUIRE(it.orchestrator.unpublish(it.volume, it.first) == OK);
  REQUIRE(it.orchestrator.publish(it.volume, it.second) == OK);
  CHECK(read_file(it.orchestrator.target(it.volume, it.second) / "file") == "first");
  CHECK(it.orchestrator.unpublish(it.volume, it.first) == OK);  // again, late
  CHECK(it.orchestrator.targets_of(it.volume).size() == 1);
}

TEST_CASE("hand-over: a pod deleted by force whose process goes on holds, however it has the volume", "[stateful][root]") {
  struct Case {
    const char* how;
    std::function<void(const fs::path&)> act;
    const char* fs_type = "ext4";
  };
  const auto open_file = [](const fs::path& at) { need(::open((at / "file").c_str(), O_RDWR) >= 0, "open"); };
  for (const Case& c : std::vector<Case>{
           {"an open file", open_file},
           {"an open file of a btrfs", open_file, "btrfs"},
           {"a working directory", [](const fs::path& at) { need(::chdir(at.c_str()) == 0, "chdir"); }},
           {"a mapped file",
            [](const fs::path& at) {
              const int fd = ::open((at / "file").c_str(), O_RDWR);
              need(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED, "mmap");
              ::close(fd);
            }},
           {"a mount of its own", [](const fs::path&) { leave_mount_namespace(); }},
           {"an open device", [](const fs::path& at) { need(::open(at.c_str(), O_RDWR) >= 0, "open"); }, ""},
           {"a device that it may open by a node of its own", [](const fs::path&) {}, ""},
       }) {
    INFO(c.how);
    Rig rig;
    const std::string fs_type = c.fs_type;
    auto capability = fs_type.empty() ? block_capability(single_node_single_writer) : mount_capability(single_node_single_writer, fs_type);
    Orchestrator orchestrator{rig};
    ClaimedVolume volume = orchestrator.provision("data-db-0", "ordinal", "prod", capability);
    const PodId first = new_pod("db-0");
    const PodId second = new_pod("db-0");
    REQUIRE(orchestrator.stage(volume) == OK);
    REQUIRE(orchestrator.publish(volume, first) == OK);
    const fs::path target = orchestrator.target(volume, first);
    if (!fs_type.empty()) REQUIRE(try_write(target / "file", std::string(4096, 'x')) == 0);
    // As a runtime has it: beneath its own root, from where the target's removal takes nothing away.
    const fs::path inside = rig.root() / "container";
    fs_type.empty() ? write_file(inside, "") : static_cast<void>(fs::create_directory(inside));
    REQUIRE(::mount(target.c_str(), inside.c_str(), nullptr, MS_BIND, nullptr) == 0);
    auto old = std::make_unique<Workload>("pod" + first.uid, [&] { c.act(inside); });
    REQUIRE(::umount2(inside.c_str(), MNT_DETACH) == 0);
    REQUIRE(orchestrator.unpublish(volume, first) == OK);
    for (int i = 0; i < 2; ++i) {
      const Outcome refused = orchestrator.publish(volume, second);
      CHECK(refused == FAILED_PRECONDITION);
      CHECK_THAT(refused.message,
                 Catch::Contains(process(*old)) && Catch::Contains("prod/db-0 (uid " + first.uid + ")") &&
                     Catch::Contains(std::string{"(unpublished), and its processes still "} + (fs_type.empty() ? "run" : "do")));
      if (i == 0) rig.crash();
    }
    old.reset();
    REQUIRE(orchestrator.publish(volume, second) == OK);
    if (!fs_type.empty()) CHECK(read_file(orchestrator.target(volume, second) / "file") == std::string(4096, 'x'));
  }
}

TEST_CASE("hand-over: a target taken away behind the agent's back ends the hold with the pod's last process", "[stateful][root]") {
  Rig rig{{{"repairIntervalSeconds", 0}}};
  Held it{rig};
  auto old = it.orchestrator.run(it.volume, it.first);
  const fs::path target = it.orchestrator.target(it.volume, it.first);
  REQUIRE(::umount2(target.c_str(), MNT_DETACH) == 0);
  fs::remove(target);
  for (int i = 0; i < 2; ++i) {
    const Outcome refused = it.orchestrator.publish(it.volume, it.second);
    CHECK(refused == FAILED_PRECONDITION);
    CHECK_THAT(refused.message, Catch::Contains("held by prod/db-0 (uid " + it.first.uid) && Catch::Contains(process(*old)));
    CHECK(it.orchestrator.unstage(it.volume) == FAILED_PRECONDITION);
    ClaimedVolume shared = it.volume;
    shared.capability = mount_capability(single_node_multi_writer, "ext4");
    CHECK(it.orchestrator.publish(shared, it.second) == FAILED_PRECONDITION);
    if (i == 0) rig.crash();
  }
  old.reset();
  CHECK(it.orchestrator.publish(it.volume, it.second) == OK);
  CHECK(it.orchestrator.unpublish(it.volume, it.first) == OK);
  CHECK(it.orchestrator.targets_of(it.volume).size() == 1);
}

TEST_CASE("hand-over: a ledger that is lost lets nobody in while a process of the pod before goes on", "[stateful][root]") {
  const bool unpublished_before = GENERATE(true, false);
  Rig rig;
  Held it{rig};
  auto old = it.orchestrator.run(it.volume, it.first);
  const NamespaceHolder bystander;
  if (unpublished_before) REQUIRE(it.orchestrator.unpublish(it.volume, it.first) == OK);
  rig.agent().kill();
  fs::remove_all(rig.root() / "run" / "ledger");
  rig.agent().start();
  if (!unpublished_before) REQUIRE(it.orchestrator.unpublish(it.volume, it.first) == OK);
  for (int i = 0; i < 2; ++i) {
    const Outcome refused = it.orchestrator.publish(it.volume, it.second);
    CHECK(refused == FAILED_PRECONDITION);
    CHECK_THAT(refused.message, Catch::Contains("who had it before its ledger was lost") && Catch::Contains(process(*old)) &&
                                    !Catch::Contains("process " + std::to_string(bystander.pid()) + " "));
    CHECK_FALSE(fs::exists(it.orchestrator.target(it.volume, it.second)));
    if (i == 0) rig.crash();
  }
  CHECK(it.orchestrator.publish(it.volume, it.first) == OK);  // its own process keeps nobody else's from it
  CHECK(it.orchestrator.publish(it.volume, it.second) == FAILED_PRECONDITION);
  REQUIRE(it.orchestrator.unpublish(it.volume, it.first) == OK);
  old.reset();
  CHECK(it.orchestrator.publish(it.volume, it.second) == OK);
}

TEST_CASE("hand-over: after a reboot nobody of before holds", "[stateful][root]") {
  Rig rig;
  Held it{rig};
  REQUIRE(try_write(it.orchestrator.target(it.volume, it.first) / "file", "first") == 0);
  rig.agent().kill();
  const auto mounted = mounts_beneath(rig.root());
  for (auto path = mounted.rbegin(); path != mounted.rend(); ++path) REQUIRE(::umount2(path->c_str(), 0) == 0);
  for (const LoopDevice& loop : loops_beneath(rig.root())) REQUIRE(run_tool({"losetup", "-d", loop.path}) == 0);
  const bool keeps_run = GENERATE(false, true);  // as where it lies on a disk
  if (!keeps_run) fs::remove_all(rig.root() / "run");
  const fs::path boot_id = rig.root() / "boot_id";
  write_file(boot_id, "11111111-2222-4333-8444-555555555555\n");
  REQUIRE(::mount(boot_id.c_str(), "/proc/sys/kernel/random/boot_id", nullptr, MS_BIND, nullptr) == 0);
  const std::shared_ptr<void> back{nullptr, [](void*) { ::umount2("/proc/sys/kernel/random/boot_id", MNT_DETACH); }};
  if (!keeps_run) fs::create_directory(rig.root() / "run");
  rig.agent().start();
  // A process in a group of the old pod's name is none of that pod's.
  const Workload stranger{"pod" + it.first.uid, [] { leave_mount_namespace(); }};
  CHECK(it.orchestrator.publish(it.volume, it.second) == FAILED_PRECONDITION);  // not staged in this boot
  REQUIRE(it.orchestrator.stage(it.volume) == OK);
  REQUIRE(it.orchestrator.publish(it.volume, it.second) == OK);
  CHECK(read_file(it.orchestrator.target(it.volume, it.second) / "file") == "first");
  CHECK(it.orchestrator.unpublish(it.volume, it.first) == OK);
  CHECK(it.orchestrator.targets_of(it.volume).size() == 1);
}

TEST_CASE("hand-over: many volumes at once, each by its own pods", "[stateful][root]") {
  Rig rig;
  Orchestrator orchestrator{rig};
  constexpr int many = 6;
  std::vector<ClaimedVolume> volumes;
  std::vector<PodId> old;
  std::vector<PodId> next;
  std::vector<std::unique_ptr<Workload>> running;
  for (int i = 0; i < many; ++i) {
    volumes.push_back(orchestrator.provision("data-db-" + std::to_string(i)));
    for (auto* pods : {&old, &next}) pods->push_back(new_pod("db-" + std::to_string(i)));
    REQUIRE(orchestrator.stage(volumes.back()) == OK);
    REQUIRE(orchestrator.publish(volumes.back(), old.back()) == OK);
    running.push_back(i % 2 == 0 ? orchestrator.run(volumes.back(), old.back()) : nullptr);
  }
  const auto hand_over = [&] {
    std::vector<Outcome> answers(many);
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < many; ++i)
      threads.emplace_back([&, i] {
        (void)orchestrator.unpublish(volumes[i], old[i]);
        answers[i] = orchestrator.publish(volumes[i], next[i]);
      });
    threads.clear();
    return answers;
  };
  const auto first = hand_over();
  for (std::size_t i = 0; i < many; ++i) {
    CHECK(first[i] == (i % 2 == 0 ? FAILED_PRECONDITION : OK));
    if (i % 2 == 0) CHECK_THAT(first[i].message, Catch::Contains(process(*running[i])));
  }
  running.clear();
  for (const Outcome& answer : hand_over()) CHECK(answer == OK);
  for (const ClaimedVolume& volume : volumes) CHECK(orchestrator.targets_of(volume).size() == 1);
}

TEST_CASE("hand-over: whoever copied the mount table is named in the log, and blocks nobody", "[stateful][root]") {
  Rig rig{{{"logLevel", "info"}}};
  Held it{rig};
  const NamespaceHolder bystander;  // in no group of a pod's
  const std::string words = "process " + std::to_string(bystander.pid()) + " (ns-holder, mount namespace ";
  REQUIRE(it.orchestrator.unpublish(it.volume, it.first) == OK);
  CHECK(rig.agent().log().find(words) == std::string::npos);
  REQUIRE(it.orchestrator.publish(it.volume, it.second) == OK);
  CHECK(logged(rig, words));
  CHECK(logged(rig, "it went to prod/db-0 (uid " + it.second.uid));
}

TEST_CASE("hand-over: whichever hierarchy the node has, and the names of either driver", "[stateful][root]") {
  struct Kind {
    std::string name;
    std::string type;  ///< empty: none
    std::string options;
    std::string directory;  ///< beneath /sys/fs/cgroup
  };
  for (const Kind& kind : std::vector<Kind>{{"unified", "cgroup2", "", ""},
                                            {"version 1, systemd's", "cgroup", "none,name=systemd", "/systemd"},
                                            {"version 1, a controller's", "cgroup", "pids", "/pids"},
                                            {"none", "", "", ""}}) {
    INFO(kind.name);
    const std::shared_ptr<void> back{nullptr, [](void*) { ::umount2("/sys/fs/cgroup", MNT_DETACH); }};
    const bool unified = kind.type == "cgroup2";
    REQUIRE(::mount("none", "/sys/fs/cgroup", unified ? "cgroup2" : "tmpfs", 0, nullptr) == 0);
    const std::string hierarchy = "/sys/fs/cgroup" + kind.directory;
    if (!kind.type.empty() && !unified) {
      fs::create_directory(hierarchy);
      if (::mount("none", hierarchy.c_str(), kind.type.c_str(), 0, kind.options.c_str()) != 0) {
        std::printf("SKIPPED: no hierarchy of %s can be had here\n", kind.name.c_str());
        continue;
      }
    }
    Rig rig;
    Held it{rig};
    std::string with_underscores = it.first.uid;
    std::ranges::replace(with_underscores, '-', '_');
    for (const std::string& group :
         {"kubepods/burstable/pod" + it.first.uid + "/0123456789abcdef",
          "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + with_underscores + ".slice/cri-containerd-01.scope",
          "system.slice/kubelet.service/kubepods/burstable/pod" + it.first.uid + "/0123456789abcdef"}) {
      if (kind.type.empty()) break;
      auto old = it.orchestrator.run(it.volume, it.first, group, hierarchy);
      REQUIRE(it.orchestrator.unpublish(it.volume, it.first) == OK);
      const Outcome refused = it.orchestrator.publish(it.volume, it.second);
      CHECK(refused == FAILED_PRECONDITION);
      CHECK_THAT(refused.message, Catch::Contains(process(*old)));
      REQUIRE(it.orchestrator.publish(it.volume, it.first) == OK);  // it goes on
    }
    REQUIRE(it.orchestrator.unpublish(it.volume, it.first) == OK);
    REQUIRE(it.orchestrator.publish(it.volume, it.second) == OK);
    const bool told = rig.agent().log().find(it.second.uid + ") unchecked") != std::string::npos;
    CHECK(told == kind.type.empty());
  }
}

}  // namespace ordinald::testing
