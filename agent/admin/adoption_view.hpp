#pragma once

#include <nlohmann/json_fwd.hpp>

#include "agent/admin/volume_view.hpp"

namespace ordinald::agent {

/// What was found (`holds`), what it becomes, how it is copied first (`copy`; of a block device, else null), what stands against it
/// (`refusals`), and the volume, where it is one by now (else null).
nlohmann::json adoption_json(VolumeManager& volumes, const AdoptionPlan& plan, const NodeLook& node);

}  // namespace ordinald::agent
