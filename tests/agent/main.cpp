// Entry point of test_agent. Root's tests mount for real: the whole process moves into a mount namespace of its own first, before any
// thread exists, so that nothing that it or an agent it starts mounts is seen by the machine.
#include <unistd.h>

#include <cstdio>

#include "tests/support/catch_session.hpp"
#include "tests/support/mount_namespace.hpp"

int main(int argc, char** argv) {
  const bool root = ::geteuid() == 0;
  if (root) {
    ordinald::testing::enter_private_mount_namespace();
  }
  return ordinald::testing::run_catch(argc, argv);
}
