// A hand-over with the agent killed at each of its acts: never two writers, and it comes to its end.
#include <sys/mount.h>
#include <unistd.h>

#include <functional>

#include "tests/stateful/orchestrator.hpp"

#ifdef ORDINALD_CRASH_POINTS

#include "tests/support/deadly_agent.hpp"

namespace ordinald::testing {
namespace {

/// An agent that can be killed at an act, and a volume that goes from pod to pod.
class CrashWorld {
 public:
  CrashWorld() {
    agent.start();
    volume = orchestrator.provision("data-db-0");
    REQUIRE(orchestrator.stage(volume) == OK);
    next();
  }

  /// Another round: who was the new one is the old one, and has it.
  void next() {
    running.reset();
    if (!new_one.uid.empty()) REQUIRE(orchestrator.unpublish(volume, new_one) == OK);
    old_one = new_pod("db-0");
    new_one = new_pod("db-0");
    REQUIRE(orchestrator.stage(volume) == OK);
    REQUIRE(orchestrator.publish(volume, old_one) == OK);
    data_ = "of " + old_one.uid;
    REQUIRE(try_write(orchestrator.target(volume, old_one) / "data", data_) == 0);
    running = orchestrator.run(volume, old_one);
  }

  /// Whether the host, or the old pod's process, lets it be written by more than one.
  void one_writer() const {
    const auto targets = orchestrator.targets_of(volume);
    CHECK(targets.size() <= 1);
    if (running) CHECK(std::ranges::find(targets, orchestrator.target(volume, new_one).string()) == targets.end());
  }
  void at_its_end() {
    CHECK(orchestrator.publish(volume, new_pod("db-0")) == FAILED_PRECONDITION);
    REQUIRE(orchestrator.targets_of(volume) == std::vector<std::string>{orchestrator.target(volume, new_one)});
    CHECK(read_file(orchestrator.target(volume, new_one) / "data") == data_);
    CHECK(mounts_beneath(rig.root()).size() == 2);
    CHECK_FALSE(fs::exists(orchestrator.target(volume, old_one)));
  }

  Rig rig{Settings{{"repairIntervalSeconds", 0}}, false};
  DeadlyAgent agent{rig};
  Orchestrator orchestrator{rig};
  ClaimedVolume volume;
  PodId old_one;
  PodId new_one;
  std::unique_ptr<Workload> running;

 private:
  std::string data_;
};

/// What happens in a hand-over, in its order. Each may be repeated.
struct Event {
  const char* name;
  std::function<Outcome(CrashWorld&)> act;
  grpc::StatusCode answer;
  bool deadly = true;  ///< the agent is killed at its acts; false: it has none, or tests/crash has them
};

Outcome publish_new(CrashWorld& world) { return world.orchestrator.publish(world.volume, world.new_one); }
Outcome unpublish_old(CrashWorld& world) { return world.orchestrator.unpublish(world.volume, world.old_one); }
Outcome kill_old(CrashWorld& world) {
  world.running.reset();
  return {.code = OK, .message = {}};
}
Outcome lose_target(CrashWorld& world) {
  const fs::path target = world.orchestrator.target(world.volume, world.old_one);
  ::umount2(target.c_str(), MNT_DETACH);
  ::rmdir(target.c_str());
  return {.code = OK, .message = {}};
}
Outcome unstage(CrashWorld& world) { return world.orchestrator.unstage(world.volume); }
Outcome stage(CrashWorld& world) { return world.orchestrator.stage(world.volume); }

/// Each event in turn is the one at whose acts the agent dies; the others are as they should be.
int sweep(const std::vector<Event>& events) {
  CrashWorld world;
  int deaths = 0;
  for (std::size_t deadly = 0; deadly < events.size(); ++deadly) {
    if (!events[deadly].deadly) continue;
    for (std::uint32_t act = 1;; ++act) {
      std::optional<std::string> died_at;
      for (std::size_t i = 0; i < events.size(); ++i) {
        const Event& event = events[i];
        if (i == deadly) {
          died_at = world.agent.killed_at(act, [&] { (void)event.act(world); });
          world.one_writer();
        }
        INFO(event.name << ", with the agent killed in " << events[deadly].name << " at " << died_at.value_or("no act"));
        REQUIRE(event.act(world) == event.answer);
        world.one_writer();
      }
      INFO("killed in " << events[deadly].name << " at " << died_at.value_or("no act"));
      world.at_its_end();
      world.next();
      if (!died_at) break;
      ++deaths;
    }
  }
  return deaths;
}

}  // namespace

TEST_CASE("a hand-over with the agent killed at each act", "[stateful][crash][root]") {
  int deaths = 0;
  deaths += sweep({{"publish the new before the old has gone", publish_new, FAILED_PRECONDITION},
                   {"end the old", kill_old, OK, false},
                   {"publish the new before the old is unpublished", publish_new, FAILED_PRECONDITION},
                   {"unpublish the old", unpublish_old, OK},
                   {"publish the new", publish_new, OK},
                   {"unpublish the old, late", unpublish_old, OK}});
  deaths += sweep({{"unpublish the old, deleted by force", unpublish_old, OK},
                   {"publish the new while the old still runs", publish_new, FAILED_PRECONDITION},
                   {"end the old", kill_old, OK, false},
                   {"publish the new", publish_new, OK}});
  deaths += sweep({{"take the old target away", lose_target, OK, false},
                   {"publish the new while the old still runs", publish_new, FAILED_PRECONDITION},
                   {"end the old", kill_old, OK, false},
                   {"publish the new", publish_new, OK}});
  deaths += sweep({{"end the old", kill_old, OK, false},
                   {"unpublish the old", unpublish_old, OK},
                   {"unstage", unstage, OK},
                   {"stage", stage, OK, false},
                   {"publish the new", publish_new, OK}});
  CHECK(deaths > 20);
  std::printf("COUNT: deaths in hand-overs: %d\n", deaths);
}

}  // namespace ordinald::testing

#endif
