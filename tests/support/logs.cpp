#include "tests/support/logs.hpp"

#include <spdlog/logger.h>
#include <spdlog/sinks/null_sink.h>
#include <spdlog/sinks/ostream_sink.h>

#include <utility>

namespace ordinald::testing {

std::shared_ptr<const mount::Log> quiet_log() {
  return std::make_shared<const mount::Log>(std::make_shared<spdlog::logger>("quiet", std::make_shared<spdlog::sinks::null_sink_mt>()));
}

std::shared_ptr<const mount::Log> log_into(std::ostringstream& text, mount::LogLevel level) {
  auto logger = std::make_shared<spdlog::logger>("memory", std::make_shared<spdlog::sinks::ostream_sink_mt>(text));
  logger->set_pattern("%l %v");
  return std::make_shared<const mount::Log>(std::move(logger), level);
}

}  // namespace ordinald::testing
