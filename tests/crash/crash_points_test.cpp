/// Every crash point on the fake kernel: each operation on each kind of volume, with the agent dead behind each of its acts, by itself or
/// with the whole node; then the orchestrator repeats the call, or takes it back. It must converge, and nothing that was promised is lost.
#include <catch2/catch.hpp>
#include <functional>

#include "tests/crash/counts.hpp"
#include "tests/crash/fake_world.hpp"
#include "tests/support/temp.hpp"

namespace ordinald::testing {
namespace {

using mount::Result;
using mount::success;

struct Operation {
  const char* name = "";
  Level from = Level::none;
  Level to = Level::none;
  std::function<void(FakeWorld&)> prepare;  ///< to `from`
  std::function<Result<void>(FakeWorld&)> act;
};

enum class Kind : std::uint8_t { process, power_loss };
enum class Then : std::uint8_t { repeat, reverse };

void must(const Result<void>& result) {
  if (!result) {
    throw std::logic_error{result.error().message};
  }
}

void make(FakeWorld& world) { must(world.create()); }

void make_published(FakeWorld& world) {
  must(world.bring(Level::none, Level::published));
  world.write();
}

void make_used(FakeWorld& world) {
  make_published(world);
  must(world.bring(Level::published, Level::created));
}

std::vector<Operation> operations(const VolumeKind& kind) {
  std::vector<Operation> list{
      {.name = "create", .from = Level::none, .to = Level::created, .prepare = [](FakeWorld&) {}, .act = &FakeWorld::create},
      {.name = "stage blank", .from = Level::created, .to = Level::staged, .prepare = make, .act = &FakeWorld::stage},
      {.name = "stage used", .from = Level::created, .to = Level::staged, .prepare = make_used, .act = &FakeWorld::stage},
      {.name = "stage grown",
       .from = Level::created,
       .to = Level::staged,
       .prepare =
           [](FakeWorld& world) {
             make_used(world);
             must(world.grow_volume());
           },
       .act = &FakeWorld::stage},
      {.name = "publish",
       .from = Level::staged,
       .to = Level::published,
       .prepare = [](FakeWorld& world) { must(world.bring(Level::none, Level::staged)); },
       .act = [](FakeWorld& world) { return world.publish(); }},
      {.name = "expand",
       .from = Level::published,
       .to = Level::published,
       .prepare = make_published,
       .act = [](FakeWorld& world) -> Result<void> {
         TRYV(world.grow_volume());
         return world.grow_filesystem();
       }},
      {.name = "expand unused", .from = Level::created, .to = Level::created, .prepare = make_used, .act = &FakeWorld::grow_volume},
      {.name = "release", .from = Level::published, .to = Level::staged, .prepare = make_published, .act = &FakeWorld::release},
      {.name = "unpublish", .from = Level::published, .to = Level::staged, .prepare = make_published, .act = &FakeWorld::unpublish},
      {.name = "unstage",
       .from = Level::staged,
       .to = Level::created,
       .prepare =
           [](FakeWorld& world) {
             make_used(world);
             must(world.stage());
           },
       .act = &FakeWorld::unstage},
      {.name = "delete blank", .from = Level::created, .to = Level::none, .prepare = make, .act = &FakeWorld::remove},
      {.name = "delete used", .from = Level::created, .to = Level::none, .prepare = make_used, .act = &FakeWorld::remove},
  };
  if (!kind.block()) {
    list.push_back({.name = "stage half-made",
                    .from = Level::created,
                    .to = Level::staged,
                    .prepare =
                        [](FakeWorld& world) {
                          make(world);
                          world.die_at("run_tool.half");
                          CHECK_THROWS_AS(world.stage(), Crash);
                          Choices first;
                          world.restart_after_crash(first);
                        },
                    .act = &FakeWorld::stage});
  }
  return list;
}

/// What the orchestrator does after the crash; answers the level that it has reached.
Result<Level> recover(FakeWorld& world, const Operation& operation, bool answered, Kind kind, Then then) {
  // After a boot nothing is staged, and an orchestrator begins from there.
  const Level now = kind == Kind::process ? operation.from : std::min(operation.from, Level::created);
  const Level goal = kind == Kind::process ? operation.to : std::min(operation.to, Level::created);
  const bool down = operation.to < operation.from;
  if (then == Then::repeat) {
    if (!down && now < operation.from) {
      if (const auto early = operation.act(world); early && operation.from == Level::staged) {
        return mount::make_error(mount::ErrorCode::internal, "published before it was staged, after a boot");
      }
      TRYV(world.bring(now, operation.from));
    }
    TRYV(operation.act(world));
    return down ? goal : operation.to;
  }
  if (operation.from == Level::none) {
    TRYV(answered ? world.remove() : world.remove_unknown());
    world.repair();  // of what is not even listed nobody knows, and nobody asks for it again
    return Level::none;
  }
  if (operation.from == operation.to) {
    TRYV(world.bring(operation.from, Level::created));
    return Level::created;
  }
  if (down) {
    TRYV(world.bring(std::min(now, operation.to), operation.from));
    return operation.from;
  }
  TRYV(world.bring(operation.to, operation.from));
  return now;
}

std::size_t count_acts(const VolumeKind& volume, const Operation& operation) {
  const TempDir directory{"crash"};
  FakeWorld world{volume, directory.path()};
  operation.prepare(world);
  world.die_at(0);
  must(operation.act(world));
  return world.acts();
}

/// One way for it to happen.
struct Trial {
  std::size_t act = 0;
  Kind kind = Kind::process;
  Then then = Then::repeat;
  bool repaired_first = false;  ///< a round of repairs comes before the orchestrator
  std::size_t second_act = 0;   ///< the agent dies again, at this act from its start; 0: not
  Kind second = Kind::process;
};

std::string text_of(const VolumeKind& volume, const Operation& operation, const Trial& trial) {
  const auto name = [](Kind kind) { return std::string{kind == Kind::process ? "crash" : "power loss"}; };
  std::string text = volume.fs_type + (volume.thick ? " thick, " : ", ") + operation.name + ", " + name(trial.kind) + " at act " +
                     std::to_string(trial.act) + ", ";
  if (trial.second_act > 0) {
    text += name(trial.second) + " at act " + std::to_string(trial.second_act) + " of the recovery, ";
  }
  return text + (trial.then == Then::repeat ? "repeated" : "reversed") + (trial.repaired_first ? " after a repair" : "");
}

/// Starts the agent again, and has the orchestrator go on.
Result<Level> come_back(FakeWorld& world, const Operation& operation, const Trial& trial, bool answered, Choices& choices) {
  trial.kind == Kind::process ? world.restart_after_crash(choices, trial.second_act) : world.restart_after_power_loss(choices);
  if (operation.to != Level::none || operation.from == Level::none) {
    if (const std::string lost = world.lost(); !lost.empty()) {
      return mount::make_error(mount::ErrorCode::internal, "lost: " + lost);
    }
  }
  if (trial.repaired_first) {
    world.repair();
  }
  auto level = recover(world, operation, answered, trial.kind, trial.then);
  world.repair();  // which leaves alone all that is in order
  return level;
}

/// One crash and its end. Answers what went wrong; `done` when there are no more acts to die at.
std::string crash_once(const VolumeKind& volume, const Operation& operation, const Trial& trial, Choices& choices, bool& done) {
  static const TempDir directory{"crash"};
  FakeWorld world{volume, directory.path()};
  operation.prepare(world);
  world.die_at(trial.act);
  bool answered = false;
  try {
    if (auto result = operation.act(world); !result) {
      return "refused: " + result.error().message;
    }
    answered = true;  // it dies with the answer sent
  } catch (const Crash&) {
  }
  done = answered;
  std::string place = " [died at " + (answered ? std::string{"the answer"} : world.last_act()) + "]";
  Result<Level> level = Level::none;
  try {
    level = come_back(world, operation, trial, answered, choices);
    world.die_at(0);
    done = trial.second_act > 0 || answered;
  } catch (const Crash&) {
    done = false;
    place += " [and at " + world.last_act() + "]";
    level = come_back(world, operation, {.act = 0, .kind = trial.second, .then = trial.then}, answered, choices);
  }
  if (!level) {
    return "the orchestrator is refused: " + level.error().message + place;
  }
  if (const std::string broken = world.broken(level.value()); !broken.empty()) {
    return "when it has recovered: " + broken + place;
  }
  if (auto up = world.bring(level.value(), Level::published); !up) {
    return "going on: " + up.error().message + place;
  }
  world.write();
  if (const std::string broken = world.broken(Level::published); !broken.empty()) {
    return "published at the end: " + broken + place;
  }
  if (trial.kind == Kind::process) {
    // All that was answered until now is durable, whichever agent did it. What is not is lost or kept as a whole: the power losses
    // amid the operations have every mixture.
    Choices alike = Choices::alike(choices);
    world.restart_after_power_loss(alike);
    if (const std::string lost = world.lost(); !lost.empty()) {
      return "after a power loss at the end: " + lost + place;
    }
    if (auto back = world.bring(Level::created, Level::published); !back) {
      return "after a power loss at the end: " + back.error().message + place;
    }
    if (const std::string broken = world.broken(Level::published); !broken.empty()) {
      return "after a power loss at the end: " + broken + place;
    }
  }
  if (auto gone = world.bring(Level::published, Level::none); !gone) {
    return "taking it down: " + gone.error().message + place;
  }
  if (const std::string left = world.broken(Level::none); !left.empty()) {
    return "left behind: " + left + place;
  }
  return {};
}

/// Tries it with everything that a crash can have left; true when there are no more acts to die at.
bool try_all_ways(const VolumeKind& volume, const Operation& operation, const Trial& trial) {
  bool done = false;
  Choices choices;
  do {
    ++crash_counts.runs;
    if (const std::string wrong = crash_once(volume, operation, trial, choices, done); !wrong.empty()) {
      FAIL_CHECK(text_of(volume, operation, trial) << ": " << wrong);
    }
  } while (choices.next());
  return done;
}

void sweep(const VolumeKind& volume) {
  for (const Operation& operation : operations(volume)) {
    for (const Kind kind : {Kind::process, Kind::power_loss}) {
      bool done = false;
      std::size_t act = 0;
      while (!done) {
        ++act;
        for (const Then then : {Then::repeat, Then::reverse}) {
          // Each act is repeated and reversed, the one after a repair and the other not.
          const bool repaired_first = (act + (then == Then::repeat ? 1U : 0U)) % 2 == 0;
          done = try_all_ways(volume, operation, {.act = act, .kind = kind, .then = then, .repaired_first = repaired_first});
        }
      }
      CHECK(act > 3);
      (kind == Kind::process ? crash_counts.process : crash_counts.power_loss) += static_cast<int>(act);
    }
  }
}

/// The agent dies, and dies again while it starts, repairs or does what the orchestrator repeats: each pair of acts whose numbers fit.
void sweep_twice(const VolumeKind& volume, std::size_t one_in) {
  for (const Operation& operation : operations(volume)) {
    const std::size_t acts = count_acts(volume, operation);
    for (std::size_t act = 1; act <= acts; ++act) {
      for (std::size_t again = 1 + (act % one_in);; again += one_in) {
        const Kind second = again % 2 == 0 ? Kind::process : Kind::power_loss;
        ++(second == Kind::process ? crash_counts.process : crash_counts.power_loss);
        const Trial trial{.act = act,
                          .kind = Kind::process,
                          .then = (act + again / one_in) % 2 == 0 ? Then::repeat : Then::reverse,
                          .repaired_first = act % 3 == 0,
                          .second_act = again,
                          .second = second};
        if (try_all_ways(volume, operation, trial)) {
          break;
        }
      }
    }
  }
}

}  // namespace

TEST_CASE("every crash point: ext4", "[crash]") { sweep({.fs_type = "ext4"}); }
TEST_CASE("every crash point: ext4 that grows unmounted only", "[crash]") { sweep({.fs_type = "ext4", .grows_mounted_ext4 = false}); }
TEST_CASE("every crash point: xfs, thick", "[crash]") { sweep({.fs_type = "xfs", .thick = true}); }
TEST_CASE("every crash point: btrfs", "[crash]") { sweep({.fs_type = "btrfs"}); }
TEST_CASE("every crash point: and another while it recovers", "[crash]") { sweep_twice({.fs_type = "ext4"}, 8); }
TEST_CASE("every crash point: block", "[crash]") { sweep({.fs_type = "block"}); }
TEST_CASE("every crash point: block, thick", "[crash]") { sweep({.fs_type = "block", .thick = true}); }

}  // namespace ordinald::testing
