#include "tests/support/rig.hpp"
