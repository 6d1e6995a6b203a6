#pragma once

#include <random>

#include "tests/model/runner.hpp"

namespace ordinald::testing {

/// How wild the random orchestrator is.
struct Temper {
  int most_calls_at_once = 1;
  int in_10000_crash = 600;  ///< of the steps with calls
  int in_10000_restart = 200;
  int in_10000_reboot = 50;
  int in_10000_break = 400;  ///< unmount, detach, obstruct behind the agent's back
  int crash_range = 40;      ///< acts, or milliseconds
  bool wounds = true;
};

/// The next step, by dice weighted so that deep states are reached. The same dice in the same states give the same step.
Step next_step(std::mt19937_64& dice, const Runner& runner, const Temper& temper);

}  // namespace ordinald::testing
