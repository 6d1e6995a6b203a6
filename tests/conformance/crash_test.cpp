// After kill -9 at any time and a restart: mounts go on serving, the access-mode table holds, calls are repeated to the end, nothing is
// left.
#include <signal.h>
#include <sys/stat.h>

#include <chrono>
#include <thread>
#include <utility>

#include "tests/support/rig.hpp"

namespace ordinald::testing {
namespace {

const auto ext4 = mount_capability(single_node_single_writer, "ext4");

/// Whether the process has ended (a zombie has).
bool has_ended(pid_t pid) {
  if (::kill(pid, 0) != 0) return true;
  const std::string stat = read_file("/proc/" + std::to_string(pid) + "/stat");
  return stat[stat.rfind(')') + 2] == 'Z';
}

}  // namespace

TEST_CASE("crash: mounts go on serving, and the same calls are OK", "[crash][root]") {
  const std::string fs_type = GENERATE("ext4", "xfs", "btrfs", "block");
  Rig rig;
  const bool block = fs_type == "block";
  const auto capability = block ? block_capability(single_node_single_writer) : mount_capability(single_node_single_writer, fs_type);
  const LiveVolume volume = bring_up(rig, "v", capability);
  if (!block) REQUIRE(try_write(volume.target / "before", "before") == 0);
  rig.agent().kill();
  CHECK((block ? try_write_device(volume.target) : try_write(volume.target / "between", "between")) == 0);
  rig.agent().start();
  CHECK(rig.stage(volume.id, capability, volume.staging) == OK);
  CHECK(rig.publish(volume.id, capability, volume.staging, volume.target) == OK);
  CHECK(mounts_beneath(volume.target).size() == 1);
  CHECK(loops_beneath(rig.pool()).size() == 1);
  if (!block) CHECK(read_file(volume.target / "between") == "between");
  CHECK(rig.node_health(volume.id) == "");
  CHECK(rig.unpublish(volume.id, volume.target) == OK);
  CHECK(rig.unstage(volume.id, volume.staging) == OK);
  CHECK(rig.remove(volume.id) == OK);
  CHECK(leaks_beneath(rig.root()) == "");
}

TEST_CASE("crash: the access-mode table holds", "[crash][root]") {
  Rig rig;
  const LiveVolume volume = bring_up(rig, "v", ext4);
  rig.crash();
  CHECK(rig.publish(volume.id, ext4, volume.staging, rig.target("second")) == FAILED_PRECONDITION);
  auto other = rig.publish_request(volume.id, ext4, volume.staging, volume.target);
  (*other.mutable_volume_context())["csi.storage.k8s.io/pod.uid"] = "uid-2";
  CHECK(outcome(rig.call(other)) == ALREADY_EXISTS);
  CHECK(rig.unstage(volume.id, volume.staging) == FAILED_PRECONDITION);
  CHECK(rig.remove(volume.id) == FAILED_PRECONDITION);
  CHECK(rig.stage(volume.id, mount_capability(single_node_writer, "ext4"), volume.staging) == ALREADY_EXISTS);
}

TEST_CASE("crash: even with the ledger lost, what the kernel has mounted still counts", "[crash][root]") {
  Rig rig;
  const LiveVolume volume = bring_up(rig, "v", ext4);
  rig.agent().kill();
  fs::remove_all(rig.root() / "run");
  rig.agent().start();
  CHECK(rig.remove(volume.id) == FAILED_PRECONDITION);
  CHECK_FALSE(rig.publish(volume.id, ext4, volume.staging, rig.target("second")) == OK);
  CHECK(rig.unpublish(volume.id, volume.target) == OK);
  CHECK(rig.unstage(volume.id, volume.staging) == OK);
  CHECK(rig.stage(volume.id, ext4, volume.staging) == OK);
  CHECK(rig.unstage(volume.id, volume.staging) == OK);
  CHECK(rig.remove(volume.id) == OK);
  CHECK(leaks_beneath(rig.root()) == "");
}

TEST_CASE("crash: a publication whose bind was undone meanwhile is no holder, and can be made again", "[crash][root]") {
  Rig rig;
  const LiveVolume volume = bring_up(rig, "v", ext4);
  rig.agent().kill();
  REQUIRE(run_tool({"umount", volume.target}) == 0);
  rig.agent().start();
  CHECK(rig.publish(volume.id, ext4, volume.staging, volume.target) == OK);
  CHECK(mounted_at(volume.target).fs_type == "ext4");
}

TEST_CASE("crash: a mkfs that outlives the agent is ended before its device is touched again, and the filesystem made again",
          "[crash][root]") {
  const auto [fs_type, tool] = GENERATE(std::pair<std::string, std::string>("ext4", "/usr/sbin/mke2fs"),
                                        std::pair<std::string, std::string>("xfs", "/usr/sbin/mkfs.xfs"),
                                        std::pair<std::string, std::string>("btrfs", "/usr/sbin/mkfs.btrfs"));
  Rig rig;
  const auto capability = mount_capability(single_node_single_writer, fs_type);
  const std::string id = rig.create("v", capability, small_size(fs_type));
  ToolGate gate(tool);
  std::jthread staging([&] { rig.stage(id, capability, rig.staging("v")); });
  const pid_t left = gate.wait_for_one();
  rig.agent().kill();
  staging.join();
  rig.agent().start();
  Outcome again;
  std::jthread repeated([&] { again = rig.stage(id, capability, rig.staging("v")); });
  gate.wait_for_one();
  CHECK(has_ended(left));
  gate.let_one_through();
  repeated.join();
  CHECK(again == OK);
  CHECK(mounted_at(rig.staging("v")).fs_type == fs_type);
  CHECK(rig.unstage(id, rig.staging("v")) == OK);
  CHECK(rig.remove(id) == OK);
  CHECK(leaks_beneath(rig.root()) == "");
}

TEST_CASE("crash: a mkfs stopped in the middle of its writes is ended, and the half-made filesystem made again", "[crash][root]") {
  const auto [fs_type, tool] = GENERATE(std::pair<std::string, std::string>("ext4", "/usr/sbin/mke2fs"),
                                        std::pair<std::string, std::string>("xfs", "/usr/sbin/mkfs.xfs"),
                                        std::pair<std::string, std::string>("btrfs", "/usr/sbin/mkfs.btrfs"));
  Rig rig;
  const auto capability = mount_capability(single_node_single_writer, fs_type);
  const std::string id = rig.create("v", capability, small_size(fs_type));
  {
    ToolGate gate(tool);
    std::jthread staging([&] { rig.stage(id, capability, rig.staging("v")); });
    const pid_t left = gate.wait_for_one();
    // It goes on from the gate, writes, and is stopped as soon as its image holds something.
    gate.let_one_through();
    struct stat info{};
    while (!has_ended(left) && (::stat(rig.image_of(id).c_str(), &info) != 0 || info.st_blocks == 0)) std::this_thread::yield();
    ::kill(left, SIGSTOP);
    rig.agent().kill();
    staging.join();
  }
  rig.agent().start();
  CHECK(rig.stage(id, capability, rig.staging("v")) == OK);
  CHECK(try_write(rig.staging("v") / "file") == 0);
  CHECK(rig.unstage(id, rig.staging("v")) == OK);
  CHECK(rig.stage(id, capability, rig.staging("v")) == OK);
  CHECK(fs::exists(rig.staging("v") / "file"));
  CHECK(rig.unstage(id, rig.staging("v")) == OK);
  CHECK(rig.remove(id) == OK);
  CHECK(leaks_beneath(rig.root()) == "");
}

TEST_CASE("crash: at ordinary points of a life cycle, the same calls are repeated to the end and nothing is left", "[crash][root]") {
  const std::string fs_type = GENERATE("ext4", "xfs", "btrfs");
  Rig rig;
  const auto capability = mount_capability(single_node_single_writer, fs_type);
  const auto create = rig.create_request("v", capability, small_size(fs_type));
  // The kill comes at another moment of each call; whatever was reached, the repetition goes on from there.
  for (int delay = 0; delay < 12; ++delay) {
    const fs::path staging = rig.staging("v");
    const fs::path target = rig.target("pod");
    std::string id;
    std::jthread life([&] {
      const auto created = rig.call(create);
      if (!created.ok()) return;
      const std::string made = created->volume().volume_id();
      rig.stage(made, capability, staging);
      rig.publish(made, capability, staging, target);
      rig.unpublish(made, target);
      rig.unstage(made, staging);
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(8 * delay));  // not waited for: the moment of the kill
    rig.agent().kill();
    life.join();
    rig.agent().start();
    const auto created = rig.call(create);
    REQUIRE(outcome(created) == OK);
    id = created->volume().volume_id();
    INFO("killed after " << 8 * delay << " ms");
    REQUIRE(rig.stage(id, capability, staging) == OK);
    REQUIRE(rig.publish(id, capability, staging, target) == OK);
    CHECK(try_write(target / "file") == 0);
    REQUIRE(rig.unpublish(id, target) == OK);
    REQUIRE(rig.unstage(id, staging) == OK);
    REQUIRE(rig.remove(id) == OK);
    CHECK(leaks_beneath(rig.root()) == "");
    CHECK(fs::is_empty(rig.pool()));
  }
}

TEST_CASE("crash: a filesystem that grew is as large, and a volume that did not get its filesystem grown gets it", "[crash][root]") {
  Rig rig;
  const LiveVolume volume = bring_up(rig, "v", mount_capability(single_node_writer, "xfs"));
  v1::ControllerExpandVolumeRequest expand;
  expand.set_volume_id(volume.id);
  expand.mutable_capacity_range()->set_required_bytes(640 * mebi);
  REQUIRE(outcome(rig.call(expand)) == OK);
  rig.crash();
  CHECK(rig.stage(volume.id, volume.capability, volume.staging) == OK);
  CHECK(fs::space(volume.target).capacity > static_cast<std::uintmax_t>(500 * mebi));
}

TEST_CASE("crash: no process of the agent is left", "[crash][root]") {
  Rig rig;
  bring_up(rig, "v", ext4);
  const auto before = processes_of(fs::canonical(ORDINALD_PROGRAM));
  rig.agent().kill();
  // The zygote and its workers end with the agent; the kernel tells when.
  for (const pid_t pid : before) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    bool ours = false;
    try {
      ours = read_file("/proc/" + std::to_string(pid) + "/cmdline").find(rig.root().string()) != std::string::npos;
    } catch (const std::exception&) {
    }
    if (!ours) continue;  // another test's, or gone
    while (!has_ended(pid) && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
    CHECK(has_ended(pid));
  }
  rig.agent().start();
}

}  // namespace ordinald::testing
