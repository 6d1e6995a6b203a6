#pragma once

#include <memory>
#include <sstream>

#include "mount/log.hpp"

namespace ordinald::testing {

/// A log that nobody reads.
std::shared_ptr<const mount::Log> quiet_log();

/// A log into memory, `<level> <message>` a line; the text is only to be read while nothing writes.
std::shared_ptr<const mount::Log> log_into(std::ostringstream& text, mount::LogLevel level = mount::LogLevel::trace);

}  // namespace ordinald::testing
