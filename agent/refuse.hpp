#pragma once

#include <string>

#include "mount/error.hpp"

namespace ordinald::agent {

/// failed_precondition: something else has to be done first, which the message says. Pure; any thread.
inline mount::Error refuse(const std::string& message) { return mount::make_error(mount::ErrorCode::failed_precondition, message); }

}  // namespace ordinald::agent
