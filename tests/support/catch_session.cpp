#define CATCH_CONFIG_RUNNER
#include "tests/support/catch_session.hpp"

#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdio>

namespace ordinald::testing {

int run_catch(int argc, char** argv) {
  Catch::Session session;
  if (const int status = session.applyCommandLine(argc, argv); status != 0) {
    return status;
  }
  if (::geteuid() != 0) {
    std::fprintf(stderr, "%s: not root; tests tagged [root] are left out\n", argv[0]);
    session.configData().testsOrTags.emplace_back("~[root]");
  }
  return session.run();
}

}  // namespace ordinald::testing
