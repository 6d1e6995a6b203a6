#define CATCH_CONFIG_RUNNER
#include <sys/mount.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <cstdio>
#include <exception>
#include <system_error>

#include "tests/support/mount_namespace.hpp"

/// Claims on bare metal: ordinalctl as a program against a daemon, on real devices, with real databases. Needs root.
int main(int argc, char** argv) {
  try {
    ordinald::testing::enter_private_mount_namespace();
    // Where claims are mounted by default: here a place of our own, with every user let through.
    if (::mount("tmpfs", "/srv", "tmpfs", 0, "mode=0755") != 0) throw std::system_error(errno, std::generic_category(), "a tmpfs at /srv");
    return Catch::Session().run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "test_claims: %s\n", error.what());
    return 1;
  }
}
