/// How volumes come, while other calls are on them.

#include "agent/provisioner.hpp"

#include <catch2/catch.hpp>
#include <thread>

#include "agent/deletion.hpp"
#include "tests/agent/fake_rig.hpp"

using namespace ordinald;
using namespace ordinald::testing;  // the fake agent, and all of agent/

namespace {

/// Of a caller who waits for nobody.
csi::CallContext at_once() { return {.deadline = VolumeLocks::Clock::now()}; }

/// A volume that was adopted, and that no Create has found yet.
std::string adopt(FakeRig& rig) {
  rig.node.with([](FakeState& state) {
    FakeImage& image = state.add_image({.directory = "/pool", .file = "mine.img", .volume_id = {}}, gib);
    image.content = {.kind = FakeContent::Kind::filesystem,
                     .usage = "filesystem",
                     .type = "ext4",
                     .uuid = "11111111-2222-4333-8444-555555555555",
                     .size = gib};
    image.allocated = gib / 2;
  });
  const auto adopted = rig.manager->adopt({}, {.path = "/pool/mine.img", .name = "data-db-0"}, false);
  REQUIRE(adopted);
  return adopted.value().record.id;
}

}  // namespace

TEST_CASE("the first Create of an adopted volume keeps other calls from it") {
  FakeRig rig;
  const std::string id = adopt(rig);
  int met = 0;
  rig.node.set_hook([&](const FakePoint& at) -> mount::Result<void> {
    if (at.name == "relabel_image" || at.name == "inspect_image.done") {
      ++met;
      const auto grown = rig.manager->expand_volume(at_once(), id, {.required = 2 * gib}, {});
      CHECK((!grown && grown.error().code == ErrorCode::aborted));
      refused(rig.manager->delete_volume(at_once(), id), ErrorCode::aborted, "CreateVolume has been running");
    }
    return mount::success();
  });
  REQUIRE(rig.create());
  rig.node.set_hook({});
  CHECK(met >= 2);
  CHECK(rig.manager->expand_volume({}, id, {.required = 2 * gib}, {}));
  REQUIRE(rig.create());
  CHECK(rig.manager->core().records->find(id)->size == 2 * gib);
  CHECK(rig.remove());
  CHECK(rig.node.with([](FakeState& state) { return state.images.empty(); }));
}

TEST_CASE("an adoption promises what the file may grow to once, also before it has ended") {
  FakeRig rig;
  const auto room = [&] { return rig.manager->get_capacity({}, {}).value().available; };
  std::int64_t amid = 0;
  rig.node.set_hook([&](const FakePoint& at) -> mount::Result<void> {
    if (at.name == "relabel_image") {
      amid = room();  // the record is there, and the promise is still held
    }
    return mount::success();
  });
  adopt(rig);
  rig.node.set_hook({});
  CHECK(amid == 89 * gib);
  CHECK(room() == 89 * gib);
}

TEST_CASE("a Create that waited for an adopted volume goes by what it is by then") {
  FakeRig rig;
  const std::string id = adopt(rig);
  auto held = rig.manager->locks().try_acquire(id, "another call");
  REQUIRE(held);
  std::thread other{[&] { CHECK(rig.create()); }};
  const auto waits = [&] {
    return std::ranges::any_of(rig.manager->locks().list(), [](const auto& each) { return each.key == create_key("data-db-0"); });
  };
  while (!waits()) {
    std::this_thread::yield();
  }
  std::size_t size = gib;
  SECTION("grown") {
    VolumeRecord record = *rig.manager->core().records->find(id);
    record.size = size = 2 * gib;
    REQUIRE(rig.manager->core().records->save(record));
  }
  SECTION("deleted") { REQUIRE(delete_volume(rig.manager->core(), id)); }
  held.reset();
  other.join();
  const auto record = rig.manager->core().records->find_by_name("data-db-0");
  REQUIRE(record);
  CHECK(record->size == size);
  CHECK(record->adopted_from.empty() == (rig.id != id));
  CHECK(rig.manager->core().records->all().size() == 1);
}

TEST_CASE("a volume that is being made is its Create's alone, also where an earlier one was cut off") {
  FakeRig rig;
  if (GENERATE(false, true)) {
    rig.die_at("create_image");
    CHECK_THROWS_AS(rig.create(), Crash);
    rig.crash();
  }
  bool met = false;
  rig.node.set_hook([&](const FakePoint& at) -> mount::Result<void> {
    if (at.name == "create_image") {
      met = true;
      refused(rig.manager->delete_volume(at_once(), at.volume_id), ErrorCode::aborted, "CreateVolume has been running");
    }
    return mount::success();
  });
  REQUIRE(rig.create());
  CHECK(met);
}

TEST_CASE("a Create that was cut off goes on in the pool where it began, whatever the default is by then") {
  FakeRig rig;
  rig.node.with([](FakeState& state) { state.add_pool("/pool2", 100 * gib); });
  rig.die_at("create_image");
  CHECK_THROWS_AS(rig.create(), Crash);
  rig.new_default = PoolConfig{.name = "second", .directory = "/pool2", .is_default = true};
  rig.crash();
  REQUIRE(rig.create());
  CHECK(rig.manager->core().records->find(rig.id)->pool == "default");
  CHECK(rig.node.with([](FakeState& state) { return state.images.size() == 1 && state.images.front()->directory == "/pool"; }));
  CHECK(rig.stage());
}

TEST_CASE("mkfsOptions that mkfs may refuse are refused at create and growth") {
  FakeRig rig;
  const auto refused_with = [&](const std::string& fs_type, const std::string& options, const std::string& words) {
    rig.fs_type = fs_type;
    rig.parameters = {{"mkfsOptions", options}};
    const auto made = rig.create();
    REQUIRE_FALSE(made);
    CHECK(made.error().code == ErrorCode::invalid_argument);
    CHECK_THAT(made.error().message, Catch::Contains(words));
  };
  refused_with("ext4", "-i 1023", "-i 1023: bytes per inode can be 1024 to");
  refused_with("ext4", "-J size=600", "1073741824");
  refused_with("btrfs", "-i 4096", "not allowed");
  // A class's options are held against each volume's size, and not against one that nobody asked for.
  rig.fs_type = "ext4";
  CHECK(
      rig.manager->get_capacity({}, {.capabilities = {rig.capability()}, .parameters = {{"mkfsOptions", "-J size=600"}}, .topology = {}}));
  rig.parameters = {{"mkfsOptions", "-J size=600"}};
  rig.block = true;  // which nobody formats
  CHECK(rig.create("raw"));
  rig.block = false;
  rig.fs_type = "xfs";
  rig.parameters = {{"mkfsOptions", "-d agcount=2"}};
  rig.node.with([](FakeState& state) { state.stores.at(state.pools.at("/pool").device).total = 9000 * gib; });
  REQUIRE(rig.create());
  const auto grown = rig.manager->expand_volume({}, rig.id, {.required = 2048 * gib}, {});
  REQUIRE_FALSE(grown);
  CHECK(grown.error().code == ErrorCode::out_of_range);
  CHECK_THAT(grown.error().message, Catch::Contains("not formatted yet") && Catch::Contains("agcount"));
  CHECK(rig.manager->expand_volume({}, rig.id, {.required = 2 * gib}, {}));
  REQUIRE(rig.stage());
  CHECK(rig.manager->expand_volume({}, rig.id, {.required = 2048 * gib}, {}));
}
