#pragma once

#include <catch2/catch.hpp>
#include <filesystem>
#include <memory>
#include <optional>
#include <sstream>
#include <string>

#include "agent/volume_manager.hpp"
#include "tests/support/fake_kernel.hpp"
#include "tests/support/logs.hpp"
#include "tests/support/temp.hpp"

/// An agent without its process, on a fake node: what most tests of the rules stand on.
namespace ordinald::testing {

using namespace ordinald::agent;  // NOLINT: a header of tests only

constexpr std::int64_t mib = 1 << 20;
constexpr std::int64_t gib = 1 << 30;

/// Thrown where the agent dies.
struct Crash {};

/// An agent on a fake node, with its files in a real directory.
class FakeRig {
 public:
  FakeRig() {
    std::filesystem::create_directory(temp_.path() / "run");
    node.with([](FakeState& state) {
      state.add_pool("/pool", 100 * gib);
      state.add_directory("/pods");
    });
    start();
  }

  void start(bool thick = false) {
    Config config;
    config.node_id = "n1";
    config.state_dir = temp_.path() / "state";
    config.run_dir = temp_.path() / "run";
    config.pools = {PoolConfig{.name = "default", .directory = "/pool", .thick = thick, .is_default = true}};
    if (new_default) {
      config.pools.front().is_default = false;
      config.pools.push_back(*new_default);
    }
    manager.reset();
    auto opened = VolumeManager::open(config, node, log, {.boot_id = boot, .grows_mounted_ext4 = grows_mounted_ext4});
    REQUIRE(opened);
    manager = std::move(opened.value());
  }
  /// The agent dies (a Crash is thrown) as it passes the point, until the next crash() or reboot().
  void die_at(const std::string& point) {
    node.set_hook([point](const FakePoint& at) -> mount::Result<void> {
      if (at.name == point) {
        throw Crash{};
      }
      return mount::success();
    });
  }
  void crash() {
    node.crash_process();
    start();
  }
  void reboot() {
    node.power_loss();
    boot += "+";
    start();
  }

  csi::Capability capability(AccessMode mode = AccessMode::single_node_single_writer) const {
    return {.block = block, .mode = mode, .fs_type = fs_type, .mount_flags = {}, .group = {}};
  }
  Result<csi::Volume> create(const std::string& name = "data-db-0", std::int64_t size = gib) {
    auto volume = manager->create_volume(
        {}, {.name = name, .capacity = {.required = size}, .capabilities = {capability()}, .parameters = parameters, .requisite = {}});
    if (volume) {
      id = volume.value().id;
    }
    return volume;
  }
  Result<void> stage(AccessMode mode = AccessMode::single_node_single_writer, const std::string& path = "/stage") {
    return manager->stage(
        {}, {.volume_id = id, .staging_path = path, .capability = capability(mode), .publish_context = {}, .volume_context = {}});
  }
  Result<void> unstage(const std::string& path = "/stage") { return manager->unstage({}, {.volume_id = id, .staging_path = path}); }
  Result<void> publish(const std::string& target = "/pods/a", AccessMode mode = AccessMode::single_node_single_writer,
                       const std::string& pod = "db-0", const std::string& name_space = "") {
    StringMap context{{"csi.storage.k8s.io/pod.name", pod}, {"csi.storage.k8s.io/pod.uid", "uid-" + pod}};
    if (!name_space.empty()) {
      context["csi.storage.k8s.io/pod.namespace"] = name_space;
    }
    return publish_with(target, mode, context);
  }
  Result<void> publish_with(const std::string& target, AccessMode mode, const StringMap& context) {
    return manager->publish({}, {.volume_id = id,
                                 .staging_path = "/stage",
                                 .target_path = target,
                                 .capability = capability(mode),
                                 .readonly = false,
                                 .publish_context = {},
                                 .volume_context = context});
  }
  Result<void> unpublish(const std::string& target = "/pods/a") { return manager->unpublish({}, {.volume_id = id, .target_path = target}); }
  Result<void> remove() { return manager->delete_volume({}, id); }

  /// Of the one image; only while no other thread has the node.
  FakeContent& content() {
    FakeContent* content = nullptr;
    node.with([&](FakeState& state) { content = &state.volume(id).content; });
    return *content;
  }
  std::string reasons() {
    std::string text;
    const auto health = manager->node_volume_health({}, {.volume_id = id, .publish_path = {}, .staging_path = {}});
    REQUIRE(health);
    for (const csi::HealthEntry& entry : health.value().entries) {
      text += text.empty() ? "" : " ";
      text += entry.reason;
    }
    return text;
  }
  std::string state_dir() const { return temp_.path() / "state"; }
  std::string run_dir() const { return temp_.path() / "run"; }
  std::string record_file() const { return temp_.path() / "state" / "volumes" / (id + ".json"); }

  FakeNode node;
  std::ostringstream logged;
  std::shared_ptr<const mount::Log> log = testing::log_into(logged);
  std::unique_ptr<VolumeManager> manager;
  std::string id;
  std::string boot = "boot";
  std::string fs_type = "ext4";
  StringMap parameters;
  bool block = false;
  bool grows_mounted_ext4 = true;
  std::optional<PoolConfig> new_default{};  ///< from the next start on

 private:
  TempDir temp_{"manager"};
};

/// As after a crash that took /run's files too, but not the mounts.
inline void lose_ledger(FakeRig& rig) {
  rig.manager.reset();
  std::filesystem::remove_all(rig.run_dir() + "/ledger");
  rig.start();
}

template <class T>
void refused(const Result<T>& result, ErrorCode code, const std::string& words) {
  REQUIRE_FALSE(result);
  CHECK(result.error().code == code);
  CHECK_THAT(result.error().message, Catch::Contains(words));
}

}  // namespace ordinald::testing
