#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "tests/crash/counts.hpp"
#include "tests/support/catch_session.hpp"
#include "tests/support/mount_namespace.hpp"

/// Every crash point on the real kernel. Needs root. Hundreds of agents: their files lie in memory where they can.
int main(int argc, char** argv) {
  if (::access("/dev/shm", W_OK) == 0) {
    ::setenv("TMPDIR", "/dev/shm", 1);
  }
  ordinald::testing::enter_private_mount_namespace();
  const int status = ordinald::testing::run_catch(argc, argv);
  const auto& counts = ordinald::testing::crash_counts;
  std::printf("COUNT: crash points tried: real %d (ext4 %d, xfs %d, btrfs %d, block %d), %d of them with another in the recovery\n",
              counts.ext4 + counts.xfs + counts.btrfs + counts.block, counts.ext4, counts.xfs, counts.btrfs, counts.block, counts.again);
  return status;
}
