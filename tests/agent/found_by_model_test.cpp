/// What the random orchestrator (tests/model) found, each as the few calls that it takes.

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>

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

std::size_t loops(FakeRig& rig) {
  return rig.node.with([](FakeState& state) { return state.loops.size(); });
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

TEST_CASE("a volume whose loop was taken away unmounts nothing of the one that got its number") {
  FakeRig rig;
  rig.block = true;
  REQUIRE(rig.create("first"));
  REQUIRE(rig.stage());
  const std::string first = rig.id;
  detach_behind_its_back(rig);
  REQUIRE(rig.create("second"));
  REQUIRE(rig.stage(single, "/stage/second"));
  REQUIRE(rig.manager->publish({}, {.volume_id = rig.id,
                                    .staging_path = "/stage/second",
                                    .target_path = "/pods/second",
                                    .capability = rig.capability(single),
                                    .readonly = false,
                                    .publish_context = {},
                                    .volume_context = {}}));
  rig.id = first;
  REQUIRE(rig.unpublish("/pods/second"));
  CHECK(is_mounted(rig, "/pods/second"));
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

TEST_CASE("a lost ledger: a publish that is refused does not tell how the volume was staged") {
  FakeRig rig;
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  REQUIRE(rig.publish());
  rig.manager.reset();
  std::filesystem::remove_all(rig.run_dir() + "/ledger");
  rig.crash();
  unmount_behind_its_back(rig, "/pods/a");
  rig.node.with([](FakeState& state) { state.root["pods/b"] = FakeEntry{.kind = mount::FileKind::symlink, .text = "/elsewhere"}; });
  refused(rig.publish("/pods/b", AccessMode::single_node_multi_writer), ErrorCode::failed_precondition, "symlink");
  REQUIRE(rig.publish("/pods/c"));
  CHECK(rig.stage());
}

TEST_CASE("a lost ledger: a publish that is refused does not tell how the volume was published") {
  FakeRig rig;
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  REQUIRE(rig.publish());
  rig.manager.reset();
  std::filesystem::remove_all(rig.run_dir() + "/ledger");
  rig.crash();
  const auto multi = rig.capability(AccessMode::single_node_multi_writer);
  refused(rig.manager->publish({}, {.volume_id = rig.id,
                                    .staging_path = "/stage",
                                    .target_path = "/pods/a",
                                    .capability = multi,
                                    .readonly = true,
                                    .publish_context = {},
                                    .volume_context = {}}),
          ErrorCode::failed_precondition, "/pods/a");
  refused(rig.publish("/pods/b", AccessMode::single_node_multi_writer), ErrorCode::failed_precondition, "/pods/a");
  REQUIRE(rig.unpublish());
  CHECK(rig.publish("/pods/b", AccessMode::single_node_multi_writer));
}

TEST_CASE("a lost ledger: what was found mounted and is no more keeps nobody from having the volume as the other") {
  FakeRig rig;
  rig.block = GENERATE(false, true);
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  const std::string path = rig.block ? "/pods/a" : "/stage";
  if (rig.block) {
    REQUIRE(rig.publish());
  }
  rig.manager.reset();
  std::filesystem::remove_all(rig.run_dir() + "/ledger");
  rig.crash();
  rig.block = !rig.block;
  refused(rig.stage(single, "/stage2"), ErrorCode::failed_precondition, "it is in use as a ");
  unmount_behind_its_back(rig, path);
  if (rig.block) {
    REQUIRE(rig.stage(single, "/stage2"));
  } else {
    refused(rig.stage(single, "/stage2"), ErrorCode::failed_precondition, "it is never formatted");
  }
  REQUIRE(rig.unstage("/stage2"));
  CHECK(loops(rig) == 0);
  CHECK(rig.remove());
}

TEST_CASE("a lost ledger: a stage that died does not turn what is mounted read-only there into what it asked for") {
  FakeRig rig;
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  REQUIRE(rig.unstage());
  REQUIRE(rig.stage(AccessMode::multi_node_reader_only));
  rig.manager.reset();
  std::filesystem::remove_all(rig.run_dir() + "/ledger");
  rig.crash();
  rig.die_at("mount_filesystem");
  REQUIRE_THROWS_AS(rig.stage(), Crash);
  rig.crash();
  refused(rig.stage(), ErrorCode::failed_precondition, "/stage");
  refused(rig.publish(), ErrorCode::failed_precondition, "staged read-only");
  SECTION("staged again as it is") { REQUIRE(rig.stage(AccessMode::multi_node_reader_only)); }
  SECTION("unmounted by somebody") {
    unmount_behind_its_back(rig, "/stage");
    REQUIRE(rig.stage());
    REQUIRE(rig.publish());
    REQUIRE(rig.unpublish());
  }
  REQUIRE(rig.unstage());
  CHECK(loops(rig) == 0);
}

TEST_CASE("a refused stage takes no raw block device away that was found held ready") {
  FakeRig rig;
  rig.block = true;
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  rig.manager.reset();
  std::filesystem::remove_all(rig.run_dir() + "/ledger");
  rig.crash();
  rig.block = false;
  refused(rig.stage(), ErrorCode::failed_precondition, "it is never formatted");
  CHECK(loops(rig) == 1);
  rig.block = true;
  REQUIRE(rig.publish());
  REQUIRE(rig.unpublish());
  REQUIRE(rig.unstage());
  CHECK(loops(rig) == 0);
}

TEST_CASE("a lost ledger: a refused stage does not bring back a raw block device that was found held ready and is gone") {
  FakeRig rig;
  rig.block = true;
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  rig.manager.reset();
  std::filesystem::remove_all(rig.run_dir() + "/ledger");
  rig.crash();
  detach_behind_its_back(rig);
  SECTION("a stage") {
    rig.block = false;
    refused(rig.stage(), ErrorCode::failed_precondition, "it is never formatted");
    CHECK(loops(rig) == 0);
    rig.block = true;
    refused(rig.publish(), ErrorCode::failed_precondition, "not staged");
  }
  SECTION("an unstage") {
    REQUIRE(rig.unstage());
    CHECK(std::filesystem::is_empty(rig.run_dir() + "/ledger"));
  }
  CHECK(rig.remove());
}

TEST_CASE("a lost ledger: what was found mounted and is no more, nor its device, keeps nobody from unstaging") {
  FakeRig rig;
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  rig.manager.reset();
  std::filesystem::remove_all(rig.run_dir() + "/ledger");
  rig.crash();
  refused(rig.unstage("/stage2"), ErrorCode::failed_precondition, "still mounted at /stage");
  unmount_behind_its_back(rig, "/stage");
  detach_behind_its_back(rig);
  CHECK(rig.unstage("/stage2"));
  CHECK(std::filesystem::is_empty(rig.run_dir() + "/ledger"));
}

TEST_CASE("a lost ledger: nothing grows at a staging path that was found mounted for reading only") {
  FakeRig rig;
  rig.fs_type = "xfs";
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  REQUIRE(rig.unstage());
  REQUIRE(rig.stage(AccessMode::multi_node_reader_only));
  rig.manager.reset();
  std::filesystem::remove_all(rig.run_dir() + "/ledger");
  rig.crash();
  REQUIRE(rig.manager->publish({}, {.volume_id = rig.id,
                                    .staging_path = "/stage",
                                    .target_path = "/pods/a",
                                    .capability = rig.capability(),
                                    .readonly = true,
                                    .publish_context = {},
                                    .volume_context = {}}));
  refused(node_expand(rig, "/pods/a", 2 * gib), ErrorCode::failed_precondition, "for reading only");
  REQUIRE(rig.stage());
  CHECK_THAT(rig.reasons(), !Catch::Contains("GrowthPending"));
  refused(node_expand(rig, "/stage", 2 * gib), ErrorCode::failed_precondition, "for reading only");
}

TEST_CASE("a lost ledger: nothing grows for a path that was found mounted and is no more") {
  FakeRig rig;
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  rig.manager.reset();
  std::filesystem::remove_all(rig.run_dir() + "/ledger");
  rig.crash();
  CHECK(node_expand(rig, "/stage", gib));
  unmount_behind_its_back(rig, "/stage");
  const auto grown = node_expand(rig, "/stage", 2 * gib);
  REQUIRE_FALSE(grown);
  CHECK(grown.error().code == ErrorCode::not_found);
  CHECK(rig.manager->core().records->find(rig.id)->size == static_cast<std::uint64_t>(gib));
}

TEST_CASE("a lost ledger: a filesystem that was found mounted grows there, or the call says why not") {
  FakeRig rig;
  rig.fs_type = GENERATE(as<std::string>{}, "xfs", "ext4");
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  REQUIRE(rig.publish());
  rig.manager.reset();
  std::filesystem::remove_all(rig.run_dir() + "/ledger");
  rig.grows_mounted_ext4 = false;
  rig.crash();
  const std::string path = GENERATE(as<std::string>{}, "/stage", "/pods/a");
  const auto grown = node_expand(rig, path, 2 * gib);
  if (rig.fs_type == "xfs") {
    REQUIRE(grown);
    CHECK(rig.content().size == static_cast<std::uint64_t>(2 * gib));
  } else {
    refused(grown, ErrorCode::failed_precondition, "CAP_SYS_RESOURCE");
  }
}

TEST_CASE("a filesystem that is mounted at its target alone grows there; for reading only it does not, and the call says so") {
  FakeRig rig;
  rig.fs_type = "xfs";
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  const bool readonly = GENERATE(false, true);
  REQUIRE(rig.manager->publish({}, {.volume_id = rig.id,
                                    .staging_path = "/stage",
                                    .target_path = "/pods/a",
                                    .capability = rig.capability(),
                                    .readonly = readonly,
                                    .publish_context = {},
                                    .volume_context = {}}));
  unmount_behind_its_back(rig, "/stage");
  rig.crash();
  const auto grown = node_expand(rig, "/pods/a", 2 * gib);
  if (readonly) {
    refused(grown, ErrorCode::failed_precondition, "mounted for reading only");
  } else {
    REQUIRE(grown);
    CHECK(rig.content().size == static_cast<std::uint64_t>(2 * gib));
  }
}

TEST_CASE("an unstage of a target, or an unpublish of a staging path, takes nothing away") {
  FakeRig rig;
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  REQUIRE(rig.publish());
  CHECK(rig.manager->unstage({}, {.volume_id = rig.id, .staging_path = "/pods/a"}));
  CHECK(is_mounted(rig, "/pods/a"));
  CHECK(rig.manager->unpublish({}, {.volume_id = rig.id, .target_path = "/stage"}));
  CHECK(is_mounted(rig, "/stage"));
  REQUIRE(rig.publish("/pods/a"));
  REQUIRE(rig.unpublish());
  REQUIRE(rig.unstage());
}

TEST_CASE("a bind whose answer is lost holds the volume until it is unpublished") {
  FakeRig rig;
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  const bool done = GENERATE(false, true);
  rig.node.set_hook([&](const FakePoint& at) -> mount::Result<void> {
    if (at.name == (done ? "bind.done" : "bind")) {
      return mount::make_error(ErrorCode::internal, "the worker is gone");
    }
    return mount::success();
  });
  REQUIRE_FALSE(rig.publish());
  rig.node.set_hook({});
  CHECK(is_mounted(rig, "/pods/a") == done);
  if (done) {
    refused(rig.publish("/pods/b", single, "db-9"), ErrorCode::failed_precondition, "/pods/a");
    REQUIRE(rig.unpublish());
  }
  CHECK(rig.publish("/pods/b", single, "db-9"));
}

TEST_CASE("a lost ledger and a record made anew: a btrfs is unstaged, though the first mount that was found is no more") {
  FakeRig rig;
  rig.fs_type = "btrfs";
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  REQUIRE(rig.publish());
  rig.manager.reset();
  std::filesystem::remove_all(rig.run_dir() + "/ledger");
  std::ofstream{rig.record_file()} << "garbage";
  rig.crash();
  rig.manager->repair();
  REQUIRE(rig.manager->core().records->find(rig.id)->content == Content::raw);
  unmount_behind_its_back(rig, "/pods/a");
  REQUIRE(rig.unstage());
  CHECK_FALSE(is_mounted(rig, "/stage"));
  CHECK(loops(rig) == 0);
}

TEST_CASE("a stage that died when it had attached the device anew, and then an unstage, leave no loop device") {
  FakeRig rig;
  rig.block = GENERATE(false, true);
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  if (!rig.block) {
    unmount_behind_its_back(rig, "/stage");
  }
  detach_behind_its_back(rig);
  rig.die_at("attach.done");
  REQUIRE_THROWS_AS(rig.stage(), Crash);
  rig.crash();
  CHECK(loops(rig) == 1);
  REQUIRE(rig.unstage());
  CHECK(loops(rig) == 0);
}

TEST_CASE("a volume that was unmounted at its staging path, unstaged at another and then unpublished keeps no loop device") {
  FakeRig rig;
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  REQUIRE(rig.publish());
  unmount_behind_its_back(rig, "/stage");
  SECTION("by the calls alone") {
    rig.crash();
    REQUIRE(rig.stage(single, "/stage2"));
    REQUIRE(rig.unstage("/stage2"));
    CHECK(loops(rig) == 1);
    REQUIRE(rig.unpublish());
  }
  SECTION("its ledger was lost as well") {
    rig.manager.reset();
    std::filesystem::remove_all(rig.run_dir() + "/ledger");
    rig.crash();
    REQUIRE(rig.unpublish());
  }
  SECTION("the target was unmounted as well: a round of repairs") {
    unmount_behind_its_back(rig, "/pods/a");
    rig.crash();
    CHECK(loops(rig) == 1);
    rig.manager->repair();
  }
  CHECK(loops(rig) == 0);
  CHECK(rig.unstage());
  CHECK(rig.remove());
}

TEST_CASE(
    "an unstage that died when it had unmounted, and a round of repairs before it is repeated: the ledger is empty, the record knows") {
  FakeRig rig;
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  REQUIRE(rig.publish());
  REQUIRE(rig.unpublish());
  rig.die_at("unmount.done");
  REQUIRE_THROWS_AS(rig.unstage(), Crash);
  rig.crash();
  rig.manager->repair();
  CHECK(loops(rig) == 0);
  CHECK(rig.unstage());
  CHECK(std::filesystem::is_empty(rig.run_dir() + "/ledger"));
  CHECK(rig.manager->core().records->find(rig.id)->history.size() == 1);
}
