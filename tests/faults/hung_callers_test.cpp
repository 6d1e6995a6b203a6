// Devices that don't answer, and those who call: who gives up and calls again, who comes first, who is cut off.
#include <chrono>
#include <future>
#include <memory>
#include <thread>

#include "tests/faults/measure.hpp"
#include "tests/faults/sick_directory.hpp"
#include "tests/support/raw_connection.hpp"
#include "tests/support/rig.hpp"

namespace ordinald::testing {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

const auto ext4 = mount_capability(single_node_single_writer, "ext4");

}  // namespace

TEST_CASE("hung: callers that give up and call again eat no threads", "[devices][hung][root]") {
  constexpr int threads = 16;
  constexpr int volumes = 4;
  Rig rig(Settings{{"deviceTimeoutSeconds", 6}, {"maxThreads", threads}, {"drainSeconds", 2}}, false);
  SickDirectory disk(rig.pool());
  rig.agent().start();
  std::vector<std::string> ids;
  for (int i = 0; i < volumes; ++i) ids.push_back(rig.create("v" + std::to_string(i), ext4, 16 * mebi));
  const std::string good = rig.create("good", ext4, 16 * mebi);
  std::snprintf(disk.control().only, sizeof disk.control().only, "/v");
  disk.hold(sick_look);
  const auto begin = std::chrono::steady_clock::now();
  std::vector<std::future<Outcome>> first;
  for (int i = 0; i < volumes; ++i)
    first.push_back(std::async(std::launch::async, [&, i] {
      const auto& id = ids[static_cast<std::size_t>(i)];
      return outcome(rig.call(rig.stage_request(id, ext4, rig.root() / "stage" / id), milliseconds(500)));
    }));
  for (auto& call : first) CHECK(call.get().code == DEADLINE_EXCEEDED);
  // Its caller is gone, the call is not: it has the volume until its device's time is over. Those that come again, without a deadline,
  // and hang up after a moment, keep a thread for a second at most; and of those that stay only so many wait.
  count_fault("devices");
  std::vector<std::unique_ptr<RawConnection>> hung_up;
  for (int round = 0; round < 8; ++round)
    for (const std::string& id : ids) {
      const auto request = rig.stage_request(id, ext4, rig.root() / "stage" / id).SerializeAsString();
      hung_up.push_back(std::make_unique<RawConnection>(rig.agent().socket()));
      hung_up.back()->send(http2_greeting() + http2_call(1, "/csi.v1.Node/NodeStageVolume", request));
    }
  const auto serve = [&] {
    const auto until = std::chrono::steady_clock::now() + seconds(5);
    while (!rig.call(v1::ProbeRequest(), seconds(10)).ok() && std::chrono::steady_clock::now() < until) {  // not in the middle of the flood
    }
    CHECK(rig.stage(good, ext4, rig.staging("good")) == OK);
    CHECK(rig.unstage(good, rig.staging("good")) == OK);
  };
  serve();
  // Too many wait: one more is told at once.
  Outcome told;
  do told = outcome(rig.call(rig.stage_request(ids[0], ext4, rig.root() / "stage"), milliseconds(400)));
  while (told.message.find("calls wait like this one") == std::string::npos && std::chrono::steady_clock::now() < begin + seconds(4));
  CHECK(told == ABORTED);
  CHECK_THAT(told.message, Catch::Contains("NodeStageVolume has been running since") && Catch::Contains("8 calls wait like this one"));
  hung_up.clear();
  // Once they have hung up there is room to wait in: the next one waits, until the device's time is over.
  do told = outcome(rig.call(rig.stage_request(ids[0], ext4, rig.root() / "stage"), seconds(60)));
  while (told.code == ABORTED && std::chrono::steady_clock::now() < begin + seconds(5));
  CHECK(told == UNAVAILABLE);
  for (const std::string& id : ids) {
    const double again = timed_ms([&] { told = outcome(rig.call(rig.stage_request(id, ext4, rig.root() / "stage" / id), seconds(60))); });
    CHECK(told == UNAVAILABLE);
    CHECK_THAT(told.message, Catch::Contains("hangs since"));
    CHECK(again < 1000);
  }
  serve();
  disk.heal();
  const auto until = std::chrono::steady_clock::now() + seconds(10);
  for (const std::string& id : ids) {
    do told = rig.remove(id);
    while (told.code == UNAVAILABLE && std::chrono::steady_clock::now() < until);
    CHECK(told == OK);
  }
  CHECK(loops_beneath(rig.pool()).empty());
}

TEST_CASE("hung: a pool that hangs when the agent starts keeps only its own calls waiting", "[devices][hung][root]") {
  const TempDir pools("pools");
  const auto pool = [&](const char* name, bool is_default) {
    return nlohmann::json{{"name", name}, {"directory", (pools.path() / name).string()}, {"default", is_default}, {"reservePercent", 0}};
  };
  fs::create_directory(pools.path() / "good");
  Rig rig(Settings{{"deviceTimeoutSeconds", 3}, {"drainSeconds", 2}, {"pools", {pool("good", true), pool("fuse", false)}}}, false);
  SickDirectory disk(pools.path() / "fuse");
  rig.agent().start();
  const std::string good = rig.create("good", ext4, 16 * mebi);
  const std::string sick = rig.create("sick", ext4, 16 * mebi, {{"pool", "fuse"}});
  rig.agent().kill();
  disk.freeze();
  rig.agent().start();
  count_fault("devices");
  const auto create = [&](const std::string& name, const StringMap& parameters) {
    return outcome(rig.call(rig.create_request(name, ext4, 16 * mebi, parameters), seconds(60)));
  };
  double first_ms = 0;
  std::vector<std::future<Outcome>> first;
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < 4; ++i)
    first.push_back(std::async(std::launch::async, [&, i] { return create("first" + std::to_string(i), {{"pool", "fuse"}}); }));
  const double others_ms = timed_ms([&] {
    CHECK(create("meanwhile", {}) == OK);
    CHECK(rig.stage(good, ext4, rig.staging("good")) == OK);
    CHECK(rig.publish(good, ext4, rig.staging("good"), rig.target("good")) == OK);
    CHECK(rig.unpublish(good, rig.target("good")) == OK);
    CHECK(rig.unstage(good, rig.staging("good")) == OK);
  });
  CHECK(others_ms < 1500);
  for (auto& call : first) {
    const Outcome told = call.get();
    CHECK(told == UNAVAILABLE);
    CHECK_THAT(told.message, Catch::Contains("pool fuse") && Catch::Contains("hangs"));
  }
  first_ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
  CHECK(first_ms < 3000 + 2000);
  const double again_ms = timed_ms([&] { CHECK(create("again", {{"pool", "fuse"}}) == UNAVAILABLE); });
  CHECK(again_ms < 1000);
  print_figure("a pool that hangs at the start: its first creates are told after " + two_digits(first_ms) +
               " ms of a deadline of 3000, the next after " + two_digits(again_ms) + " ms; five calls of another pool took " +
               two_digits(others_ms) + " ms meanwhile");
  disk.thaw();
  const auto until = std::chrono::steady_clock::now() + seconds(10);
  Outcome told;
  do told = rig.remove(sick);
  while (told.code == UNAVAILABLE && std::chrono::steady_clock::now() < until);
  CHECK(told == OK);
  do told = create("again", {{"pool", "fuse"}});
  while (told.code == UNAVAILABLE && std::chrono::steady_clock::now() < until);
  CHECK(told == OK);
}

TEST_CASE("hung: the log names each call that the drain's end cuts off, also those that wait", "[devices][hung][root]") {
  Rig rig(Settings{{"deviceTimeoutSeconds", 30}, {"drainSeconds", 1}, {"logLevel", "debug"}}, false);
  SickDirectory disk(rig.pool());
  rig.agent().start();
  const std::string id = rig.create("v", ext4, 16 * mebi);
  disk.hold(sick_look);
  const auto wait_for = [&](const std::string& request) {
    const auto patience = std::chrono::steady_clock::now() + seconds(10);
    while (rig.agent().log().find(request) == std::string::npos && std::chrono::steady_clock::now() < patience) std::this_thread::yield();
  };
  auto stage = std::async(std::launch::async, [&] { return rig.stage(id, ext4, rig.staging("v")); });
  wait_for("NodeStageVolume request");
  auto create = std::async(std::launch::async, [&] { return outcome(rig.call(rig.create_request("w", ext4, 16 * mebi))); });
  wait_for("CreateVolume request {name=\"w\"");
  count_fault("devices");
  CHECK(rig.agent().stop(seconds(10)).status == 0);
  CHECK(stage.get().code == UNAVAILABLE);
  CHECK(create.get().code == UNAVAILABLE);
  CHECK_THAT(rig.agent().log(), Catch::Contains("NodeStageVolume volume=\"" + id + "\" for ") &&
                                    Catch::Contains("CreateVolume volume=\"w\" for ") && Catch::Contains("still runs"));
  disk.heal();
  rig.agent().start();
  Outcome told;
  const auto until = std::chrono::steady_clock::now() + seconds(10);
  do told = rig.remove(id);
  while (told.code == UNAVAILABLE && std::chrono::steady_clock::now() < until);
  CHECK(told == OK);
}

}  // namespace ordinald::testing
