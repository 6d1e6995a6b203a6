#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "agent/config.hpp"
#include "mount/log.hpp"

/// One message, one line on stderr: readable text or a JSON object.
///
///     2026-11-24T22:00:10.123Z info  staged volume data-db-0
///     {"time":"2026-11-24T22:00:10.123Z","level":"info","message":"staged volume data-db-0"}
///
/// Control characters in a message are escaped and bytes that aren't UTF-8 replaced, so whatever a message quotes (a tool's output, a
/// name) can neither break a line nor drive a terminal.
namespace ordinald::agent {

/// A logger that writes before it returns; any thread. Each line is one write(2).
std::shared_ptr<const mount::Log> make_logger(LogLevel level, LogFormat format);

/// A message as the lines show it. JSON: the inside of a string, with quotes and backslashes escaped.
std::string log_safe(std::string_view text, LogFormat format);

}  // namespace ordinald::agent
