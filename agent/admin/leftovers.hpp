#pragma once

#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "agent/volume_manager.hpp"

namespace ordinald::agent {

/// What a crash or a person left behind as it is now, with what a round of repairs will do about it: texts. Asks nothing.
nlohmann::json leftovers(VolumeManager& volumes, const std::vector<PoolView>& pools, const std::vector<mount::LoopEntry>& loops);

}  // namespace ordinald::agent
