#include "agent/ctl/text.hpp"

#include <array>
#include <cstdio>
#include <ctime>
#include <cwchar>

#include "agent/logging.hpp"

namespace ordinald::ctl {
namespace {

/// The length in bytes of the UTF-8 character that starts here; the text is well formed (harmless).
std::size_t character_length(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text.front());
  const std::size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
  return length < text.size() ? length : text.size();
}

std::size_t character_columns(std::string_view character) {
  if (character.size() == 1) {
    return 1;
  }
  auto value = static_cast<unsigned>(static_cast<unsigned char>(character.front())) & (0x7FU >> character.size());
  for (const char byte : character.substr(1)) {
    value = (value << 6U) | (static_cast<unsigned>(static_cast<unsigned char>(byte)) & 0x3FU);
  }
  const int width = ::wcwidth(static_cast<wchar_t>(value));  // -1: the locale doesn't know it; a terminal then shows one cell
  return width < 0 ? 1 : static_cast<std::size_t>(width);
}

}  // namespace

std::string harmless(std::string_view text) { return agent::log_safe(text, agent::LogFormat::text); }

std::size_t columns(std::string_view text) {
  std::size_t sum = 0;
  while (!text.empty()) {
    const std::size_t length = character_length(text);
    sum += character_columns(text.substr(0, length));
    text.remove_prefix(length);
  }
  return sum;
}

std::string fitted(std::string_view text, std::size_t limit) {
  if (columns(text) <= limit) {
    return std::string{text};
  }
  if (limit == 0) {
    return {};
  }
  std::size_t used = 0;
  std::size_t end = 0;
  while (end < text.size()) {
    const std::size_t length = character_length(text.substr(end));
    const std::size_t width = character_columns(text.substr(end, length));
    if (used + width > limit - 1) {
      break;
    }
    used += width;
    end += length;
  }
  return std::string{text.substr(0, end)} + "…";
}

std::string size_text(std::int64_t bytes) {
  constexpr std::array<const char*, 7> units{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while ((value >= 1023.95 || value <= -1023.95) && unit + 1 < units.size()) {
    value /= 1024;
    ++unit;
  }
  std::array<char, 32> text{};
  const bool whole = value == static_cast<double>(static_cast<std::int64_t>(value));
  const int digits = whole ? 0 : value < 9.995 && value > -9.995 ? 2 : 1;
  std::snprintf(text.data(), text.size(), "%.*f", digits, value);
  std::string number = text.data();
  if (digits > 0) {  // 1.50 is 1.5
    number.erase(number.find_last_not_of('0') + 1);
    if (number.back() == '.') {
      number.pop_back();
    }
  }
  return number + " " + units.at(unit);
}

std::string duration_text(std::chrono::seconds duration) {
  const std::int64_t seconds = duration.count();
  struct Unit {
    std::int64_t seconds;
    const char* name;
  };
  for (const Unit& unit : {Unit{86400, " d"}, Unit{3600, " h"}, Unit{60, " min"}}) {
    if (seconds >= unit.seconds) {
      return std::to_string(seconds / unit.seconds) + unit.name;
    }
  }
  return std::to_string(seconds < 0 ? 0 : seconds) + " s";
}

std::optional<Time> parse_time(std::string_view text) {
  const std::string copy{text};
  std::tm parts{};
  const char* rest = ::strptime(copy.c_str(), "%Y-%m-%dT%H:%M:%S", &parts);
  if (rest == nullptr) {
    return {};
  }
  if (*rest == '.') {
    do {
      ++rest;
    } while (*rest >= '0' && *rest <= '9');
  }
  if (std::string_view{rest} != "Z") {
    return {};
  }
  const std::time_t seconds = ::timegm(&parts);
  constexpr auto last = std::chrono::floor<std::chrono::seconds>(Time::max().time_since_epoch()).count();
  if (seconds < 0 || seconds > last) {
    return {};
  }
  return std::chrono::system_clock::from_time_t(seconds);
}

std::string ago_text(std::string_view text, Time now) {
  const auto time = parse_time(text);
  if (!time) {
    return harmless(text);
  }
  if (*time > now + std::chrono::seconds{2}) {
    return "in the future: is the clock right?";
  }
  return duration_text(std::chrono::duration_cast<std::chrono::seconds>(now - *time)) + " ago";
}

std::string when_text(std::string_view text, Time now) {
  return parse_time(text) ? std::string{text} + " (" + ago_text(text, now) + ")" : harmless(text);
}

}  // namespace ordinald::ctl
