/// What the agent finds and mends by itself, at start and in its rounds of repairs, on the fake kernel.

#include <catch2/catch.hpp>
#include <filesystem>

#include "tests/agent/fake_rig.hpp"

using namespace ordinald;
using namespace ordinald::testing;  // the fake agent, and all of agent/

namespace {

constexpr AccessMode single = AccessMode::single_node_single_writer;

std::uint64_t count(const FakeRig& rig, const std::string& kind) {
  const auto counts = rig.manager->repair_counts();
  const auto found = counts.find(kind);
  return found == counts.end() ? 0 : found->second;
}

}  // namespace

TEST_CASE("a lost ledger: what is mounted is still held, and the same calls go on") {
  FakeRig rig;
  rig.fs_type = GENERATE(as<std::string>{}, "ext4", "btrfs");
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  REQUIRE(rig.publish());
  lose_ledger(rig);
  CHECK(count(rig, "mount-found") == 2);
  refused(rig.publish("/pods/b", single, "db-9"), ErrorCode::failed_precondition, "mounted at /pods/a for somebody unknown");
  refused(rig.unstage(), ErrorCode::failed_precondition, "still mounted at /pods/a");
  refused(rig.remove(), ErrorCode::failed_precondition, "mounted at");

  SECTION("statistics are served") { CHECK(rig.manager->stats({}, {.volume_id = rig.id, .volume_path = "/pods/a", .staging_path = {}})); }
  SECTION("publishing there again tells who it is") {
    REQUIRE(rig.publish());
    rig.crash();
    refused(rig.publish("/pods/b", single, "db-9"), ErrorCode::failed_precondition, "/db-0 (uid uid-db-0)");
  }
  SECTION("staging there again") {
    REQUIRE(rig.stage());
    refused(rig.publish("/pods/b", single, "db-9"), ErrorCode::failed_precondition, "/pods/a");
  }
  SECTION("a crash in between changes nothing") {
    rig.crash();
    refused(rig.publish("/pods/b", single, "db-9"), ErrorCode::failed_precondition, "/pods/a");
  }
  SECTION("the rounds leave it alone") {
    rig.manager->repair();
    refused(rig.publish("/pods/b", single, "db-9"), ErrorCode::failed_precondition, "/pods/a");
  }
  REQUIRE(rig.unpublish());
  CHECK(rig.publish("/pods/b", single, "db-9"));
  REQUIRE(rig.unpublish("/pods/b"));
  REQUIRE(rig.unstage());
  CHECK(rig.remove());
  CHECK(rig.node.with([](FakeState& state) { return state.loops.empty() && state.mounts.empty() && state.images.empty(); }));
}

TEST_CASE("a lost ledger of a block volume: its node is still held") {
  FakeRig rig;
  rig.block = true;
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  REQUIRE(rig.publish());
  lose_ledger(rig);
  CHECK(count(rig, "mount-found") == 1);
  rig.manager->repair();
  refused(rig.publish("/pods/b", single, "db-9"), ErrorCode::failed_precondition, "/pods/a");
  refused(rig.unstage(), ErrorCode::failed_precondition, "/pods/a");
  REQUIRE(rig.publish());
  REQUIRE(rig.unpublish());
  REQUIRE(rig.unstage());
  CHECK(rig.node.with([](FakeState& state) { return state.loops.empty() && state.mounts.empty(); }));
}

TEST_CASE("a ledger entry that is garbage is as good as lost") {
  FakeRig rig;
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  REQUIRE(rig.publish());
  rig.manager.reset();
  write_file(rig.run_dir() + "/ledger/" + rig.id + ".json", "{\"schema\": 1, \"bootId\"");
  rig.start();
  refused(rig.publish("/pods/b", single, "db-9"), ErrorCode::failed_precondition, "/pods/a");
  REQUIRE(rig.unpublish());
  REQUIRE(rig.unstage());
}

TEST_CASE("a target that was taken away behind our back locks nobody out") {
  FakeRig rig;
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  REQUIRE(rig.publish());
  const auto take_away = [&](bool path_too) {
    rig.node.with([&](FakeState& state) {
      std::erase_if(state.mounts, [](const auto& mount) { return mount.mount_point == "/pods/a"; });
      if (path_too) {
        state.root.erase("pods/a");
      }
    });
  };
  SECTION("while it is there, it holds") {
    rig.manager->repair();
    refused(rig.publish("/pods/b", single, "db-9"), ErrorCode::failed_precondition, "/pods/a");
  }
  SECTION("the next holder gets it at once") {
    take_away(GENERATE(true, false));
    CHECK(rig.reasons() == "MountGone");
    REQUIRE(rig.publish("/pods/b", single, "db-9"));
    CHECK(count(rig, "hold-released") == 1);
    refused(rig.publish("/pods/a"), ErrorCode::failed_precondition, "db-9");
  }
  SECTION("also at the same target") {
    take_away(true);
    CHECK(rig.publish("/pods/a", single, "db-9"));
  }
  SECTION("it can be unstaged, and deleted") {
    take_away(true);
    REQUIRE(rig.unstage());
    CHECK(rig.remove());
  }
  SECTION("a round ends the hold where the path is gone") {
    take_away(true);
    rig.manager->repair();
    CHECK(count(rig, "hold-released") == 1);
    CHECK(rig.reasons().empty());
  }
  SECTION("and leaves it to health where it is there, unmounted") {
    take_away(false);
    rig.manager->repair();
    CHECK(count(rig, "hold-released") == 0);
    CHECK(rig.reasons() == "MountGone");
  }
}

TEST_CASE("a create that was interrupted and is not repeated is taken back") {
  FakeRig rig;
  const std::string point = GENERATE(as<std::string>{}, "create_image", "create_image.done");
  rig.node.set_hook([&](const FakePoint& at) -> Result<void> {
    if (at.name == point) {
      throw Crash{};
    }
    return mount::success();
  });
  CHECK_THROWS_AS(rig.create(), Crash);
  rig.crash();
  rig.manager->repair();
  CHECK(count(rig, "create-undone") == 1);
  CHECK(rig.node.with([](FakeState& state) { return state.images.empty(); }));
  CHECK(rig.manager->get_capacity({}, {}).value().available == 90 * gib);
  CHECK(rig.create());
}

TEST_CASE("a loop device that a crash left is taken away, and no other") {
  FakeRig rig;
  REQUIRE(rig.create());
  rig.die_at("attach.done");
  CHECK_THROWS_AS(rig.stage(), Crash);
  rig.crash();
  const auto loops = [&] { return rig.node.with([](FakeState& state) { return state.loops.size(); }); };
  REQUIRE(loops() == 1);
  SECTION("ours") {
    rig.manager->repair();
    CHECK(loops() == 0);
    CHECK(count(rig, "loop-detached") == 1);
  }
  SECTION("a person's") {
    rig.node.with([](FakeState& state) { state.loops.begin()->second.by_agent = false; });
    rig.manager->repair();
    CHECK(loops() == 1);
    REQUIRE(rig.manager->findings().size() == 1);
    CHECK_THAT(rig.manager->findings().begin()->first, Catch::Contains("losetup -d /dev/loop0"));
  }
  SECTION("one that is staged") {
    REQUIRE(rig.stage());
    rig.manager->repair();
    CHECK(loops() == 1);
  }
}

TEST_CASE("a create whose volume lost its record gets that volume, no blank one in its place") {
  FakeRig rig;
  REQUIRE(rig.create());
  const std::string id = rig.id;
  REQUIRE(rig.stage());
  REQUIRE(rig.unstage());
  rig.manager.reset();
  std::filesystem::remove_all(rig.state_dir() + "/volumes");
  SECTION("from its image's label") {
    rig.start();
    REQUIRE(rig.create());
    CHECK(rig.id == id);
    REQUIRE(rig.stage());
    CHECK(rig.content().type == "ext4");
  }
  SECTION("which says nothing: it is refused") {
    rig.node.with([&](FakeState& state) { state.volume(id).label.clear(); });
    rig.start();
    refused(rig.create(), ErrorCode::failed_precondition, id + ".img");
    CHECK(rig.node.with([](FakeState& state) { return state.images.size(); }) == 1);
  }
  SECTION("nor whose it is, as after a copy without attributes: it is refused") {
    rig.node.with([&](FakeState& state) { state.volume(id).volume_id.clear(); });
    rig.start();
    refused(rig.create(), ErrorCode::unavailable, id + ".img");
    CHECK(rig.node.with([](FakeState& state) { return state.images.size(); }) == 1);
  }
}

TEST_CASE("a lost record is made anew from the image, and what it holds is served, never formatted") {
  FakeRig rig;
  rig.parameters = {{"csi.storage.k8s.io/pvc/name", "data-db-0"}, {"csi.storage.k8s.io/pvc/namespace", "prod"}};
  REQUIRE(rig.create());
  const std::string id = rig.id;
  const bool formatted = GENERATE(true, false);
  if (formatted) {
    REQUIRE(rig.stage());
    REQUIRE(rig.unstage());
  }
  const auto formats = rig.node.passed("run_tool");
  rig.manager.reset();
  const bool gone = GENERATE(true, false);
  if (gone) {
    std::filesystem::remove(rig.record_file());
  } else {
    write_file(rig.record_file(), "{\"schema\": 1, ");
  }
  rig.start();
  refused(rig.stage(), gone ? ErrorCode::not_found : ErrorCode::failed_precondition, id);
  rig.manager->repair();
  CHECK(count(rig, "record-recovered") == 1);
  CHECK(rig.reasons().empty());

  // A repeated create finds it by its name, with the same parameters.
  REQUIRE(rig.create());
  CHECK(rig.id == id);
  if (formatted) {
    REQUIRE(rig.stage());
    CHECK(rig.node.passed("run_tool") <= formats + 1);  // the check
    CHECK(rig.content().type == "ext4");
    REQUIRE(rig.publish());
    REQUIRE(rig.unpublish());
    REQUIRE(rig.unstage());
  } else {
    refused(rig.stage(), ErrorCode::failed_precondition, "never formatted");
    CHECK(rig.node.passed("run_tool") == formats);
  }
  rig.crash();
  CHECK(count(rig, "record-recovered") == 0);
  REQUIRE(rig.remove());
  CHECK(std::filesystem::is_empty(std::filesystem::path{rig.record_file()}.parent_path()));
}

TEST_CASE("a record is not made anew where a person has to decide") {
  FakeRig rig;
  REQUIRE(rig.create());
  rig.manager.reset();
  SECTION("a newer agent's") { write_file(rig.record_file(), "{\"schema\": 2}"); }
  SECTION("an image without a label") {
    std::filesystem::remove(rig.record_file());
    rig.node.with([](FakeState& state) { state.images.front()->label.clear(); });
  }
  SECTION("no image") {
    write_file(rig.record_file(), "");
    rig.node.with([](FakeState& state) { state.images.clear(); });
  }
  rig.start();
  rig.manager->repair();
  rig.manager->repair();
  CHECK(count(rig, "record-recovered") == 0);
  for (const auto& [message, command] : rig.manager->findings()) {
    const bool of_label = message.find("has no label") != std::string::npos;
    CHECK((!of_label || message.find("losetup --find --show --read-only /pool/" + rig.id + ".img)") != std::string::npos));
  }
  CHECK_FALSE(rig.stage());
  // What its image can grow to is promised, record or not.
  const std::int64_t images = rig.node.with([](FakeState& state) { return static_cast<std::int64_t>(state.images.size()); });
  CHECK(rig.manager->get_capacity({}, {}).value().available == (90 - images) * gib);
}

TEST_CASE("a volume that is deleted while a round looks is no finding") {
  FakeRig rig;
  REQUIRE(rig.create());
  std::filesystem::remove(rig.record_file());
  rig.crash();  // its image is there, and has no record
  rig.node.set_hook([&](const FakePoint& point) -> Result<void> {
    if (point.name == "inspect_pool.done") {
      rig.node.with([](FakeState& state) { state.images.clear(); });
    }
    return mount::success();
  });
  rig.manager->repair();
  CHECK(rig.manager->findings().empty());
  CHECK(count(rig, "record-recovered") == 0);
}

TEST_CASE("an image that never got its name is removed, where no volume has that id") {
  FakeRig rig;
  REQUIRE(rig.create());
  rig.node.with([&](FakeState& state) {
    state.add_image({.directory = "/pool", .file = "." + rig.id + ".img.new", .volume_id = rig.id}, 4096);
    state.add_image({.directory = "/pool", .file = ".gone-1a2b3c4d.img.new", .volume_id = ""}, 4096);
  });
  rig.manager->repair();
  CHECK(rig.manager->findings().empty());
  CHECK(rig.node.with([](FakeState& state) { return state.images.size(); }) == 2);
  CHECK(count(rig, "half-made-removed") == 1);
  REQUIRE(rig.stage());
}

TEST_CASE("a file that only is called as an image that is being made is a person's") {
  FakeRig rig;
  const auto add = [&](const std::string& id, const std::string& mark, std::uint64_t allocated) {
    rig.node.with([&](FakeState& state) {
      state.add_image({.directory = "/pool", .file = "." + id + ".img.new", .volume_id = mark}, gib).allocated = allocated;
    });
  };
  add("old", "old", 4096);
  add("empty", "", 0);
  add("gone-1a2b3c4d", "", 4096);
  add("backup", "", 4096);
  add("copy-1a2b3c4d", "another", 4096);
  rig.manager->repair();
  rig.manager->repair();
  CHECK(count(rig, "half-made-removed") == 3);
  const auto findings = rig.manager->findings();
  REQUIRE(findings.size() == 2);
  CHECK_THAT(findings.begin()->first, Catch::Contains("/pool/.backup.img.new") && Catch::Contains("no mark of a volume"));
  CHECK(findings.begin()->second == "rm /pool/.backup.img.new");
  CHECK_THAT(findings.rbegin()->first, Catch::Contains("/pool/.copy-1a2b3c4d.img.new") && Catch::Contains("the mark of volume another"));
  CHECK(rig.node.with([](FakeState& state) { return state.images.size(); }) == 2);
}

TEST_CASE("a ledger that knows only who had a volume before: what is mounted is found, and that is kept") {
  FakeRig rig;
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  REQUIRE(rig.publish());
  rig.manager.reset();
  VolumeState old;
  Tenure& before = old.past.emplace_back();
  before.holder.pod_name = "db-7";
  before.ended = "unpublished";
  write_file(rig.run_dir() + "/ledger/" + rig.id + ".json", to_json(old, rig.boot));
  rig.start();
  CHECK(count(rig, "mount-found") == 2);
  REQUIRE(rig.publish());
  REQUIRE(rig.unpublish());
  REQUIRE(rig.unstage());
  const auto record = rig.manager->core().records->find(rig.id);
  REQUIRE(record->history.size() == 2);
  CHECK(record->history.front().holder.pod_name == "db-7");
  CHECK(record->history.back().holder.pod_name == "db-0");
}

TEST_CASE("a lost ledger: a raw block device that is staged and not published is still staged") {
  FakeRig rig;
  rig.block = true;
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  lose_ledger(rig);
  CHECK(count(rig, "device-found") == 1);
  rig.manager->repair();
  CHECK(rig.node.with([](FakeState& state) { return state.loops.size(); }) == 1);
  refused(rig.remove(), ErrorCode::failed_precondition, "it is staged at an unknown path");
  SECTION("published: that tells where") {
    REQUIRE(rig.publish());
    refused(rig.unstage(), ErrorCode::failed_precondition, "still published");
    refused(rig.publish("/pods/b", single, "db-9"), ErrorCode::failed_precondition, "held by");
    lose_ledger(rig);  // and again, published by now
    REQUIRE(rig.unpublish());
    rig.manager->repair();
    REQUIRE(rig.publish());
    REQUIRE(rig.unpublish());
  }
  SECTION("staged again") {
    REQUIRE(rig.stage());
    REQUIRE(rig.publish());
    REQUIRE(rig.unpublish());
  }
  SECTION("asked for as a filesystem: it is none") {
    rig.block = false;
    refused(rig.publish(), ErrorCode::failed_precondition, "not staged");
    rig.block = true;
  }
  SECTION("a restart on top") {
    rig.crash();
    CHECK(count(rig, "device-found") == 0);
    REQUIRE(rig.publish());
    REQUIRE(rig.unpublish());
  }
  REQUIRE(rig.unstage());
  CHECK(rig.node.with([](FakeState& state) { return state.loops.size(); }) == 0);
  REQUIRE(rig.remove());
}

TEST_CASE("a lost ledger: what was found mounted and is no more leaves no raw block device held ready") {
  FakeRig rig;
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  REQUIRE(rig.unstage());
  rig.block = true;
  REQUIRE(rig.stage());
  REQUIRE(rig.unstage());
  rig.block = false;
  REQUIRE(rig.stage());
  lose_ledger(rig);
  CHECK(count(rig, "mount-found") == 1);
  rig.manager.reset();
  rig.node.with([](FakeState& state) { state.mounts.clear(); });
  rig.start();
  CHECK(count(rig, "device-found") == 0);
  REQUIRE(rig.remove());
  CHECK(rig.node.with([](FakeState& state) { return state.loops.size(); }) == 0);
}

TEST_CASE("a volume that is staged nowhere tells nothing of the device that it had") {
  FakeRig rig;
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  rig.manager.reset();
  rig.node.with([](FakeState& state) { state.mounts.clear(); });
  rig.start();
  rig.node.with([](FakeState& state) { state.loops.clear(); });
  CHECK(rig.reasons().empty());
}

TEST_CASE("a lost ledger: a raw block device that is attached no more is not staged") {
  FakeRig rig;
  rig.block = true;
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  lose_ledger(rig);
  rig.manager.reset();
  rig.node.with([](FakeState& state) { state.loops.clear(); });
  rig.start();
  refused(rig.publish(), ErrorCode::failed_precondition, "not staged");
  REQUIRE(rig.remove());
}

TEST_CASE("a copy of an image that has its volume's mark is reported, whether the volume is there or not") {
  FakeRig rig;
  REQUIRE(rig.create());
  rig.node.with([&](FakeState& state) { state.add_image({.directory = "/pool", .file = "copy.img", .volume_id = rig.id}, gib); });
  if (GENERATE(true, false)) {
    REQUIRE(rig.remove());
  }
  rig.manager->repair();
  const auto findings = rig.manager->findings();
  REQUIRE(findings.size() == 1);
  CHECK(findings.begin()->second == "setfattr -x trusted.ordinald.volume /pool/copy.img");
}

TEST_CASE("a copy of an image in another pool is reported as one, whatever it is called") {
  FakeRig rig;
  REQUIRE(rig.create());
  rig.node.with([&](FakeState& state) {
    state.add_pool("/b", 10 * gib);
    state.add_image({.directory = "/b", .file = "copy.img", .volume_id = rig.id}, gib);
  });
  Config config;
  config.node_id = "n1";
  config.state_dir = rig.state_dir();
  config.run_dir = rig.run_dir();
  config.pools = {PoolConfig{.name = "default", .directory = "/pool", .is_default = true}, PoolConfig{.name = "b", .directory = "/b"}};
  rig.manager.reset();
  rig.manager = VolumeManager::open(config, rig.node, rig.log, {.boot_id = rig.boot, .grows_mounted_ext4 = true}).value();
  rig.manager->repair();
  const auto findings = rig.manager->findings();
  REQUIRE(findings.size() == 1);
  CHECK_THAT(findings.begin()->first, Catch::Contains(rig.id + ".img of pool default: this is a copy"));
  CHECK(findings.begin()->second == "setfattr -x trusted.ordinald.volume /b/copy.img");
}

TEST_CASE("an image that somebody has renamed is reported with the command that gives it back its name, and none that removes it") {
  FakeRig rig;
  REQUIRE(rig.create());
  rig.node.with([&](FakeState& state) {
    REQUIRE(state.images.size() == 1);
    state.images.front()->file = "before the restore.img";
  });
  rig.manager->repair();
  const auto findings = rig.manager->findings();
  REQUIRE(findings.size() == 1);
  const auto& [message, command] = *findings.begin();
  CHECK(command == "mv --no-clobber '/pool/before the restore.img' /pool/" + rig.id + ".img");
  CHECK_THAT(message, Catch::Contains("which is not there; where this is a copy: setfattr -x ") && !Catch::Contains(" rm "));
}

TEST_CASE("a strange file in a pool is reported once, with the command, and left alone") {
  FakeRig rig;
  const std::string file = GENERATE(as<std::string>{}, "old.img", "data.img old.img");
  rig.node.with([&](FakeState& state) { state.add_image({.directory = "/pool", .file = file, .volume_id = {}}, 4096); });
  rig.manager->repair();
  rig.manager->repair();
  REQUIRE(rig.manager->findings().size() == 1);
  CHECK_THAT(rig.manager->findings().begin()->first,
             Catch::EndsWith(file == "old.img" ? ": rm /pool/old.img" : ": rm '/pool/data.img old.img'"));
  CHECK(rig.node.with([](FakeState& state) { return state.images.size(); }) == 1);
}
