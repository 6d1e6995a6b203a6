#pragma once

#include <optional>
#include <string>

#include "mount/kernel.hpp"

/// The strongest proof of blankness that a device allows, beyond "no known signature". Part of probe; stateless, any thread.
namespace ordinald::mount {

/// nullopt: proven blank. Otherwise why not, for a person. Any failed read is an error.
Result<std::optional<std::string>> find_data(int device_fd, const ProbeRequest& request);

}  // namespace ordinald::mount
