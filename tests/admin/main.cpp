#include <cstdio>
#include <exception>

#include "tests/support/catch_session.hpp"
#include "tests/support/mount_namespace.hpp"

/// The admin interface: each route and refusal over its socket, on real mounts. Needs root.
int main(int argc, char** argv) {
  using namespace ordinald::testing;
  try {
    enter_private_mount_namespace();
    return run_catch(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "test_admin: %s\n", error.what());
    return 1;
  }
}
