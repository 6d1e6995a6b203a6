/// `ordinald-bench [--smoke | --volumes N --many N]`: whole life cycles over the real socket and, in the same run and in turn with them,
/// their floor (floor.hpp). Prints medians, ratios, and whether each figure is within what the project set itself. Needs root. Ends with 1
/// when one is not.

#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "tests/bench/floor.hpp"
#include "tests/bench/memory.hpp"
#include "tests/support/agent_process.hpp"
#include "tests/support/cgroup.hpp"
#include "tests/support/csi_client.hpp"
#include "tests/support/leaks.hpp"
#include "tests/support/mount_namespace.hpp"
#include "tests/support/temp.hpp"
#include "tests/support/workload.hpp"

namespace ordinald::bench {
namespace {

using namespace ordinald::testing;
namespace v1 = csi::v1;
using Clock = std::chrono::steady_clock;
using Micros = double;

Micros timed(const std::function<void()>& work) {
  const auto begin = Clock::now();
  work();
  return std::chrono::duration<double, std::micro>(Clock::now() - begin).count();
}

struct Samples {
  std::vector<Micros> values;
  void add(Micros value) { values.push_back(value); }
  [[nodiscard]] Micros median() const {
    std::vector<Micros> sorted = values;
    std::ranges::sort(sorted);
    return sorted.empty() ? 0 : sorted[sorted.size() / 2];
  }
};

template <class Response>
void must(const Reply<Response>& reply, const char* what) {
  if (!reply.ok()) {
    throw std::runtime_error(std::string{what} + ": " + reply.error());
  }
}

/// One volume's calls.
class Volume {
 public:
  Volume(AgentProcess& agent, const std::filesystem::path& root, std::string name, std::string fs_type, std::int64_t size)
      : agent_(agent),
        name_(std::move(name)),
        fs_type_(std::move(fs_type)),
        size_(size),
        staging_(root / (name_ + ".stage")),
        target_(root / (name_ + ".target")) {
    std::filesystem::create_directory(staging_);
  }

  void create() {
    v1::CreateVolumeRequest request;
    request.set_name(name_);
    request.mutable_capacity_range()->set_required_bytes(size_);
    *request.add_volume_capabilities() = capability();
    const auto reply = agent_.client().call(request);
    must(reply, "CreateVolume");
    id_ = reply->volume().volume_id();
  }
  void stage() {
    v1::NodeStageVolumeRequest request;
    request.set_volume_id(id_);
    request.set_staging_target_path(staging_);
    *request.mutable_volume_capability() = capability();
    must(agent_.client().call(request), "NodeStageVolume");
  }
  void publish() {
    v1::NodePublishVolumeRequest request;
    request.set_volume_id(id_);
    request.set_staging_target_path(staging_);
    request.set_target_path(target_);
    *request.mutable_volume_capability() = capability();
    if (!pod_uid_.empty()) {
      auto& context = *request.mutable_volume_context();
      context["csi.storage.k8s.io/pod.name"] = "db-0";
      context["csi.storage.k8s.io/pod.namespace"] = "prod";
      context["csi.storage.k8s.io/pod.uid"] = pod_uid_;
    }
    must(agent_.client().call(request), "NodePublishVolume");
  }
  /// Who it is published to from now on.
  void belongs_to(std::string pod_uid) { pod_uid_ = std::move(pod_uid); }
  void unpublish() {
    v1::NodeUnpublishVolumeRequest request;
    request.set_volume_id(id_);
    request.set_target_path(target_);
    must(agent_.client().call(request), "NodeUnpublishVolume");
  }
  void unstage() {
    v1::NodeUnstageVolumeRequest request;
    request.set_volume_id(id_);
    request.set_staging_target_path(staging_);
    must(agent_.client().call(request), "NodeUnstageVolume");
  }
  void remove() {
    v1::DeleteVolumeRequest request;
    request.set_volume_id(id_);
    must(agent_.client().call(request), "DeleteVolume");
  }
  void whole_life() {
    create();
    stage();
    publish();
    unpublish();
    unstage();
    remove();
  }

 private:
  [[nodiscard]] v1::VolumeCapability capability() const { return mount_capability(single_node_single_writer, fs_type_); }

  AgentProcess& agent_;  ///< its connection is a new one after each start
  std::string name_;
  std::string fs_type_;
  std::int64_t size_;
  std::filesystem::path staging_;
  std::filesystem::path target_;
  std::string id_;
  std::string pod_uid_;
};

/// So many processes in a control group and a mount namespace of their own; the first of them. They live until they are killed.
pid_t live_in(const std::string& group, int processes) {
  const pid_t first = ::fork();
  if (first == 0) {
    std::ofstream{group + "/cgroup.procs"} << ::getpid() << std::flush;
    leave_mount_namespace();
    for (int i = 1; i < processes && ::fork() != 0; ++i) {
    }
    for (;;) ::pause();
  }
  return first;
}

class Bench {
 public:
  Bench(int volumes, int many)
      : volumes_(volumes), many_(many), temp_("bench"), agent_(ORDINALD_PROGRAM, temp_.path() / "agent", settings()) {
    std::filesystem::create_directories(temp_.path() / "floor");
    std::filesystem::create_directories(temp_.path() / "paths");
    // As on a node: /run is a tmpfs.
    const std::filesystem::path run = temp_.path() / "agent" / "run";
    std::filesystem::create_directories(run);
    if (::mount("tmpfs", run.c_str(), "tmpfs", 0, "mode=0700") != 0) {
      throw std::runtime_error("mounting a tmpfs at " + run.string());
    }
  }

  int run() {
    std::vector<Micros> starts;
    for (int i = 0; i < 9; ++i) {
      starts.push_back(static_cast<double>(agent_.start().count()));
      agent_.stop();
    }
    std::ranges::sort(starts);
    agent_.start();
    Samples empty;
    for (int i = 0; i < 500; ++i) {
      empty.add(timed([&] { must(agent_.client().call(v1::NodeGetCapabilitiesRequest{}), "NodeGetCapabilities"); }));
    }
    empty_ = empty.median();
    std::printf("%d volumes of 1 GiB one at a time; medians in microseconds; an empty call takes %.0f\n\n", volumes_, empty_);
    std::printf("%-34s %9s %9s %9s  %s\n", "", "agent", "floor", "to reach", "");
    for (const std::string fs_type : {"ext4", "xfs"}) {
      life_cycles(fs_type);
    }
    many_mounts();
    hand_overs();
    many_at_once();
    row("start, no volumes (exec to READY)", starts[starts.size() / 2], 0, 60'000);
    memory();
    std::printf("\n%s\n",
                failed_ == 0 ? "every figure is within what it should reach" : "figures marked ! are not within what they should reach");
    return failed_ == 0 ? 0 : 1;
  }

 private:
  /// Sparse volumes of 1 GiB by the hundred are promised; little of them is written.
  [[nodiscard]] nlohmann::json settings() const {
    const std::filesystem::path pool = temp_.path() / "agent" / "pool";
    const nlohmann::json bench{{"name", "bench"}, {"directory", pool.string()}, {"overcommit", 100.0}};
    return {{"logLevel", "info"}, {"pools", nlohmann::json::array({bench})}};
  }

  void row(const std::string& what, double value, double floor, double limit) {
    const bool good = value <= limit;
    failed_ += good ? 0 : 1;
    if (floor > 0) {
      std::printf("%-34s %9.0f %9.0f %9.0f %s  (%.2f x the floor)\n", what.c_str(), value, floor, limit, good ? " " : "!", value / floor);
    } else {
      std::printf("%-34s %9.0f %9s %9.0f %s\n", what.c_str(), value, "", limit, good ? " " : "!");
    }
    std::fflush(stdout);
  }

  void life_cycles(const std::string& fs_type) {
    std::map<std::string, Samples> agent;
    std::map<std::string, Samples> floor;
    const auto size = std::int64_t{1} << 30;
    for (int i = 0; i < volumes_; ++i) {
      const std::string name = fs_type + std::to_string(i);
      Volume volume{agent_, temp_.path() / "paths", name, fs_type, size};
      FloorVolume ground{temp_.path() / "floor", name, fs_type, static_cast<std::uint64_t>(size)};
      agent["create"].add(timed([&] { volume.create(); }));
      // In turn, so that a change of the machine's speed meets both; who is first changes too.
      const auto both = [&](const char* step, const std::function<void()>& by_agent, const std::function<void()>& by_floor) {
        if (i % 2 == 0) {
          agent[step].add(timed(by_agent));
          floor[step].add(timed(by_floor));
        } else {
          floor[step].add(timed(by_floor));
          agent[step].add(timed(by_agent));
        }
      };
      both("stage a blank volume", [&] { volume.stage(); }, [&] { ground.stage_blank(); });
      both("publish", [&] { volume.publish(); }, [&] { ground.publish(); });
      both("unpublish", [&] { volume.unpublish(); }, [&] { ground.unpublish(); });
      both("unstage", [&] { volume.unstage(); }, [&] { ground.unstage(); });
      both("stage a used volume", [&] { volume.stage(); }, [&] { ground.stage_used(); });
      volume.unstage();
      ground.unstage();
      agent["delete"].add(timed([&] { volume.remove(); }));
    }
    for (const auto& [step, factor] :
         std::map<std::string, double>{{"publish", 6}, {"unpublish", 2}, {"stage a used volume", 1.25}, {"stage a blank volume", 1.25}}) {
      row(fs_type + ": " + step, agent[step].median(), floor[step].median(), empty_ + factor * floor[step].median());
    }
    std::printf("%-34s %9.0f %9.0f\n", (fs_type + ": unstage").c_str(), agent["unstage"].median(), floor["unstage"].median());
    std::printf("%-34s %9.0f\n%-34s %9.0f\n", (fs_type + ": create").c_str(), agent["create"].median(), (fs_type + ": delete").c_str(),
                agent["delete"].median());
  }

  Micros publish_median(Volume& volume) {
    Samples samples;
    for (int i = 0; i < 200; ++i) {
      samples.add(timed([&] { volume.publish(); }));
      volume.unpublish();
    }
    return samples.median();
  }

  void many_mounts() {
    constexpr int mounts = 5000;
    Volume volume{agent_, temp_.path() / "paths", "many", "ext4", gibi};
    volume.create();
    volume.stage();
    const Micros before = publish_median(volume);
    const std::filesystem::path others = temp_.path() / "others";
    std::filesystem::create_directory(others);
    for (int i = 0; i < mounts; ++i) {
      const std::filesystem::path path = others / std::to_string(i);
      std::filesystem::create_directory(path);
      if (::mount(path.c_str(), path.c_str(), nullptr, MS_BIND, nullptr) != 0) {
        throw std::runtime_error("making 5000 mounts");
      }
    }
    const Micros after = publish_median(volume);
    for (int i = 0; i < mounts; ++i) {
      ::umount2((others / std::to_string(i)).c_str(), MNT_DETACH);
    }
    row("publish with 5,000 other mounts", after, before, 1.3 * before);
    volume.unstage();
    volume.remove();
  }

  /// What the check of an exclusive publish costs: to a new pod each time, whose predecessor is gone, against the same pod again, on a node
  /// of 500 processes in 50 pods with a mount namespace each.
  void hand_overs() {
    if (!TestCgroup::possible()) {
      std::printf("SKIPPED: control groups can't be made here\n");
      return;
    }
    const auto uid = [](int i) { return "0c5b9a1e-77d0-4f0e-8a4e-" + std::to_string(100'000'000'000 + i); };
    TestCgroup pods{"kubepods/burstable"};
    std::vector<pid_t> leaders;
    for (int i = 0; i < 50; ++i) {
      const std::string container = pods.path() + "/pod" + uid(i) + "/0123456789abcdef";
      std::filesystem::create_directories(container);
      leaders.push_back(live_in(container, 10));
    }
    const std::shared_ptr<void> end{nullptr, [&](void*) {
                                      pods.kill_all();
                                      std::ranges::for_each(leaders, [](pid_t pid) { ::waitpid(pid, nullptr, 0); });
                                    }};
    Volume volume{agent_, temp_.path() / "paths", "handed", "ext4", gibi};
    volume.create();
    volume.stage();
    Samples same;
    Samples changed;
    for (int i = 0; i < many_; ++i) {
      volume.belongs_to(uid(1000 + i));
      changed.add(timed([&] { volume.publish(); }));
      volume.unpublish();
      std::this_thread::sleep_for(std::chrono::milliseconds(20));  // for what the agent then looks up beside the calls
      same.add(timed([&] { volume.publish(); }));
      volume.unpublish();
    }
    row("publish to a new holder", changed.median(), same.median(), same.median() + 1000);
    volume.unstage();
    volume.remove();
  }

  /// Lives per second with so many callers.
  double rate(const std::string& name, int callers) {
    std::vector<Volume> volumes;
    for (int i = 0; i < many_; ++i) {
      volumes.emplace_back(agent_, temp_.path() / "paths", name + std::to_string(i), "ext4", gibi);
    }
    std::atomic<int> next{0};
    std::atomic<bool> broken{false};
    std::vector<std::thread> threads;
    const Micros took = timed([&] {
      for (int t = 0; t < callers; ++t) {
        threads.emplace_back([&] {
          try {
            for (int i = next++; i < many_; i = next++) {
              volumes[static_cast<std::size_t>(i)].whole_life();
            }
          } catch (const std::exception& error) {
            std::cerr << error.what() << '\n';
            broken = true;
          }
        });
      }
      for (std::thread& thread : threads) {
        thread.join();
      }
    });
    if (broken) {
      throw std::runtime_error("a call failed");
    }
    return many_ * 1e6 / took;
  }

  void many_at_once() {
    const double single = rate("one", 1);
    const double eight = rate("eight", 8);
    const bool good = eight >= 1.5 * single;
    failed_ += good ? 0 : 1;
    std::printf("%-34s %9.1f %9.1f %9.1f %s  (%.2f x one at a time; lives a second)\n",
                (std::to_string(many_) + " lives, 8 at once").c_str(), eight, single, 1.5 * single, good ? " " : "!", eight / single);
  }

  void memory() {
    const auto mib = [&] { return static_cast<double>(resident_together(processes_of(ORDINALD_PROGRAM))) / (1024.0 * 1024.0); };
    agent_.stop();
    agent_.start();
    must(agent_.client().call(v1::ProbeRequest{}), "Probe");
    row("resident, idle (MiB)", mib(), 0, 24);
    std::vector<Volume> volumes;
    for (int i = 0; i < many_; ++i) {
      volumes.emplace_back(agent_, temp_.path() / "paths", "held" + std::to_string(i), "ext4", gibi);
    }
    for (Volume& volume : volumes) {
      volume.create();
      volume.stage();
      volume.publish();
    }
    row("resident, " + std::to_string(many_) + " published (MiB)", mib(), 0, 32);
    agent_.stop();
    row("start, " + std::to_string(many_) + " staged (exec to READY)", static_cast<double>(agent_.start().count()), 0, 400'000);
    for (Volume& volume : volumes) {
      volume.unpublish();
      volume.unstage();
      volume.remove();
    }
  }

  int volumes_;
  int many_;
  TempDir temp_;
  AgentProcess agent_;
  Micros empty_ = 0;
  int failed_ = 0;
};

}  // namespace
}  // namespace ordinald::bench

int main(int argc, char** argv) {
  int volumes = 60;
  int many = 200;
  const bool smoke = argc == 2 && std::string{argv[1]} == "--smoke";
  if (smoke) {
    volumes = 3;
    many = 8;
  }
  for (int i = 1; i + 1 < argc; i += 2) {
    (std::string{argv[i]} == "--many" ? many : volumes) = std::stoi(argv[i + 1]);
  }
  try {
    ordinald::testing::enter_private_mount_namespace();
    const int within = ordinald::bench::Bench{volumes, many}.run();
    return smoke ? 0 : within;
  } catch (const std::exception& error) {
    std::cerr << "ordinald-bench: " << error.what() << '\n';
    return 2;
  }
}
