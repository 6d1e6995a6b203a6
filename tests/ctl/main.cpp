#include <unistd.h>

#include <clocale>
#include <cstdio>
#include <exception>

#include "tests/support/catch_session.hpp"
#include "tests/support/mount_namespace.hpp"

/// ordinalctl: its units, its program against a server that answers oddly, and against a real agent.
int main(int argc, char** argv) {
  try {
    std::setlocale(LC_CTYPE, "C.UTF-8");
    if (::geteuid() == 0) {
      ordinald::testing::enter_private_mount_namespace();
    }
    return ordinald::testing::run_catch(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "test_ctl: %s\n", error.what());
    return 1;
  }
}
