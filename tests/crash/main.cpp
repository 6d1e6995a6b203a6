#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "tests/crash/counts.hpp"
#include "tests/support/catch_session.hpp"

/// Every crash point on the fake kernel. Thousands of agents begin and end: their files lie in memory where they can.
int main(int argc, char** argv) {
  if (::access("/dev/shm", W_OK) == 0) {
    ::setenv("TMPDIR", "/dev/shm", 1);
  }
  const int status = ordinald::testing::run_catch(argc, argv);
  const auto& counts = ordinald::testing::crash_counts;
  if (counts.runs > 0) {
    std::printf("COUNT: crash points tried: fake %d (process %d, power loss %d), in %d runs\n", counts.process + counts.power_loss,
                counts.process, counts.power_loss, counts.runs);
  }
  return status;
}
