/// A pool whose file system is not mounted: a bare directory lies at its path, and is not taken for it.

#include "agent/pool_marks.hpp"

#include <catch2/catch.hpp>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "agent/durable_file.hpp"
#include "tests/agent/fake_rig.hpp"

using namespace ordinald;
using namespace ordinald::testing;  // the fake agent, and all of agent/

namespace {

/// The pool's file system goes from its directory, or comes back.
void change_places(FakeRig& rig) {
  rig.node.with([](FakeState& state) {
    if (!state.pools.contains("/other")) {
      state.add_pool("/other", 10 * gib);
    }
    std::swap(state.pools.at("/pool"), state.pools.at("/other"));
    for (const auto& image : state.images) {
      image->directory = image->directory == "/pool" ? "/other" : "/pool";
    }
  });
}

std::string mark(FakeRig& rig) {
  return rig.node.with([](FakeState& state) { return state.pools.at("/pool").mark; });
}

std::string kept_mark(FakeRig& rig) {
  const auto text = read_file(rig.state_dir() + "/pools.json");
  return text ? nlohmann::json::parse(text.value())["marks"].value("default", "") : std::string{};
}

std::size_t images_in(FakeRig& rig, const std::string& directory) {
  return rig.node.with([&](FakeState& state) {
    return static_cast<std::size_t>(std::ranges::count_if(state.images, [&](const auto& image) { return image->directory == directory; }));
  });
}

/// As one before this left it: the pool bears no mark, and none is known.
void as_an_older_agent(FakeRig& rig) {
  std::filesystem::remove(rig.state_dir() + "/pools.json");
  rig.node.with([](FakeState& state) { state.pools.at("/pool").mark.clear(); });
}

void check_not_there(FakeRig& rig) {
  refused(rig.remove(), ErrorCode::failed_precondition, "Is its file system mounted?");
  CHECK(rig.manager->core().records->find(rig.id) != nullptr);
  const auto made = rig.manager->create_volume(
      {}, {.name = "data-db-9", .capacity = {.required = gib}, .capabilities = {rig.capability()}, .parameters = {}, .requisite = {}});
  REQUIRE_FALSE(made);
  CHECK(made.error().code == ErrorCode::unavailable);
  CHECK_THAT(made.error().message, Catch::Contains("Is its file system mounted?"));
  CHECK_FALSE(rig.manager->expand_volume({}, rig.id, {.required = 2 * gib}, {}));
  refused(rig.stage(), ErrorCode::unavailable, "Is its file system mounted?");
  const auto room = rig.manager->get_capacity({}, {.capabilities = {rig.capability()}, .parameters = {}, .topology = {}});
  CHECK((room && room.value().available == 0));
  rig.manager->repair();
  CHECK(images_in(rig, "/pool") == 0);
  CHECK(mark(rig).empty());
  const auto pools = rig.manager->storage_health({});
  REQUIRE((pools && pools.value().size() == 1));
  CHECK(pools.value().front().reason == "DirectoryMissing");
  CHECK_THAT(pools.value().front().message, Catch::Contains("setfattr -n trusted.ordinald.pool -v "));
  const auto health = rig.manager->controller_volume_health({}, rig.id);
  REQUIRE((health && health.value().entries.size() == 1));
  CHECK(health.value().entries.front().reason == "PoolUnreachable");
}

}  // namespace

TEST_CASE("a pool whose file system is not mounted: nothing is made, removed or recovered in the bare directory") {
  FakeRig rig;
  CHECK(mark(rig).empty());  // nothing is marked before it is used
  REQUIRE(rig.create());
  REQUIRE_FALSE(mark(rig).empty());
  CHECK(kept_mark(rig) == mark(rig));
  change_places(rig);
  rig.reboot();
  check_not_there(rig);
  SECTION("mounted again, while the agent runs or before it starts") {
    change_places(rig);
    if (GENERATE(false, true)) {
      rig.reboot();
    }
    CHECK(rig.reasons() == "");
    CHECK(rig.create("data-db-1"));
    REQUIRE(rig.stage());
    REQUIRE(rig.unstage());
    CHECK(rig.remove());
    CHECK(images_in(rig, "/pool") == 1);
  }
  SECTION("a person says that it begins anew there") {
    rig.node.with([known = kept_mark(rig)](FakeState& state) { state.pools.at("/pool").mark = known; });
    CHECK(rig.reasons() == "BackingFileMissing");
    CHECK(rig.create("data-db-1"));
  }
}

TEST_CASE("a pool whose file system is not mounted takes no file to adopt, and recovers no lost record") {
  FakeRig rig;
  REQUIRE(rig.create());
  change_places(rig);
  rig.reboot();
  rig.node.with([&](FakeState& state) {
    FakeImage& image = state.add_image({.directory = "/pool", .file = "mine.img", .volume_id = {}}, gib);
    image.content = {.kind = FakeContent::Kind::filesystem, .usage = "filesystem", .type = "ext4", .uuid = "u", .size = gib};
    state.add_image({.directory = "/pool", .file = "data-db-1-0123abcd.img", .volume_id = "data-db-1-0123abcd"}, gib);
  });
  const auto adopted = rig.manager->adopt({}, {.path = "/pool/mine.img", .name = "data-db-2"}, false);
  REQUIRE_FALSE(adopted);
  CHECK_THAT(adopted.error().message, Catch::Contains("Is its file system mounted?"));
  rig.manager->repair();
  CHECK(rig.manager->core().records->all().size() == 1);
  CHECK(rig.manager->findings().empty());
}

TEST_CASE("a pool of an agent before the marks gets its own where one of its images is, and is missing where none is") {
  FakeRig rig;
  REQUIRE(rig.create("data-db-1"));
  REQUIRE(rig.create());
  as_an_older_agent(rig);
  SECTION("all are there") {
    rig.reboot();
    rig.manager->repair();
    CHECK_FALSE(mark(rig).empty());
    CHECK(kept_mark(rig) == mark(rig));
  }
  SECTION("one is missing") {
    rig.node.with(
        [&](FakeState& state) { std::erase(state.images, state.image({.directory = "/pool", .file = rig.id + ".img", .volume_id = {}})); });
    rig.reboot();
    CHECK(rig.remove());
    CHECK_FALSE(mark(rig).empty());
  }
  SECTION("none is") {
    change_places(rig);
    rig.reboot();
    check_not_there(rig);
    change_places(rig);
    CHECK(rig.remove());
    CHECK_FALSE(mark(rig).empty());
  }
}

TEST_CASE("a pool that was marked by a create that was cut off, or of which the agent forgot the mark, keeps it") {
  FakeRig rig;
  rig.die_at("mark_pool.done");
  CHECK_THROWS_AS(rig.create(), Crash);
  rig.crash();
  const std::string first = mark(rig);
  CHECK_FALSE(first.empty());
  CHECK(kept_mark(rig).empty());
  REQUIRE(rig.create());
  CHECK(mark(rig) == first);
  CHECK(kept_mark(rig) == first);
  std::filesystem::remove(rig.state_dir() + "/pools.json");
  rig.crash();
  CHECK(rig.remove());
  CHECK(kept_mark(rig) == first);
}

TEST_CASE("a pool that has had no volume yet may still come to its directory") {
  FakeRig rig;
  rig.manager->repair();
  CHECK(mark(rig).empty());
  change_places(rig);
  CHECK(rig.create());
  CHECK(kept_mark(rig) == mark(rig));
}

TEST_CASE("a pool whose mark is none that can be kept is served, and nothing of it is kept") {
  FakeRig rig;
  rig.node.with([](FakeState& state) { state.pools.at("/pool").mark = "\xff\n'"; });
  REQUIRE(rig.create());
  CHECK(kept_mark(rig).empty());
  rig.crash();
  CHECK(rig.remove());
}

TEST_CASE("of a pools.json only marks are believed") {
  using Marks = std::map<std::string, std::string>;
  const Marks marks{{"a", "0f0e0d0c-0b0a-4908-8706-050403020100"}, {"b", "m"}};
  CHECK(parse_pool_marks(to_json(marks)) == marks);
  CHECK(parse_pool_marks(R"json({"marks": {"a": "$(reboot)", "b": "m", "c": 1, "d": "", "e": "x y"}})json") == Marks{{"b", "m"}});
  for (const char* damaged : {"", "{", "[]", R"({"marks": []})", R"({"mark": {"a": "m"}})"}) {
    CHECK(parse_pool_marks(damaged).empty());
  }
}

TEST_CASE("a pool's first create, while another makes and marks it, is no stranger's") {
  FakeRig rig;
  bool once = true;
  rig.node.set_hook([&](const FakePoint& at) -> mount::Result<void> {
    if (at.name == "inspect_pool.done" && std::exchange(once, false)) {
      REQUIRE(rig.create("data-db-1"));
    }
    return mount::success();
  });
  const auto created = rig.create("data-db-0");
  INFO((created ? std::string{} : created.error().message));
  CHECK(created);
  CHECK_FALSE(once);
  CHECK(mark(rig) == kept_mark(rig));
}
