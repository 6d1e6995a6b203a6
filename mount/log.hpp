#pragma once

#include <fmt/core.h>

#include <cstdint>
#include <memory>

namespace spdlog {
class logger;
}

namespace ordinald::mount {

enum class LogLevel : std::uint8_t { trace, debug, info, warn, error };

/// Where messages go: an spdlog logger. What formats a message is compiled once, here; with spdlog's own templates each file that logs
/// would have it again, which is half of such a file's code and of the time that it takes a compiler. On this floor for all to have: mount/
/// itself tells nobody but its caller.
///
/// Any thread.
class Log {
 public:
  /// Of this level and above. The logger writes all that it gets.
  explicit Log(std::shared_ptr<spdlog::logger> logger, LogLevel level = LogLevel::trace);

  /// Whether a message of this level would be written.
  [[nodiscard]] bool writes(LogLevel level) const { return level >= level_; }

  /// `write(LogLevel::info, "staged {}", volume)`
  template <class... T>
  void write(LogLevel level, fmt::format_string<T...> text, T&&... values) const {
    write_all(level, text, fmt::make_format_args(values...));
  }
  template <class... T>
  void debug(fmt::format_string<T...> text, T&&... values) const {
    write_all(LogLevel::debug, text, fmt::make_format_args(values...));
  }
  template <class... T>
  void info(fmt::format_string<T...> text, T&&... values) const {
    write_all(LogLevel::info, text, fmt::make_format_args(values...));
  }
  template <class... T>
  void warn(fmt::format_string<T...> text, T&&... values) const {
    write_all(LogLevel::warn, text, fmt::make_format_args(values...));
  }
  template <class... T>
  void error(fmt::format_string<T...> text, T&&... values) const {
    write_all(LogLevel::error, text, fmt::make_format_args(values...));
  }

 private:
  void write_all(LogLevel level, fmt::string_view text, fmt::format_args values) const;

  std::shared_ptr<spdlog::logger> logger_;
  LogLevel level_;
};

}  // namespace ordinald::mount
