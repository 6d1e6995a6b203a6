// The random orchestrator: random calls, kills and breakage in a fake and in the real world, held against a model of the rules.
//
//   test_model                                   the short form: each world with a fixed and a fresh seed
//   test_model --world W --seed N --steps M      one run again; W: fake, fake-threads, real
//   test_model --soak MINUTES [--volumes N]      the real world for that long (tests/run --soak)
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <functional>
#include <memory>
#include <random>

#include "tests/model/fake_world.hpp"
#include "tests/model/generator.hpp"
#include "tests/model/runner.hpp"
#include "tests/support/mount_namespace.hpp"
#ifdef ORDINALD_PROGRAM
#include "tests/model/real_world.hpp"
#endif

namespace {

using namespace ordinald::testing;
using Clock = std::chrono::steady_clock;
using MakeWorld = std::function<std::unique_ptr<World>()>;

constexpr std::int64_t pool_size = std::int64_t{1} << 50;  // of no pool here
constexpr std::uint64_t fixed_seed = 20261125;

struct Plan {
  std::string world;
  std::uint64_t seed = 0;
  std::size_t steps = 0;
  int volumes = 20;
  Temper temper{};
};

Plan plan_for(const std::string& world, std::uint64_t seed, std::size_t steps) {
  Plan plan{.world = world, .seed = seed, .steps = steps};
  if (world != "fake") {
    plan.temper.most_calls_at_once = 6;
  }
  if (world == "real") {
    plan.temper.in_10000_reboot = 0;
  }
  return plan;
}

MakeWorld maker_of(const Plan& plan) {
#ifdef ORDINALD_PROGRAM
  if (plan.world == "real") {
    return make_real_world;
  }
#endif
  return [seed = plan.seed] { return std::make_unique<FakeWorld>(seed % 2 == 0); };
}

/// Plays the steps from the beginning; the first that goes wrong, or -1.
int replay(const MakeWorld& make, const Plan& plan, const std::vector<Step>& steps, std::string& wrong) {
  const auto world = make();
  Runner runner{*world, plan.volumes, pool_size};
  for (std::size_t i = 0; i < steps.size(); ++i) {
    wrong = runner.play(steps[i]);
    if (!wrong.empty()) {
      return static_cast<int>(i);
    }
  }
  return -1;
}

/// The same mistake, whatever the volume.
std::string kind_of(const std::string& wrong) { return wrong.substr(0, wrong.find_first_of("0123456789")); }

bool concerns(const Step& step, int volume) {
  if (step.kind == Step::Kind::calls) {
    return std::ranges::any_of(step.calls, [&](const Call& call) { return call.volume == volume; });
  }
  return step.kind == Step::Kind::restart || step.kind == Step::Kind::reboot || step.volume == volume;
}

/// Leaves out as many steps as it can within half a minute, so that it still goes wrong.
std::vector<Step> shrink(const MakeWorld& make, const Plan& plan, std::vector<Step> steps, std::string& wrong) {
  const auto until = Clock::now() + std::chrono::seconds(30);
  const auto attempt = [&](std::vector<Step> fewer) {
    std::string still;
    const int end = replay(make, plan, fewer, still);
    if (end < 0 || kind_of(still) != kind_of(wrong)) {
      return false;
    }
    fewer.resize(static_cast<std::size_t>(end) + 1);
    steps = std::move(fewer);
    wrong = still;
    return true;
  };
  // Most mistakes are about one volume.
  std::vector<Step> of_one;
  const int volume = steps.back().calls.empty() ? steps.back().volume : steps.back().calls.front().volume;
  std::ranges::copy_if(steps, std::back_inserter(of_one), [&](const Step& step) { return concerns(step, volume); });
  attempt(of_one);
  for (std::size_t chunk = steps.size() / 2; chunk > 0; chunk = chunk == 1 ? 0 : chunk / 2) {
    for (std::size_t at = 0; at + chunk <= steps.size() && Clock::now() < until;) {
      std::vector<Step> fewer{steps.begin(), steps.begin() + static_cast<std::ptrdiff_t>(at)};
      fewer.insert(fewer.end(), steps.begin() + static_cast<std::ptrdiff_t>(at + chunk), steps.end());
      if (!attempt(std::move(fewer))) {
        at += chunk;
      }
    }
  }
  return steps;
}

/// `journal`: what the steps did, for who has this text only: but for the fake, they go another way each time.
void tell(const Plan& plan, std::vector<Step> steps, std::string wrong, const std::deque<std::string>& journal) {
  std::printf("%s\n", wrong.c_str());
  std::fflush(stdout);
  if (plan.world != "fake") {
    for (const std::string& line : journal) {
      std::printf("%s\n", line.c_str());
    }
    steps.clear();
  } else {
    steps = shrink(maker_of(plan), plan, std::move(steps), wrong);
    std::printf("with fewer steps:\n");
  }
  constexpr std::size_t shown = 60;
  const std::size_t first = steps.size() > shown ? steps.size() - shown : 0;
  for (std::size_t i = first; i < steps.size(); ++i) {
    std::printf("%5zu  %s\n", i, to_string(steps[i]).c_str());
  }
  std::printf("%s\nagain: test_model --world %s --seed %llu --steps %zu\n", wrong.c_str(), plan.world.c_str(),
              static_cast<unsigned long long>(plan.seed), plan.steps);
}

bool run(const Plan& plan) {
  const auto begin = Clock::now();
  std::mt19937_64 dice{plan.seed};
  std::vector<Step> steps;
  std::deque<std::string> journal;
  std::string wrong;
  {
    const auto world = maker_of(plan)();
    Runner runner{*world, plan.volumes, pool_size};
    while (wrong.empty() && steps.size() < plan.steps) {
      steps.push_back(next_step(dice, runner, plan.temper));
      wrong = runner.play(steps.back());
    }
    const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - begin).count();
    std::printf("model %s: seed %llu, %zu steps, %zu calls, %lld ms%s\n", plan.world.c_str(), static_cast<unsigned long long>(plan.seed),
                steps.size(), runner.calls(), static_cast<long long>(took), wrong.empty() ? "" : ": FAILED");
    std::fflush(stdout);
    journal = runner.journal();
  }
  if (!wrong.empty()) {
    tell(plan, std::move(steps), wrong, journal);
  }
  return wrong.empty();
}

#ifdef ORDINALD_PROGRAM
/// The real world for so many minutes, with its weight at each; a daemon that grows without end fails.
bool soak(std::chrono::minutes minutes, int volumes, std::uint64_t seed) {
  Plan plan = plan_for("real", seed, 0);
  plan.volumes = volumes;
  plan.temper.most_calls_at_once = 16;
  plan.temper.in_10000_crash = 5;
  plan.temper.in_10000_restart = 2;
  std::mt19937_64 dice{seed};
  std::vector<Step> steps;
  std::size_t played = 0;
  std::string wrong;
  const auto world = make_real_world();
  Runner runner{*world, plan.volumes, pool_size};
  const auto begin = Clock::now();
  World::Weight warm;
  std::size_t peak_loops = 0;
  std::printf("soak: seed %llu, %d volumes, %lld min\n", static_cast<unsigned long long>(seed), volumes,
              static_cast<long long>(minutes.count()));
  for (auto minute = std::chrono::minutes(1); wrong.empty() && minute <= minutes; ++minute) {
    while (wrong.empty() && Clock::now() < begin + minute) {
      steps.push_back(next_step(dice, runner, plan.temper));
      wrong = runner.play(steps.back());
      ++played;
      if (steps.size() > 200) {
        steps.erase(steps.begin(), steps.begin() + 100);
      }
    }
    const Facts facts = world->look();
    const World::Weight now = world->weight();
    peak_loops = std::max(peak_loops, facts.loops.size());
    std::printf("soak: minute %lld: %zu steps, %zu calls; %zu volumes, %zu loops, %zu mounts; daemon %ld KiB, %ld descriptors\n",
                static_cast<long long>(minute.count()), played, runner.calls(), facts.images.size(), facts.loops.size(),
                facts.mounts.size(), now.rss, now.descriptors);
    std::fflush(stdout);
    // Warm: the first half of the time, at least two minutes, while volumes are still being made.
    if (minute <= std::max(std::chrono::minutes(2), minutes / 2)) {
      warm.rss = std::max(warm.rss, now.rss);
      warm.descriptors = std::max(warm.descriptors, now.descriptors);
    } else if (now.rss > 2 * warm.rss || now.descriptors > 2 * warm.descriptors) {
      wrong = "the daemon grows: it had " + std::to_string(warm.rss) + " KiB and " + std::to_string(warm.descriptors) + " descriptors";
    }
  }
  std::printf("COUNT: soak: %zu steps, %zu calls in %lld min over %d volumes (seed %llu), at most %zu loops\n", played, runner.calls(),
              static_cast<long long>(minutes.count()), volumes, static_cast<unsigned long long>(seed), peak_loops);
  if (!wrong.empty()) {
    tell(plan, std::move(steps), wrong, runner.journal());
  }
  return wrong.empty();
}
#endif

/// Each world with a fixed and a fresh seed.
bool short_form(bool real, std::uint64_t fresh) {
  constexpr std::size_t fake_steps = 6000;
  constexpr std::size_t thread_steps = 1500;
  constexpr std::size_t real_steps = 300;
  std::vector<std::pair<std::string, std::size_t>> worlds{{"fake", fake_steps}, {"fake-threads", thread_steps}};
  if (real) {
    worlds.emplace_back("real", real_steps);
  }
  int passed = 0;
  int failed = 0;
  for (const auto& [world, steps] : worlds) {
    for (const std::uint64_t seed : {fixed_seed, fresh}) {
      ++(run(plan_for(world, seed, steps)) ? passed : failed);
    }
  }
  std::printf("COUNT: random steps: fake %zu, real %zu (seed %llu, fresh seed %llu)\n", 2 * (fake_steps + thread_steps),
              real ? 2 * real_steps : 0, static_cast<unsigned long long>(fixed_seed), static_cast<unsigned long long>(fresh));
  if (failed == 0) {
    std::printf("All tests passed in %d test cases\n", passed);
  } else {
    std::printf("test cases: %d | %d passed | %d failed\n", passed + failed, passed, failed);
  }
  return failed == 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::string world;
  std::uint64_t seed = std::random_device{}();
  std::size_t steps = 10000;
  int volumes = 1000;
  int minutes = 0;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string option = argv[i];
    const unsigned long long number = std::strtoull(argv[i + 1], nullptr, 10);
    if (option == "--world") {
      world = argv[i + 1];
    } else if (option == "--seed") {
      seed = number;
    } else if (option == "--steps") {
      steps = static_cast<std::size_t>(number);
    } else if (option == "--volumes") {
      volumes = static_cast<int>(number);
    } else if (option == "--soak") {
      minutes = static_cast<int>(number);
    } else {
      std::fprintf(stderr, "test_model: no option %s\n", argv[i]);
      return 2;
    }
  }
  bool real = false;
#ifdef ORDINALD_PROGRAM
  real = ::geteuid() == 0;
  if (real) {
    enter_private_mount_namespace();
  }
  if (minutes > 0) {
    return soak(std::chrono::minutes(minutes), volumes, seed) ? 0 : 1;
  }
#endif
  static_cast<void>(volumes);
  static_cast<void>(minutes);
  if (std::filesystem::is_directory("/dev/shm")) {
    ::setenv("TMPDIR", "/dev/shm", 1);  // the agent's fsyncs are not what is tested here
  }
  if (world.empty()) {
    return short_form(real, seed) ? 0 : 1;
  }
  const bool well = run(plan_for(world, seed, steps));
  std::printf(well ? "All tests passed in 1 test case\n" : "test cases: 1 | 0 passed | 1 failed\n");
  return well ? 0 : 1;
}
