/// The rules about volumes on the fake kernel: what real devices can't be made to do on command, and every point between two acts.

#include "agent/volume_manager.hpp"

#include <catch2/catch.hpp>

#include "tests/agent/fake_rig.hpp"

using namespace ordinald;
using namespace ordinald::testing;  // the fake agent, and all of agent/

namespace {
using Rig = FakeRig;
}  // namespace

TEST_CASE("anything found on a volume that should be blank is never formatted") {
  Rig rig;
  REQUIRE(rig.create());
  FakeContent found;
  SECTION("another filesystem") {
    found = {.kind = FakeContent::Kind::filesystem,
             .usage = "filesystem",
             .type = "ext4",
             .uuid = "11111111-1111-1111-1111-111111111111",
             .size = gib};
  }
  SECTION("a LUKS header") { found = {.kind = FakeContent::Kind::foreign, .usage = "crypto", .type = "crypto_LUKS", .uuid = "x"}; }
  SECTION("data without any signature") { found = {.kind = FakeContent::Kind::raw, .raw_offset = 500 * mib}; }
  rig.content() = found;
  refused(rig.stage(), ErrorCode::failed_precondition, "it is not formatted");
  CHECK(rig.content().kind == found.kind);
  CHECK(rig.content().uuid == found.uuid);
  CHECK(rig.node.passed("run_tool") == 0);
  CHECK(rig.node.passed("erase") == 0);
  // A failed stage leaves no device behind: Kubernetes sends no unstage after it.
  CHECK(rig.node.with([](FakeState& state) { return state.loops.empty(); }));
}

TEST_CASE("a pool that is read-only has no room, and a create and a growth are refused with its name") {
  Rig rig;
  REQUIRE(rig.create());
  rig.node.with([](FakeState& state) { state.pools.at("/pool").read_only = true; });
  const auto capacity = rig.manager->get_capacity({}, {});
  REQUIRE(capacity);
  CHECK(capacity.value().available == 0);
  const std::string kept = rig.id;
  const auto created = rig.create("data-db-1");
  REQUIRE_FALSE(created);
  CHECK(created.error().code == ErrorCode::failed_precondition);
  CHECK_THAT(created.error().message, Catch::Contains("pool default") && Catch::Contains("read-only"));
  const auto grown = rig.manager->expand_volume({}, kept, {.required = 2 * gib}, std::nullopt);
  REQUIRE_FALSE(grown);
  CHECK(grown.error().code == ErrorCode::failed_precondition);
  rig.node.with([](FakeState& state) { state.pools.at("/pool").read_only = false; });
  CHECK(rig.create("data-db-1"));
  CHECK(rig.manager->list_volumes({}, {}).value().entries.size() == 2);
}

TEST_CASE("a read error while probing is an error, never blank") {
  Rig rig;
  REQUIRE(rig.create());
  rig.node.with([&](FakeState& state) { state.volume(rig.id).read_errno = EIO; });
  const auto staged = rig.stage();
  REQUIRE_FALSE(staged);
  CHECK(rig.node.passed("run_tool") == 0);
}

TEST_CASE("a filesystem with another UUID than the record's is not mounted") {
  Rig rig;
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  REQUIRE(rig.unstage());
  rig.content().uuid = "11111111-1111-1111-1111-111111111111";
  refused(rig.stage(), ErrorCode::failed_precondition, "11111111-1111-1111-1111-111111111111");
  CHECK(rig.node.passed("run_tool") == 1);

  SECTION("nor is one made where it vanished") {
    rig.content() = {};
    refused(rig.stage(), ErrorCode::failed_precondition, "no filesystem at all");
    CHECK(rig.content().kind == FakeContent::Kind::blank);
  }
}

TEST_CASE("a format that was interrupted is made again, but only over what is ours") {
  Rig rig;
  REQUIRE(rig.create());
  rig.die_at("run_tool.half");
  CHECK_THROWS_AS(rig.stage(), Crash);
  rig.crash();
  REQUIRE(rig.content().half_made);
  SECTION("our half-made one") {
    REQUIRE(rig.stage());
    CHECK_FALSE(rig.content().half_made);
    CHECK(rig.node.passed("erase") == 1);
  }
  SECTION("data that somebody put there in between") {
    rig.content() = {.kind = FakeContent::Kind::foreign, .usage = "other", .type = "swap"};
    refused(rig.stage(), ErrorCode::failed_precondition, "swap");
    CHECK(rig.content().type == "swap");
    CHECK(rig.node.passed("erase") == 0);
  }
  SECTION("another filesystem of the same kind") {
    rig.content().uuid = "11111111-1111-1111-1111-111111111111";
    refused(rig.stage(), ErrorCode::failed_precondition, "it is not formatted");
  }
}

TEST_CASE("a raw block volume is never formatted, and what it holds is mounted if it is what is asked for") {
  Rig rig;
  rig.block = true;
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  REQUIRE(rig.publish());
  REQUIRE(rig.unpublish());
  REQUIRE(rig.unstage());
  rig.block = false;
  refused(rig.stage(), ErrorCode::failed_precondition, "never formatted");
  CHECK(rig.node.passed("run_tool") == 0);
  rig.content() = {.kind = FakeContent::Kind::filesystem, .usage = "filesystem", .type = "xfs", .uuid = "u", .size = gib};
  refused(rig.stage(), ErrorCode::failed_precondition, "xfs");
  rig.fs_type = "xfs";
  CHECK(rig.stage());
  CHECK(rig.node.passed("mount_filesystem.done") == 1);
}

TEST_CASE("fsck that needs a person: not mounted, and the command is given") {
  Rig rig;
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  REQUIRE(rig.unstage());
  const auto mounts = rig.node.passed("mount_filesystem");
  for (const int status : {2, 3, 4, 5, 8, 12, 16, 32, 128}) {
    CAPTURE(status);
    rig.node.with([&](FakeState& state) { state.tool_results["e2fsck"] = {.exit_status = status, .output = "UNEXPECTED"}; });
    refused(rig.stage(), ErrorCode::failed_precondition, "e2fsck -f /pool/");
  }
  CHECK(rig.node.passed("mount_filesystem") == mounts);
  rig.node.with([](FakeState& state) { state.tool_results["e2fsck"] = {.exit_status = 1, .output = "FIXED"}; });
  CHECK(rig.stage());
}

TEST_CASE("a mkfs that fails leaves a volume that the next stage makes whole") {
  Rig rig;
  REQUIRE(rig.create());
  rig.node.with([](FakeState& state) { state.tool_results["mkfs.ext4"] = {.exit_status = -1, .signal = 9, .output = "out of memory"}; });
  refused(rig.stage(), ErrorCode::internal, "out of memory");
  CHECK(rig.reasons() == "StageRefused");
  rig.node.with([](FakeState& state) { state.tool_results.clear(); });
  CHECK(rig.stage());
  CHECK(rig.reasons().empty());
}

TEST_CASE("an ext4 that can't be grown while mounted keeps the promise and grows at the next stage") {
  Rig rig;
  rig.grows_mounted_ext4 = false;
  rig.node.with([](FakeState& state) { state.can_grow_mounted_ext4 = false; });
  rig.start();
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  const auto grown = rig.manager->expand_volume({}, rig.id, {.required = 2 * gib}, std::nullopt);
  REQUIRE(grown);
  CHECK(grown.value().capacity == 2 * gib);
  CHECK(grown.value().node_expansion_required);
  const auto node =
      rig.manager->node_expand({}, {.volume_id = rig.id, .volume_path = "/stage", .staging_path = {}, .capacity = {}, .capability = {}});
  REQUIRE_FALSE(node);
  CHECK(node.error().code == ErrorCode::failed_precondition);
  CHECK_THAT(node.error().message, Catch::Contains("CAP_SYS_RESOURCE") && Catch::Contains("next time"));
  CHECK(rig.reasons() == "GrowthPending");
  CHECK(rig.stage());  // repeated: OK all the same
  REQUIRE(rig.unstage());
  REQUIRE(rig.stage());
  CHECK(rig.content().size == static_cast<std::uint64_t>(2 * gib));
  CHECK(rig.reasons().empty());
}

TEST_CASE("a filesystem that can't be grown at its stage is served as it is, and grows at the next") {
  FakeRig rig;
  rig.fs_type = GENERATE("ext4", "xfs", "btrfs");
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  REQUIRE(rig.unstage());
  REQUIRE(rig.manager->expand_volume({}, rig.id, {.required = 2 * gib}, std::nullopt));
  rig.node.set_hook([](const FakePoint& at) -> Result<void> {
    return at.name == "grow_filesystem" ? Result<void>{mount::make_error(ErrorCode::failed_precondition, "it has errors")}
                                        : mount::success();
  });
  REQUIRE(rig.stage());
  REQUIRE(rig.publish());
  CHECK_THAT(rig.logged.str(), Catch::Contains("it is served with the size that it had") && Catch::Contains("it has errors"));
  const csi::NodeExpandArgs expand{.volume_id = rig.id, .volume_path = "/pods/a", .staging_path = {}, .capacity = {.required = 2 * gib}};
  CHECK(rig.reasons() == "GrowthPending");
  CHECK_FALSE(rig.manager->node_expand({}, expand));
  CHECK(rig.reasons() == "GrowthPending");
  rig.node.set_hook({});
  if (GENERATE(false, true)) {
    CHECK(rig.manager->node_expand({}, expand));
  } else {
    REQUIRE(rig.stage());
  }
  CHECK(rig.reasons().empty());
  CHECK(rig.node.with([&](FakeState& state) { return state.volume(rig.id).content.size; }) == 2 * gib);
}

TEST_CASE("a volume that grew while unused grows at stage, xfs once it is mounted") {
  Rig rig;
  rig.fs_type = "xfs";
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  REQUIRE(rig.unstage());
  REQUIRE(rig.manager->expand_volume({}, rig.id, {.required = 2 * gib}, std::nullopt));
  REQUIRE(rig.stage());
  CHECK(rig.content().size == static_cast<std::uint64_t>(2 * gib));
}

TEST_CASE("a filesystem that lives on elsewhere is staged again with its data, and can't be deleted") {
  Rig rig;
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  const auto pin = rig.node.with([](FakeState& state) {
    state.write_file("/stage/name", "db-0");
    return state.pin("/stage", 4711, "collector");
  });
  REQUIRE(rig.unstage());
  refused(rig.remove(), ErrorCode::failed_precondition, "4711 (collector)");
  REQUIRE(rig.stage());
  CHECK(rig.node.with([](FakeState& state) { return state.read_file("/stage/name"); }) == "db-0");
  CHECK(rig.node.with([](FakeState& state) { return state.loops.size(); }) == 1);
  REQUIRE(rig.unstage());
  rig.node.with([&](FakeState& state) { state.unpin(pin); });
  CHECK(rig.remove());
}

TEST_CASE("after a reboot nothing is held, publish before stage is refused, and the data is there") {
  Rig rig;
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  REQUIRE(rig.publish());
  rig.node.with([](FakeState& state) { state.write_file("/pods/a/name", "db-0"); });
  rig.reboot();
  refused(rig.publish("/pods/b"), ErrorCode::failed_precondition, "not staged");
  CHECK(rig.unpublish());
  REQUIRE(rig.stage());
  REQUIRE(rig.publish("/pods/b", AccessMode::single_node_single_writer, "db-0-new"));
  CHECK(rig.node.with([](FakeState& state) { return state.read_file("/pods/b/name"); }) == "db-0");
}

TEST_CASE("a holder keeps the volume through a crash of the agent") {
  Rig rig;
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  REQUIRE(rig.publish());
  rig.crash();
  refused(rig.publish("/pods/b", AccessMode::single_node_single_writer, "db-9"), ErrorCode::failed_precondition, "/db-0 (uid uid-db-0)");
  refused(rig.unstage(), ErrorCode::failed_precondition, "still published");
  refused(rig.remove(), ErrorCode::failed_precondition, "published");
  CHECK(rig.publish());
  REQUIRE(rig.unpublish());
  CHECK(rig.publish("/pods/b", AccessMode::single_node_single_writer, "db-9"));
}

TEST_CASE("a damaged record: listed, unwell, refused, and still taken down") {
  Rig rig;
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  REQUIRE(rig.publish());
  ordinald::testing::write_file(rig.record_file(), "{\"schema\": 1, ");
  rig.crash();
  CHECK(rig.reasons() == "RecordDamaged");
  CHECK(rig.manager->list_volumes({}, {}).value().entries.size() == 1);
  CHECK(rig.manager->list_volume_health({}, {}).value().entries.size() == 1);
  refused(rig.stage(), ErrorCode::failed_precondition, rig.record_file() + ".damaged");
  refused(rig.publish("/pods/b"), ErrorCode::failed_precondition, "damaged");
  refused(rig.remove(), ErrorCode::failed_precondition, "damaged");
  const std::string damaged = rig.id;
  const auto same_name = rig.create();
  REQUIRE_FALSE(same_name);
  CHECK_THAT(same_name.error().message, Catch::Contains(damaged));
  rig.id = damaged;
  CHECK(rig.unpublish());
  CHECK(rig.unstage());
  CHECK(rig.node.with([](FakeState& state) { return state.loops.empty() && state.mounts.empty() && state.images.size() == 1; }));
}

TEST_CASE("a create whose name a delete that was interrupted still has finishes the delete, and makes a new volume") {
  Rig rig;
  REQUIRE(rig.create());
  const std::string old = rig.id;
  rig.die_at("remove_image");
  CHECK_THROWS_AS(rig.remove(), Crash);
  rig.crash();
  REQUIRE(rig.create());
  CHECK(rig.id != old);
  CHECK(rig.node.with([](FakeState& state) { return state.images.size(); }) == 1);
  CHECK(rig.manager->list_volumes({}, {}).value().entries.size() == 1);
}

TEST_CASE("a delete that was interrupted is finished by itself") {
  Rig rig;
  REQUIRE(rig.create());
  rig.die_at("remove_image");
  CHECK_THROWS_AS(rig.remove(), Crash);
  rig.crash();
  refused(rig.stage(), ErrorCode::failed_precondition, "being deleted");
  rig.manager->repair();
  CHECK(rig.manager->list_volumes({}, {}).value().entries.empty());
  CHECK(rig.node.with([](FakeState& state) { return state.images.empty(); }));
}

TEST_CASE("a mount flag that names another device is refused, and its value stays unsaid") {
  Rig rig;
  REQUIRE(rig.create());
  for (const std::string flag :
       {"device=/dev/sdx", "journal_path=/dev/sdx", "logdev=/dev/sdx", "rtdev=/dev/sdx", "noatime,source=/dev/sdx"}) {
    CAPTURE(flag);
    csi::Capability capability = rig.capability();
    capability.mount_flags = {flag};
    const auto staged = rig.manager->stage({}, {.volume_id = rig.id, .staging_path = "/stage", .capability = capability});
    refused(staged, ErrorCode::failed_precondition, "names another device");
    CHECK_THAT(staged.error().message, !Catch::Contains("/dev/sdx"));
  }
  CHECK(rig.node.passed("attach") == 0);
}

TEST_CASE("a pool is one agent's: also where it did not answer when the agents started") {
  FakeRig first;
  REQUIRE(first.create());
  const TempDir temp{"second"};
  std::filesystem::create_directory(temp.path() / "run");
  Config config;
  config.node_id = "n1";
  config.state_dir = temp.path() / "state";
  config.run_dir = temp.path() / "run";
  config.pools = {PoolConfig{.name = "a", .directory = "/other"}, PoolConfig{.name = "b", .directory = "/pool"}};
  first.node.with([](FakeState& state) { state.add_pool("/other", 100 * gib); });
  const auto open = [&] { return VolumeManager::open(config, first.node, first.log, {.boot_id = first.boot, .grows_mounted_ext4 = true}); };
  const auto refusal = open();
  REQUIRE_FALSE(refusal);
  CHECK(refusal.error().code == ErrorCode::failed_precondition);
  CHECK_THAT(refusal.error().message, Catch::Contains("pools[1].directory: pool b: /pool is another agent's"));

  // Missing at the start: whoever needs it first finds out.
  first.node.with([](FakeState& state) {
    std::swap(state.pools["/away"], state.pools["/pool"]);
    state.pools.erase("/pool");
  });
  auto second = open();
  REQUIRE(second);
  first.node.with([](FakeState& state) {
    std::swap(state.pools["/pool"], state.pools["/away"]);
    state.pools.erase("/away");
  });
  const auto made = second.value()->create_volume(
      {},
      {.name = "x", .capacity = {.required = gib}, .capabilities = {first.capability()}, .parameters = {{"pool", "b"}}, .requisite = {}});
  REQUIRE_FALSE(made);
  CHECK_THAT(made.error().message, Catch::Contains("another agent's"));
  second.value()->repair();
  CHECK(first.node.with([](FakeState& state) { return state.images.size(); }) == 1);
  first.manager.reset();
  second.value()->repair();
  REQUIRE(second.value()->create_volume(
      {},
      {.name = "x", .capacity = {.required = gib}, .capabilities = {first.capability()}, .parameters = {{"pool", "b"}}, .requisite = {}}));
}

TEST_CASE("a pool that can't promise more refuses, and a create that fails leaves nothing") {
  Rig rig;
  // 100 GiB less a tenth.
  REQUIRE(rig.create("a", 60 * gib));
  const auto refused_one = rig.create("b", 31 * gib);
  REQUIRE_FALSE(refused_one);
  CHECK(refused_one.error().code == ErrorCode::resource_exhausted);
  CHECK(rig.manager->get_capacity({}, {}).value().available == 30 * gib);
  CHECK(rig.create("b", 30 * gib));
  CHECK(rig.manager->get_capacity({}, {}).value().available == 0);
  CHECK(rig.manager->list_volumes({}, {}).value().entries.size() == 2);
}

TEST_CASE("a pool without inodes takes no volume, and what it has grows") {
  Rig rig;
  REQUIRE(rig.create("a", gib));
  const auto leave = [&](std::uint64_t free) {
    rig.node.with([&](FakeState& state) {
      FakeStore& store = state.stores.at(state.pools.at("/pool").device);
      store.inodes = 1000;
      store.inodes_free = free;
    });
  };
  leave(0);
  const auto refused_one = rig.create("b", gib);
  REQUIRE_FALSE(refused_one);
  CHECK(refused_one.error().code == ErrorCode::resource_exhausted);
  CHECK_THAT(refused_one.error().message, Catch::Contains("/pool has none of its 1000 inodes left"));
  CHECK(rig.manager->list_volumes({}, {}).value().entries.size() == 1);
  CHECK(rig.manager->get_capacity({}, {}).value().available == 0);
  CHECK(rig.manager->expand_volume({}, rig.id, {.required = 2 * gib}, {}));
  auto health = rig.manager->storage_health({});
  REQUIRE((health && health.value().size() == 1));
  CHECK(health.value().front().reason == "InodesNearlyFull");
  CHECK(health.value().front().status == csi::StorageStatus::degraded);
  CHECK_THAT(health.value().front().message, Catch::Contains("0 inodes left of 1000"));
  leave(101);
  health = rig.manager->storage_health({});
  CHECK((health && health.value().empty()));
  CHECK(rig.create("b", gib));
  rig.node.with([&](FakeState& state) { state.stores.at(state.pools.at("/pool").device).used_by_others = 95 * gib; });
  leave(100);
  health = rig.manager->storage_health({});
  REQUIRE((health && health.value().size() == 1));  // both are said in one
  CHECK(health.value().front().reason == "NearlyFull");
  CHECK_THAT(health.value().front().message, Catch::Contains("100 inodes left of 1000"));
}

TEST_CASE("pools on subvolumes of one btrfs share one promise") {
  FakeRig rig;
  rig.manager.reset();
  rig.node.with([](FakeState& state) { state.add_pool_on_subvolume("/one", state.pools.at("/pool").device); });
  const TempDir temp{"subvolumes"};
  std::filesystem::create_directory(temp.path() / "run");
  Config config;
  config.node_id = "n1";
  config.state_dir = temp.path() / "state";
  config.run_dir = temp.path() / "run";
  config.pools = {PoolConfig{.name = "a", .directory = "/pool", .is_default = true}, PoolConfig{.name = "b", .directory = "/one"}};
  auto opened = VolumeManager::open(config, rig.node, rig.log, {.boot_id = rig.boot, .grows_mounted_ext4 = true});
  REQUIRE(opened);
  const auto create = [&](const std::string& name, const std::string& pool, std::int64_t size) {
    return opened.value()->create_volume({}, {.name = name,
                                              .capacity = {.required = size},
                                              .capabilities = {rig.capability()},
                                              .parameters = {{"pool", pool}},
                                              .requisite = {}});
  };
  REQUIRE(create("x", "a", 60 * gib));
  const auto refused_one = create("y", "b", 31 * gib);
  REQUIRE_FALSE(refused_one);
  CHECK(refused_one.error().code == ErrorCode::resource_exhausted);
  REQUIRE(create("y", "b", 30 * gib));
  CHECK_FALSE(create("z", "a", gib));
}

TEST_CASE("pages survive changes between them, and a strange token is refused") {
  Rig rig;
  std::vector<std::string> ids;
  for (const char* name : {"a", "b", "c", "d"}) {
    REQUIRE(rig.create(name));
    ids.push_back(rig.id);
  }
  const auto first = rig.manager->list_volumes({}, {.max_entries = 2, .starting_token = {}});
  REQUIRE(first);
  REQUIRE(first.value().entries.size() == 2);
  REQUIRE_FALSE(first.value().next.empty());
  rig.id = ids[1];
  REQUIRE(rig.remove());
  rig.crash();
  const auto second = rig.manager->list_volumes({}, {.max_entries = 2, .starting_token = first.value().next});
  REQUIRE(second);
  REQUIRE(second.value().entries.size() == 2);
  CHECK(second.value().entries[0].id == ids[2]);
  CHECK(second.value().next.empty());
  for (const std::string token : {"x", "a.b", "."}) {
    const auto strange = rig.manager->list_volumes({}, {.max_entries = 2, .starting_token = token});
    REQUIRE_FALSE(strange);
    CHECK(strange.error().code == ErrorCode::aborted);
  }
}

TEST_CASE("a page's token has at most 128 bytes, however long the names are, and leads on") {
  Rig rig;
  const std::string longest(128, 'n');
  REQUIRE(rig.create(longest + "a"));
  REQUIRE(rig.create(longest + "b"));
  const auto first = rig.manager->list_volumes({}, {.max_entries = 1, .starting_token = {}});
  REQUIRE(first);
  CHECK(first.value().next.size() <= 128);
  const auto second = rig.manager->list_volumes({}, {.max_entries = 1, .starting_token = first.value().next});
  REQUIRE(second);
  CHECK(second.value().entries.size() == 1);
  CHECK(second.value().next.empty());
}

TEST_CASE("a read-only flag that a dead owner left on the loop's number is taken away") {
  Rig rig;
  REQUIRE(rig.create());
  // The agent died between attaching and that.
  rig.node.with([&](FakeState& state) {
    state.loops[3] = {.image = state.images.front(),
                      .diskseq = state.next_diskseq++,
                      .size = gib,
                      .block_size = 4096,
                      .read_only = true,
                      .by_agent = true,
                      .filesystem = {}};
  });
  CHECK(rig.stage());
  rig.node.with([](FakeState& state) { CHECK_FALSE(state.loops.at(3).read_only); });
}

TEST_CASE("a hung volume says so in its health, and others are served") {
  Rig rig;
  REQUIRE(rig.create("a"));
  const std::string hung = rig.id;
  REQUIRE(rig.create("b"));
  rig.node.with([&](FakeState& state) { state.hung[hung] = "mount hangs since 21:03:04"; });
  CHECK(rig.stage());
  rig.id = hung;
  CHECK(rig.reasons() == "DeviceHung");
  refused(rig.stage(AccessMode::single_node_single_writer, "/other"), ErrorCode::unavailable, "hangs since 21:03:04");
}

TEST_CASE("a volume whose device the ledger knows is served without a look through the node's loops") {
  Rig rig;
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  const auto looks = [&] { return rig.node.passed("attach") + rig.node.passed("find_attached"); };
  const auto before = looks();
  const auto serve = [&] {
    CHECK(rig.stage());
    CHECK(rig.publish());
    CHECK(rig.manager->stats({}, {.volume_id = rig.id, .volume_path = "/pods/a"}));
    CHECK(rig.manager->node_expand({}, {.volume_id = rig.id, .volume_path = "/pods/a", .capacity = {.required = 2 * gib}}));
    CHECK(rig.reasons().empty());
    CHECK(rig.unpublish());
  };
  serve();
  rig.crash();
  serve();
  CHECK(looks() == before);
  SECTION("and taken down so") {
    CHECK(rig.unstage());
    CHECK(looks() == before);
    CHECK(rig.node.with([](FakeState& state) { return state.loops.empty(); }));
  }
  SECTION("but one that is not its image's any more is looked for") {
    rig.node.with([](FakeState& state) {
      state.mounts.clear();
      state.loops.clear();
    });
    CHECK(rig.stage());
    CHECK(looks() == before + 1);
  }
}

TEST_CASE("a raw block device whose growth was cut off before it saw its new size gets it when the call is repeated") {
  FakeRig rig;
  rig.block = true;
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  REQUIRE(rig.publish());
  const auto expand = [&] { return rig.manager->expand_volume({}, rig.id, {.required = 2 * gib}, {}); };
  SECTION("by the agent's end") {
    rig.die_at("refresh_device_size");
    CHECK_THROWS_AS(expand(), Crash);
    rig.crash();
  }
  SECTION("by a device that does not answer for a while") {
    rig.node.set_hook([](const FakePoint& at) -> mount::Result<void> {
      if (at.name == "refresh_device_size") {
        return mount::make_error(ErrorCode::unavailable, "it hangs");
      }
      return mount::success();
    });
    CHECK_FALSE(expand());
    rig.node.set_hook({});
  }
  REQUIRE(expand());
  CHECK(rig.node.with([](FakeState& state) { return state.loops.begin()->second.size; }) == 2 * gib);
}
