#include "mount/log.hpp"

#include <spdlog/logger.h>

#include <utility>

namespace ordinald::mount {
namespace {

spdlog::level::level_enum spdlog_level(LogLevel level) {
  switch (level) {
    case LogLevel::trace:
      return spdlog::level::trace;
    case LogLevel::debug:
      return spdlog::level::debug;
    case LogLevel::info:
      return spdlog::level::info;
    case LogLevel::warn:
      return spdlog::level::warn;
    case LogLevel::error:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

}  // namespace

Log::Log(std::shared_ptr<spdlog::logger> logger, LogLevel level) : logger_(std::move(logger)), level_(level) {
  logger_->set_level(spdlog::level::trace);
}

void Log::write_all(LogLevel level, fmt::string_view text, fmt::format_args values) const {
  if (writes(level)) {
    logger_->log(spdlog_level(level), spdlog::string_view_t{fmt::vformat(text, values)});
  }
}

}  // namespace ordinald::mount
