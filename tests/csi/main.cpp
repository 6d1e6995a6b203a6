#include "tests/support/catch_session.hpp"

int main(int argc, char** argv) { return ordinald::testing::run_catch(argc, argv); }
