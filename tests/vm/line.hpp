#pragma once

#include <cstdint>
#include <string>
#include <string_view>

/// The words between the host and a guest: a line each way, `TAG VERB REST` and `TAG STATUS TEXT`, where REST and TEXT have `\n` for a
/// line's end and `\\` for a backslash. hand.cpp lists the verbs.
namespace ordinald::testing {

inline std::string escape_line(std::string_view text) {
  std::string line;
  for (const char c : text) {
    if (c == '\n')
      line += "\\n";
    else if (c == '\\')
      line += "\\\\";
    else
      line += c;
  }
  return line;
}

inline std::string unescape_line(std::string_view line) {
  std::string text;
  for (std::size_t i = 0; i < line.size(); ++i) {
    if (line[i] == '\\' && i + 1 < line.size())
      text += line[++i] == 'n' ? '\n' : line[i];
    else
      text += line[i];
  }
  return text;
}

/// Takes the first word off the line, and the blank behind it.
inline std::string take_word(std::string& line) {
  const std::size_t end = line.find(' ');
  std::string word = line.substr(0, end);
  line.erase(0, end == std::string::npos ? end : end + 1);
  return word;
}

}  // namespace ordinald::testing
