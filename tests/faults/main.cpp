#include <linux/capability.h>
#include <sys/prctl.h>

#include <cstdio>
#include <exception>

#include "tests/support/catch_session.hpp"
#include "tests/support/mount_namespace.hpp"
#include "tests/support/rig.hpp"

/// Broken parts: content that is not ours, tools that fail, files that are damaged, paths that lead elsewhere. On real devices, over the
/// real socket. Needs root.
int main(int argc, char** argv) {
  using namespace ordinald::testing;
  try {
    enter_private_mount_namespace();
    // So that what the agent does without it, growing ext4 by resize2fs, is tested on every machine.
    ::prctl(PR_CAPBSET_DROP, CAP_SYS_RESOURCE, 0, 0, 0);
    const WritableUsr usr;
    return run_catch(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "test_faults: %s\n", error.what());
    return 1;
  }
}
