/// Tools that died on an unmounted ext4: what is taken back, and what never is, on the fake kernel. The real tools:
/// tests/faults/tools_test.

#include <catch2/catch.hpp>
#include <filesystem>

#include "tests/agent/fake_rig.hpp"

using namespace ordinald;
using namespace ordinald::testing;  // the fake agent, and all of agent/

namespace {

/// A used ext4, unstaged, that is to grow while unmounted.
class UndoRig : public FakeRig {
 public:
  UndoRig() {
    grows_mounted_ext4 = false;
    start();
    REQUIRE(create());
    REQUIRE(stage());
    REQUIRE(unstage());
    REQUIRE(manager->expand_volume({}, id, {.required = 2 * gib}, std::nullopt));
  }

  /// What a tool that died has left: an undo file that belongs to the filesystem as it is now.
  void leave(const std::string& kind, const std::string& of_boot = "boot") {
    std::string header(1024, '\0');
    header.replace(0, 8, "E2UNDO02");
    header[16] = 1;  // the superblock is in its block 1
    header[33] = 4;  // of 1024 bytes
    std::string super(1024, '\0');
    super[0x38] = static_cast<char>(0xAC);
    super[0x39] = static_cast<char>(0x10);
    std::string uuid = content().uuid;
    std::erase(uuid, '-');
    for (std::size_t i = 0; i < 16; ++i) {
      super[0x68 + i] = static_cast<char>(std::stoi(uuid.substr(2 * i, 2), nullptr, 16));
    }
    super[0x2C] = static_cast<char>(content().mounts);
    std::filesystem::create_directories(directory());
    write_file(directory() + "/" + id + "." + of_boot + "." + kind + ".e2undo", header + super);
  }
  /// What e2undo ends with.
  void undoing_ends_with(int status) {
    node.with([&](FakeState& state) { state.tool_results["e2undo"] = {.exit_status = status}; });
  }
  /// How many tools a stage runs.
  std::uint64_t tools_of(const std::function<Result<void>()>& call) {
    const auto before = node.passed("run_tool");
    REQUIRE(call());
    return node.passed("run_tool") - before;
  }
  bool has_undo() const { return std::filesystem::exists(directory()) && !std::filesystem::is_empty(directory()); }
  std::string directory() const { return state_dir() + "/undo"; }
};

constexpr std::uint64_t check = 1;
constexpr std::uint64_t growth = 1;
constexpr std::uint64_t looked_through = 1;
constexpr std::uint64_t taken_back = looked_through + 1;

}  // namespace

TEST_CASE("a growth of an unmounted ext4 that was interrupted is taken back before anything else, and made again") {
  UndoRig rig;
  const int status = GENERATE(0, 1);
  rig.undoing_ends_with(status);
  rig.leave("growth");
  CHECK(rig.tools_of([&] { return rig.stage(); }) == (status == 0 ? taken_back : looked_through) + check + growth);
  CHECK_FALSE(rig.has_undo());
  CHECK(rig.content().size == 2 * gib);
}

TEST_CASE("a growth that had ended is not taken back") {
  UndoRig rig;
  REQUIRE(rig.stage());
  REQUIRE(rig.unstage());
  rig.leave("growth");  // the agent died before it forgot the file
  CHECK(rig.tools_of([&] { return rig.stage(); }) == check);
  CHECK_FALSE(rig.has_undo());
}

TEST_CASE("nothing is taken back of what somebody has written to since") {
  UndoRig rig;
  rig.undoing_ends_with(0);
  rig.leave("growth");
  SECTION("mounted by a person") { ++rig.content().mounts; }
  SECTION("another filesystem") {
    rig.node.with([&](FakeState& state) {
      char& digit = state.volume(rig.id).content.uuid[0];
      digit = digit == 'f' ? 'e' : 'f';
    });
  }
  const auto before = rig.node.passed("run_tool");
  const auto staged = rig.stage();  // which refuses the other filesystem
  CHECK(rig.node.passed("run_tool") == before + (staged ? check + growth : 0));
  CHECK_FALSE(rig.has_undo());
}

TEST_CASE("a check that was interrupted is taken back only where it has left half a superblock") {
  UndoRig rig;
  REQUIRE(rig.stage());
  REQUIRE(rig.unstage());
  rig.undoing_ends_with(0);
  rig.leave("check");
  rig.content().torn = GENERATE(false, true);
  CHECK(rig.tools_of([&] { return rig.stage(); }) == (rig.content().torn ? taken_back : 0) + check);
  CHECK_FALSE(rig.has_undo());
}

TEST_CASE("after a reboot an undo file is believed only where the superblock is just the one that it has") {
  UndoRig rig;
  rig.undoing_ends_with(0);
  SECTION("a growth's: e2undo compares by itself") {
    rig.leave("growth", "before");
    CHECK(rig.tools_of([&] { return rig.stage(); }) == 1 + check + growth);
  }
  SECTION("a check's: not at all") {
    rig.content().torn = true;
    rig.leave("check", "before");
    CHECK(rig.tools_of([&] { return rig.stage(); }) == check + growth);
  }
  CHECK_FALSE(rig.has_undo());
}

TEST_CASE("a raw block device goes out as it was before a tool died on it, and nothing is put over it afterwards") {
  UndoRig rig;
  rig.undoing_ends_with(0);
  rig.leave("growth");
  rig.block = true;
  CHECK(rig.tools_of([&] { return rig.stage(); }) == taken_back);
  CHECK_FALSE(rig.has_undo());
  CHECK(rig.tools_of([&] { return rig.stage(); }) == 0);
  REQUIRE(rig.unstage());
  rig.block = false;
  CHECK(rig.tools_of([&] { return rig.stage(); }) == check + growth);
}

TEST_CASE("a raw block device that can't be taken back to what it was is not staged") {
  UndoRig rig;
  rig.undoing_ends_with(2);
  rig.leave("growth");
  rig.block = true;
  refused(rig.stage(), ErrorCode::internal, "taking back what was interrupted");
  CHECK(rig.has_undo());
  CHECK(rig.node.with([](FakeState& state) { return state.loops.size(); }) == 0);
  rig.undoing_ends_with(0);
  REQUIRE(rig.stage());
  CHECK_FALSE(rig.has_undo());
}

TEST_CASE("a check whose undo file can't be written is taken back, and made again without one") {
  UndoRig rig;
  const int status = GENERATE(0, 4, 12);
  rig.node.with([&](FakeState& state) { state.undo_is_full = status; });
  CHECK(rig.tools_of([&] { return rig.stage(); }) == check + taken_back + check + growth);
  CHECK_FALSE(rig.has_undo());
  CHECK(rig.content().size == 2 * gib);
}

TEST_CASE("a growth at stage that fails is taken back, and the volume is served") {
  UndoRig rig;
  rig.node.with([](FakeState& state) { state.tool_results["resize2fs"] = {.exit_status = 1, .output = "no luck"}; });
  rig.undoing_ends_with(GENERATE(0, 1));  // 1: it had not begun
  const auto size = rig.content().size;
  CHECK(rig.tools_of([&] { return rig.stage(); }) >= check + growth + looked_through + check);
  CHECK_FALSE(rig.has_undo());
  CHECK(rig.content().size == size);
  REQUIRE(rig.publish());
  CHECK_THAT(rig.logged.str(), Catch::Contains("it is served with the size that it had") && Catch::Contains("no luck"));
  const auto told = [&] {
    const auto health = rig.manager->node_volume_health({}, {.volume_id = rig.id, .publish_path = {}, .staging_path = {}});
    REQUIRE((health && health.value().entries.size() == 1));
    CHECK(health.value().entries.front().reason == "GrowthPending");
    CHECK(health.value().entries.front().status == csi::HealthStatus::degraded);
    return health.value().entries.front().message;
  };
  CHECK_THAT(told(), Catch::Contains("2147483648 bytes") && Catch::Contains("resize2fs ended with status 1") && Catch::Contains("no luck"));
  rig.crash();
  CHECK_THAT(told(), Catch::Contains("no luck"));
  REQUIRE(rig.unpublish());
  REQUIRE(rig.unstage());
  CHECK_THAT(told(), Catch::Contains("no luck"));
  rig.node.with([](FakeState& state) { state.tool_results.erase("resize2fs"); });
  REQUIRE(rig.stage());
  CHECK(rig.content().size == 2 * gib);
  CHECK(rig.reasons().empty());
}

TEST_CASE("a growth that fails and can't be taken back refuses the stage") {
  UndoRig rig;
  rig.node.with([](FakeState& state) { state.tool_results["resize2fs"] = {.exit_status = 1, .output = "no luck"}; });
  int status = 1;
  SECTION("its undo file can't be put back") { status = 2; }
  SECTION("it has marked the superblock, and there is nothing to put back") {}
  SECTION("it is put back, and the check finds damage") { status = 0; }
  rig.undoing_ends_with(status);
  int tools = 0;
  rig.node.set_hook([&](const FakePoint& at) -> Result<void> {
    if (status != 2 && at.name == "run_tool" && ++tools == 3) {  // just after the growth
      rig.node.with([&](FakeState& state) { state.volume(rig.id).content.damaged = true; });
    }
    return mount::success();
  });
  const auto staged = rig.stage();
  refused(staged, ErrorCode::internal, "no luck");
  CHECK_THAT(staged.error().message, Catch::Contains(status == 2   ? "taking back what was interrupted"
                                                     : status == 1 ? "can't be taken back"
                                                                   : "UNEXPECTED INCONSISTENCY"));
  CHECK(rig.node.with([](FakeState& state) { return state.mounts.size() + state.loops.size(); }) == 0);
}

TEST_CASE("what was interrupted is neither taken back nor forgotten while somebody has the device") {
  UndoRig rig;
  rig.undoing_ends_with(0);
  REQUIRE(rig.stage());
  const std::uint64_t name_space = rig.node.with([](FakeState& state) { return state.pin("/stage", 4711, "postgres"); });
  REQUIRE(rig.unstage());
  rig.leave("growth");
  rig.block = GENERATE(false, true);
  refused(rig.stage(), ErrorCode::failed_precondition, "has to be taken back first");
  CHECK(rig.has_undo());
  rig.node.with([&](FakeState& state) { state.unpin(name_space); });
  CHECK(rig.stage());
  CHECK_FALSE(rig.has_undo());
}

TEST_CASE("where it can't be seen whether a tool was interrupted, nothing is handed out or deleted") {
  UndoRig rig;
  std::filesystem::remove_all(rig.directory());
  write_file(rig.directory(), "in the place of a directory");
  rig.block = true;
  refused(rig.stage(), ErrorCode::internal, "looking for interrupted tools");
  CHECK(rig.node.with([](FakeState& state) { return state.loops.empty(); }));
  refused(rig.remove(), ErrorCode::internal, "looking for interrupted tools");
  CHECK(rig.manager->list_volumes({}, {}).value().entries.size() == 1);
  std::filesystem::remove(rig.directory());
  CHECK(rig.remove());
}

TEST_CASE("an undo file of a volume whose id begins alike is left alone") {
  UndoRig rig;
  std::filesystem::create_directories(rig.directory());
  write_file(rig.directory() + "/" + rig.id + ".1.boot.growth.e2undo", "another's");
  REQUIRE(rig.stage());
  CHECK(rig.has_undo());
}
