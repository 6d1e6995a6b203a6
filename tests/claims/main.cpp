#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>
#include <cstdio>
#include <exception>

#include "tests/support/mount_namespace.hpp"

/// Claims on bare metal: ordinalctl as a program against a daemon, on real devices, with real databases. Needs root.
int main(int argc, char** argv) {
  try {
    ordinald::testing::enter_private_mount_namespace();
    return Catch::Session().run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "test_claims: %s\n", error.what());
    return 1;
  }
}
