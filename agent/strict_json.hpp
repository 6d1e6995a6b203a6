#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "mount/result.hpp"

/// JSON as a person may have written it: parsed without exceptions, within bounds, and with nothing silently dropped.
///
/// Pure functions; any thread. nlohmann's own parser keeps the last of two equal keys and knows no bounds.
namespace ordinald::agent {

struct JsonLimits {
  std::size_t bytes = std::size_t{1} << 20;
  std::size_t depth = 64;  ///< containers open at once
  bool comments = false;   ///< `//` and `/* */` are skipped
};

/// The document, or invalid_argument: too long, nested too deep, malformed (with line and column), a key given twice (with its path).
mount::Result<nlohmann::json> parse_strict_json(std::string_view text, const JsonLimits& limits);

/// The path of a key beneath `parent`: `pools[1].directory`; a key that isn't a plain word is quoted: `pools[1]["a b"]`.
std::string key_path(std::string_view parent, std::string_view key);

/// A value for an error's text: scalars as JSON in ASCII, cut at 60 characters; `an object`, `an array`.
std::string describe(const nlohmann::json& value);

}  // namespace ordinald::agent
