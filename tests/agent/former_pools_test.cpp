/// A pool that was taken out of the configuration with volumes in it: what they were promised is promised to nobody else.

#include "agent/former_pools.hpp"

#include <catch2/catch.hpp>
#include <filesystem>

#include "tests/agent/fake_rig.hpp"

using namespace ordinald;
using namespace ordinald::testing;  // the fake agent, and all of agent/

namespace {

/// Pool `a` at /pool, of 100 GiB, and pool `b`, which is then taken out.
class TwoPools : public FakeRig {
 public:
  explicit TwoPools(bool one_file_system) {
    manager.reset();
    node.with([&](FakeState& state) {
      one_file_system ? state.add_pool_on_subvolume("/b", state.pools.at("/pool").device) : state.add_pool("/b", 100 * gib);
    });
    open({b()});
    REQUIRE(make("x", "b", 60 * gib));
  }
  static PoolConfig b(const std::string& name = "b") { return PoolConfig{.name = name, .directory = "/b"}; }
  void open(const std::vector<PoolConfig>& more) {
    Config config;
    config.node_id = "n1";
    config.state_dir = state_dir();
    config.run_dir = run_dir();
    config.pools = {PoolConfig{.name = "a", .directory = "/pool", .is_default = true}};
    config.pools.insert(config.pools.end(), more.begin(), more.end());
    manager.reset();
    auto opened = VolumeManager::open(config, node, log, {.boot_id = boot, .grows_mounted_ext4 = true});
    REQUIRE(opened);
    manager = std::move(opened.value());
  }
  Result<csi::Volume> make(const std::string& name, const std::string& pool, std::int64_t size) {
    return manager->create_volume(
        {},
        {.name = name, .capacity = {.required = size}, .capabilities = {capability()}, .parameters = {{"pool", pool}}, .requisite = {}});
  }
  std::int64_t room() { return manager->get_capacity({}, {}).value().available; }
  std::size_t times_logged(const std::string& words) const {
    std::size_t times = 0;
    for (std::size_t at = logged.str().find(words); at != std::string::npos; at = logged.str().find(words, at + 1)) ++times;
    return times;
  }
  static constexpr const char* unknown_place = "which are kept free on the file system of every other pool";
};

}  // namespace

TEST_CASE("a pool that is configured no more keeps what it has promised") {
  TwoPools rig{true};
  CHECK(rig.room() == 30 * gib);
  rig.node.with([](FakeState& state) { state.images.front()->allocated = 20 * gib; });  // which is no promise more
  rig.open({});
  CHECK(rig.room() == 30 * gib);
  CHECK_FALSE(rig.make("y", "a", 31 * gib));
  CHECK(rig.times_logged(TwoPools::unknown_place) == 0);
  SECTION("another name in the configuration is no other pool") {
    rig.open({TwoPools::b("c")});
    CHECK(rig.room() == 30 * gib);
  }
  SECTION("put back, with all as it was") {
    rig.open({TwoPools::b()});
    CHECK(rig.room() == 30 * gib);
  }
  SECTION("after a reboot") {
    rig.node.power_loss();
    rig.boot += "+";
    rig.open({});
    CHECK(rig.room() == 30 * gib);
  }
  CHECK(rig.make("y", "a", 30 * gib));
}

TEST_CASE("a pool that is configured no more and lies elsewhere takes no room") {
  TwoPools rig{false};
  rig.open({});
  CHECK(rig.room() == 90 * gib);
}

TEST_CASE("a pool that is configured no more and can't be found counts in full") {
  TwoPools rig{true};
  rig.node.with([](FakeState& state) { state.images.front()->allocated = 20 * gib; });
  std::filesystem::remove(rig.run_dir() + "/pools.json");  // of the boot before
  SECTION("where it was is not known") { std::filesystem::remove(rig.state_dir() + "/pools.json"); }
  SECTION("its directory is another") {
    rig.node.with([](FakeState& state) { state.pools.at("/b").mark.clear(); });
  }
  SECTION("its directory is gone") {
    rig.node.with([](FakeState& state) { state.pools.erase("/b"); });
  }
  SECTION("it hangs") {
    rig.node.with([](FakeState& state) { state.hung["pool:b"] = "it hangs"; });
  }
  rig.open({});
  CHECK(rig.room() == 10 * gib);  // 100, less the reserve, the 20 that are taken and the 60 that may be to come
  CHECK_FALSE(rig.make("y", "a", 11 * gib));
  CHECK(rig.times_logged(TwoPools::unknown_place) == 1);
  CHECK(rig.make("y", "a", 10 * gib));
}
