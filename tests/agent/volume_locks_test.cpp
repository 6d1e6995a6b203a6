// Who waits for a volume, and for how long.
#include "agent/volume_locks.hpp"

#include <atomic>
#include <catch2/catch.hpp>
#include <thread>

using namespace ordinald;
using agent::VolumeLocks;
using mount::ErrorCode;
using std::chrono::seconds;
using Clock = VolumeLocks::Clock;

TEST_CASE("locks: whose caller hung up waits no longer, though its deadline is far away", "[locks]") {
  VolumeLocks locks{8};
  const auto held = locks.acquire("v", "NodeStageVolume", {});
  REQUIRE(held);
  std::atomic<int> asked{0};
  const auto begin = Clock::now();
  const csi::CallContext gone{.deadline = begin + std::chrono::hours{1}, .given_up = [&] { return ++asked >= 2; }};
  const auto refused = locks.acquire("v", "NodeUnstageVolume", gone);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == ErrorCode::aborted);
  CHECK_THAT(refused.error().message, Catch::Contains("hung up") && Catch::Contains("NodeUnstageVolume was not begun"));
  CHECK(asked == 2);
  CHECK(Clock::now() - begin < seconds{30});
}

TEST_CASE("locks: only so many wait; one more is told at once, and who waits gets the volume", "[locks]") {
  VolumeLocks locks{2};
  auto held = std::make_unique<mount::Result<VolumeLocks::Guard>>(locks.acquire("v", "NodeStageVolume", {}));
  REQUIRE(*held);
  std::atomic<int> served{0};
  std::atomic<bool> waits[2] = {false, false};
  const auto wait = [&](std::atomic<bool>& waiting) {
    const auto asked = [&] {  // is only asked while it waits
      waiting = true;
      return false;
    };
    served += locks.acquire("v", "NodePublishVolume", {.deadline = Clock::now() + seconds{60}, .given_up = asked}) ? 1 : 0;
  };
  std::thread first{[&] { wait(waits[0]); }};
  std::thread second{[&] { wait(waits[1]); }};
  const auto begin = Clock::now();
  while (!(waits[0] && waits[1]) && Clock::now() < begin + seconds{20}) {
    std::this_thread::yield();
  }
  const auto third = locks.acquire("v", "NodeUnpublishVolume", {.deadline = Clock::now() + seconds{60}});
  REQUIRE_FALSE(third);
  CHECK(third.error().code == ErrorCode::aborted);
  CHECK_THAT(third.error().message,
             Catch::Contains("NodeStageVolume has been running since") && Catch::Contains("2 calls wait like this one already"));
  CHECK(Clock::now() - begin < seconds{40});
  // Another volume that nobody has is not concerned.
  CHECK(locks.acquire("w", "NodeStageVolume", {.deadline = Clock::now()}));
  held.reset();
  first.join();
  second.join();
  CHECK(served == 2);
}
