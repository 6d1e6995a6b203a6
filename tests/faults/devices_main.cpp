#include <stdlib.h>
#include <sys/mount.h>

#include <cstdio>
#include <exception>

#include "tests/faults/measure.hpp"
#include "tests/support/catch_session.hpp"
#include "tests/support/mount_namespace.hpp"
#include "tests/support/rig.hpp"

/// Devices that fail or hang, and no room. Needs root. All of it on a tmpfs: what is measured here must not depend on the machine's disk.
int main(int argc, char** argv) {
  using namespace ordinald::testing;
  try {
    enter_private_mount_namespace();
    const WritableUsr usr;
    const TempDir memory("faults");
    if (::mount("faults", memory.path().c_str(), "tmpfs", 0, "mode=0700") != 0) throw std::runtime_error("can't mount a tmpfs");
    ::setenv("TMPDIR", memory.path().c_str(), 1);
    const int status = run_catch(argc, argv);
    print_fault_counts();
    return status;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "test_faults_devices: %s\n", error.what());
    return 1;
  }
}
