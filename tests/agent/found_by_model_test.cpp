/// What the random orchestrator (tests/model) found, each as the few calls that it takes.

#include <catch2/catch.hpp>
#include <filesystem>

#include "tests/agent/fake_rig.hpp"

using namespace ordinald;
using namespace ordinald::testing;  // the fake agent, and all of agent/

namespace {

constexpr AccessMode single = AccessMode::single_node_single_writer;

/// losetup -d, by somebody.
void detach_behind_its_back(FakeRig& rig) {
  rig.node.with([](FakeState& state) { state.loops.clear(); });
}

void unmount_behind_its_back(FakeRig& rig, const std::string& path) {
  rig.node.with([&](FakeState& state) {
    std::erase_if(state.mounts, [&](const FakeMount& mount) { return mount.mount_point == path; });
    state.sweep();
  });
}

bool is_mounted(FakeRig& rig, const std::string& path) {
  return rig.node.with([&](FakeState& state) { return state.mount_at(path) != nullptr; });
}

Result<std::int64_t> node_expand(FakeRig& rig, const std::string& path, std::int64_t size) {
  return rig.manager->node_expand({}, {.volume_id = rig.id, .volume_path = path, .staging_path = {}, .capacity = {.required = size}});
}

}  // namespace

TEST_CASE("a deleted volume leaves nothing in the ledger, not even why its last stage was refused") {
  FakeRig rig;
  rig.block = true;
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  REQUIRE(rig.unstage());
  rig.block = false;
  refused(rig.stage(), ErrorCode::failed_precondition, "it is never formatted");
  REQUIRE(rig.remove());
  CHECK(std::filesystem::is_empty(rig.run_dir() + "/ledger"));
}

TEST_CASE("a target with content below the mount is unpublished, its content stays, and it holds the volume no more") {
  FakeRig rig;
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  rig.node.with([](FakeState& state) {
    state.add_directory("/pods/a");
    state.write_file("/pods/a/precious", "data");
  });
  REQUIRE(rig.publish());
  REQUIRE(rig.unpublish());
  CHECK_FALSE(is_mounted(rig, "/pods/a"));
  CHECK(rig.node.with([](FakeState& state) { return state.read_file("/pods/a/precious"); }) == "data");
  REQUIRE(rig.publish("/pods/b"));
}

TEST_CASE("a block volume whose loop was taken away grows, and its next stage has the new size") {
  FakeRig rig;
  rig.block = true;
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  detach_behind_its_back(rig);
  const auto grown = rig.manager->expand_volume({}, rig.id, {.required = 2 * gib}, {});
  REQUIRE(grown);
  CHECK(grown.value().capacity == 2 * gib);
  REQUIRE(rig.stage());
  CHECK(rig.node.with([](FakeState& state) { return state.loops.begin()->second.size; }) == 2 * gib);
}

TEST_CASE("a block publication whose loop was taken away and whose number another volume got is held, and unpublished") {
  FakeRig rig;
  rig.block = true;
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  REQUIRE(rig.publish());
  const std::string first = rig.id;
  detach_behind_its_back(rig);
  REQUIRE(rig.create("data-db-1"));
  const std::string second = rig.id;
  REQUIRE(rig.stage(single, "/stage2"));
  rig.id = first;
  REQUIRE(rig.stage());
  SECTION("at once") {}
  SECTION("after a restart, which takes it for nobody else's") {
    rig.crash();
    rig.id = second;
    REQUIRE(rig.unstage("/stage2"));
    rig.id = first;
  }
  refused(rig.publish("/pods/b"), ErrorCode::failed_precondition, "/pods/a");
  REQUIRE(rig.unpublish());
  CHECK_FALSE(is_mounted(rig, "/pods/a"));
  REQUIRE(rig.publish("/pods/b"));
}

TEST_CASE("the same Create is OK after a stage with another filesystem") {
  FakeRig rig;
  rig.fs_type = "btrfs";
  REQUIRE(rig.create());
  const std::string id = rig.id;
  rig.fs_type = "ext4";
  REQUIRE(rig.stage());
  rig.crash();
  rig.fs_type = "btrfs";
  REQUIRE(rig.create());
  CHECK(rig.id == id);
}

TEST_CASE("a volume that was raw block meanwhile knows that its filesystem is as large as it is") {
  FakeRig rig;
  rig.grows_mounted_ext4 = false;
  rig.start();
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  REQUIRE(rig.unstage());
  rig.block = true;
  REQUIRE(rig.stage());
  REQUIRE(rig.unstage());
  rig.block = false;
  REQUIRE(rig.stage());
  CHECK(rig.reasons().empty());
  CHECK(node_expand(rig, "/stage", gib));
}

TEST_CASE("of several staging paths a filesystem grows at one that is still mounted") {
  FakeRig rig;
  rig.fs_type = "xfs";
  REQUIRE(rig.create());
  REQUIRE(rig.stage(single, "/stage"));
  REQUIRE(rig.stage(single, "/stage2"));
  unmount_behind_its_back(rig, "/stage");
  CHECK(node_expand(rig, "/stage2", 2 * gib));
  CHECK(rig.content().size == static_cast<std::uint64_t>(2 * gib));
}

TEST_CASE("a publication whose staging path was unmounted is told so, not that it differs") {
  FakeRig rig;
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  const csi::PublishArgs args{.volume_id = rig.id,
                              .staging_path = "/stage",
                              .target_path = "/pods/a",
                              .capability = rig.capability(),
                              .readonly = true,
                              .publish_context = {},
                              .volume_context = {}};
  REQUIRE(rig.manager->publish({}, args));
  unmount_behind_its_back(rig, "/stage");
  rig.crash();
  refused(rig.manager->publish({}, args), ErrorCode::failed_precondition, "not staged at /stage");
}

TEST_CASE("no raw block device beside a publication whose staging path was unmounted") {
  FakeRig rig;
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  REQUIRE(rig.publish());
  unmount_behind_its_back(rig, "/stage");
  rig.crash();
  rig.block = true;
  refused(rig.stage(single, "/stage2"), ErrorCode::failed_precondition, "published as a filesystem");
}
