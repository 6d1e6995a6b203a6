// Entry point of test_agent. Root's tests mount for real: the whole process moves into a mount namespace of its own first, before any
// thread exists, so that nothing that it or an agent it starts mounts is seen by the machine.
#define CATCH_CONFIG_RUNNER
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdio>

#include "tests/support/mount_namespace.hpp"

int main(int argc, char** argv) {
  const bool root = ::geteuid() == 0;
  if (root) {
    ordinald::testing::enter_private_mount_namespace();
  }
  Catch::Session session;
  if (const int status = session.applyCommandLine(argc, argv); status != 0) {
    return status;
  }
  if (!root) {
    std::fprintf(stderr, "test_agent: not root; tests tagged [root] are left out\n");
    session.configData().testsOrTags.emplace_back("~[root]");
  }
  return session.run();
}
