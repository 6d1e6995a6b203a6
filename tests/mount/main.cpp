// Entry point of test_mount. Root's tests mount for real: the whole process moves into a mount namespace of its own first, before any
// thread or worker exists, so that nothing it mounts is seen by the machine and all of it goes when it ends.
#include <unistd.h>

#include <cstdio>
#include <exception>

#include "tests/support/catch_session.hpp"
#include "tests/support/mount_namespace.hpp"

int main(int argc, char** argv) {
  const bool root = ::geteuid() == 0;
  if (root) {
    try {
      ordinald::testing::enter_private_mount_namespace();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "test_mount: %s\n", error.what());
      return 2;
    }
  }
  return ordinald::testing::run_catch(argc, argv);
}
