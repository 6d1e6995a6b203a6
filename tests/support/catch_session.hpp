#pragma once

/// Catch2's own code, of which the header is by far the most, is compiled once for all suites: catch_session.cpp.
namespace ordinald::testing {

/// Runs the tests of this program as its command line asks; without root those tagged [root] are left out, and that is said. Answers the
/// exit status.
int run_catch(int argc, char** argv);

}  // namespace ordinald::testing
