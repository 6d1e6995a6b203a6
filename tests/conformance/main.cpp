#include <cstdio>
#include <exception>

#include "tests/support/catch_session.hpp"
#include "tests/support/mount_namespace.hpp"
#include "tests/support/rig.hpp"

/// The conformance suite: a test for each sentence of the interface's rules, over the real socket, on real devices. Needs root.
int main(int argc, char** argv) {
  using namespace ordinald::testing;
  try {
    enter_private_mount_namespace();
    const WritableUsr usr;
    return run_catch(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "test_conformance: %s\n", error.what());
    return 1;
  }
}
