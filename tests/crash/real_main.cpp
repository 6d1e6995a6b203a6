#define CATCH_CONFIG_RUNNER
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdio>
#include <cstdlib>

#include "tests/crash/counts.hpp"
#include "tests/support/mount_namespace.hpp"

/// Every crash point on the real kernel. Needs root. Hundreds of agents: their files lie in memory where they can.
int main(int argc, char** argv) {
  if (::access("/dev/shm", W_OK) == 0) {
    ::setenv("TMPDIR", "/dev/shm", 1);
  }
  ordinald::testing::enter_private_mount_namespace();
  const int status = Catch::Session().run(argc, argv);
  const auto& counts = ordinald::testing::crash_counts;
  std::printf("COUNT: crash points tried: real %d (ext4 %d, xfs %d, btrfs %d)\n", counts.ext4 + counts.xfs + counts.btrfs, counts.ext4,
              counts.xfs, counts.btrfs);
  return status;
}
