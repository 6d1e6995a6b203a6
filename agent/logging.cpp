#include "agent/logging.hpp"

#include <spdlog/formatter.h>
#include <spdlog/logger.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <utility>

namespace ordinald::agent {
namespace {

constexpr std::string_view replacement = "\xef\xbf\xbd";  // U+FFFD

struct Scalar {
  std::uint32_t value = 0;
  std::size_t length = 0;  ///< bytes; 0: not UTF-8
};

/// The first code point of a text that isn't empty (RFC 3629: no overlong forms, no surrogates).
Scalar decode(std::string_view text) {
  const auto byte = [text](std::size_t i) { return static_cast<std::uint32_t>(static_cast<unsigned char>(text[i])); };
  const std::uint32_t lead = byte(0);
  if (lead < 0x80) {
    return {lead, 1};
  }
  const std::size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < length) {
    return {};
  }
  std::uint32_t value = lead & (0x7FU >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0U) != 0x80U) {
      return {};
    }
    value = (value << 6U) | (byte(i) & 0x3FU);
  }
  constexpr std::array<std::uint32_t, 5> least{0, 0, 0x80, 0x800, 0x10000};
  if (value < least.at(length) || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) {
    return {};
  }
  return {value, length};
}

/// C0, DEL and C1, which terminals act on; the separators that some readers take for line ends; and the marks that turn a line's direction,
/// with which a name can look like another one.
bool must_escape(std::uint32_t value) {
  return value < 0x20 || (value >= 0x7F && value < 0xA0) || (value >= 0x2028 && value <= 0x202E) || (value >= 0x2066 && value <= 0x2069) ||
         value == 0x200E || value == 0x200F || value == 0x061C;
}

void append_escape(std::string& out, std::uint32_t value) {
  switch (value) {
    case '\n':
      out += "\\n";
      return;
    case '\r':
      out += "\\r";
      return;
    case '\t':
      out += "\\t";
      return;
    default: {
      std::array<char, 12> text{};
      std::snprintf(text.data(), text.size(), "\\u%04x", value);
      out += text.data();
    }
  }
}

/// UTC with milliseconds, ISO 8601.
std::string timestamp(spdlog::log_clock::time_point time) {
  const auto since = std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch()).count();
  const std::time_t seconds = since / 1000;
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  std::array<char, 40> text{};
  const std::size_t length = std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%S", &parts);
  std::snprintf(text.data() + length, text.size() - length, ".%03dZ", static_cast<int>(since % 1000));
  return text.data();
}

std::string_view level_name(spdlog::level::level_enum level) {
  switch (level) {
    case spdlog::level::trace:
      return "trace";
    case spdlog::level::debug:
      return "debug";
    case spdlog::level::info:
      return "info";
    case spdlog::level::warn:
      return "warn";
    default:
      return "error";
  }
}

class LineFormatter final : public spdlog::formatter {
 public:
  explicit LineFormatter(LogFormat format) : format_(format) {}

  void format(const spdlog::details::log_msg& message, spdlog::memory_buf_t& out) override {
    const std::string_view level = level_name(message.level);
    std::string line;
    if (format_ == LogFormat::json) {
      line.append("{\"time\":\"").append(timestamp(message.time)).append("\",\"level\":\"").append(level).append("\",\"message\":\"");
    } else {
      line.append(timestamp(message.time)).append(" ").append(level).append(6 - level.size(), ' ');
    }
    line += log_safe({message.payload.data(), message.payload.size()}, format_);
    line += format_ == LogFormat::json ? "\"}\n" : "\n";
    out.append(line.data(), line.data() + line.size());
  }

  [[nodiscard]] std::unique_ptr<spdlog::formatter> clone() const override { return std::make_unique<LineFormatter>(format_); }

 private:
  LogFormat format_;
};

}  // namespace

std::shared_ptr<const mount::Log> make_logger(LogLevel level, LogFormat format) {
  // Not registered with spdlog: its registry is a singleton, and this logger is handed to who needs it.
  auto logger = std::make_shared<spdlog::logger>("ordinald", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_formatter(std::make_unique<LineFormatter>(format));
  return std::make_shared<const mount::Log>(std::move(logger), level);
}

std::string log_safe(std::string_view text, LogFormat format) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Scalar scalar = decode(text);
    if (scalar.length == 0) {
      out += replacement;
    } else if (must_escape(scalar.value)) {
      append_escape(out, scalar.value);
    } else {
      if (format == LogFormat::json && (scalar.value == '"' || scalar.value == '\\')) {
        out += '\\';
      }
      out += text.substr(0, scalar.length);
    }
    text.remove_prefix(std::max<std::size_t>(scalar.length, 1));
  }
  return out;
}

}  // namespace ordinald::agent
