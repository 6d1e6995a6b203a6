#pragma once

#include <string>
#include <vector>

#include "mount/result.hpp"
#include "mount/types.hpp"

namespace ordinald::mount {

/// The verb staging_places (kernel.hpp). Opens of each place its directory and `vol_data.json`, and never what may be mounted in it.
Result<std::vector<StagingPlace>> list_staging_places(const std::string& directory);

}  // namespace ordinald::mount
