// Entry point of test_mount. Root's tests mount for real: the whole process moves into a mount namespace of its own first, before any
// thread or worker exists, so that nothing it mounts is seen by the machine and all of it goes when it ends.
#define CATCH_CONFIG_RUNNER
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdio>
#include <exception>

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
  Catch::Session session;
  if (const int status = session.applyCommandLine(argc, argv); status != 0) {
    return status;
  }
  if (!root) {
    std::fprintf(stderr, "test_mount: not root; tests tagged [root] are left out\n");
    session.configData().testsOrTags.emplace_back("~[root]");
  }
  return session.run();
}
