#pragma once

#include <set>
#include <string>
#include <vector>

#include "agent/strays.hpp"

namespace ordinald::agent {

/// Staging directories as kubelet makes them (`<hash>/globalmount` beside a `vol_data.json` that names a volume of this driver) of volumes
/// that are not staged there: kubelet's to remove, and so only told of. Looked for in kubelet's own place and beside the staging paths of
/// what is staged now. A volume whose last stage was refused may be staged yet, and has none; nor has one that changed within ten minutes.
///
/// `idle`: those that the look before found unused; becomes those that this one did. Only what was unused at both is told of: after a
/// reboot volumes are staged one after the other. Works in a worker of its own; unavailable: the directory hangs.
Result<std::vector<Stray>> find_stray_staging(const Core& core, std::set<std::string>& idle);

}  // namespace ordinald::agent
