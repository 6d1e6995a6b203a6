#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <system_error>

#include "tests/support/catch_session.hpp"
#include "tests/support/mount_namespace.hpp"

/// Claims on bare metal: ordinalctl as a program against a daemon, on real devices, with real databases. Needs root.
int main(int argc, char** argv) {
  if (::access("/dev/shm", W_OK) == 0) {
    ::setenv("TMPDIR", "/dev/shm", 1);  // a hundred runs that die, each with its fsyncs: a busy disk takes a minute for some
  }
  try {
    ordinald::testing::enter_private_mount_namespace();
    // Where claims are mounted by default: here a place of our own, with every user let through.
    if (::mount("tmpfs", "/srv", "tmpfs", 0, "mode=0755") != 0) throw std::system_error(errno, std::generic_category(), "a tmpfs at /srv");
    return ordinald::testing::run_catch(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "test_claims: %s\n", error.what());
    return 1;
  }
}
