#pragma once

#include <memory>

#include "tests/model/world.hpp"

namespace ordinald::testing {

/// The daemon over its socket, on real loop devices, in this process's mount namespace. (Its class is not here: the names of the client's
/// messages and the port's clash.)
std::unique_ptr<World> make_real_world();

}  // namespace ordinald::testing
