#include "agent/json_fields.hpp"

namespace ordinald::agent {

using mount::ErrorCode;
using mount::make_error;
using nlohmann::json;

mount::Error unexpected(std::string_view path, std::string_view expected, const json& found) {
  return make_error(ErrorCode::invalid_argument, std::string{path} + ": expected " + std::string{expected} + ", found " + describe(found));
}

Result<std::string> read_string(const json& value, std::string_view path, std::string_view expected, bool (*good)(std::string_view)) {
  if (!value.is_string() || !good(value.get_ref<const std::string&>())) {
    return unexpected(path, expected, value);
  }
  return value.get<std::string>();
}

Result<bool> read_bool(const json& value, std::string_view path) {
  if (!value.is_boolean()) {
    return unexpected(path, "true or false", value);
  }
  return value.get<bool>();
}

Result<std::int64_t> read_integer(const json& value, std::string_view path, std::int64_t least, std::optional<std::int64_t> most) {
  const bool fits = value.is_number_integer() && (!value.is_number_unsigned() || value.get<std::uint64_t>() <= INT64_MAX);
  if (!fits || value.get<std::int64_t>() < least || (most && value.get<std::int64_t>() > *most)) {
    const std::string expected = most ? "an integer from " + std::to_string(least) + " to " + std::to_string(*most)
                                      : "an integer of at least " + std::to_string(least);
    return unexpected(path, expected, value);
  }
  return value.get<std::int64_t>();
}

Result<double> read_number(const json& value, std::string_view path, double least, double most) {
  if (!value.is_number() || value.get<double>() < least || value.get<double>() > most) {
    return unexpected(path, "a number from " + json(least).dump() + " to " + json(most).dump(), value);
  }
  return value.get<double>();
}

Result<std::size_t> read_choice(const json& value, std::string_view path, std::span<const std::string_view> words) {
  if (value.is_string()) {
    if (const auto at = std::ranges::find(words, value.get_ref<const std::string&>()); at != words.end()) {
      return static_cast<std::size_t>(at - words.begin());
    }
  }
  std::string expected;
  for (std::size_t i = 0; i < words.size(); ++i) {
    expected += i == 0 ? "" : i + 1 == words.size() ? " or " : ", ";
    expected.append("\"").append(words[i]).append("\"");
  }
  return unexpected(path, expected, value);
}

Result<std::string> read_word(const json& value, std::string_view path, std::span<const std::string_view> words) {
  TRY(const std::size_t at, read_choice(value, path, words));
  return std::string{words[at]};
}

}  // namespace ordinald::agent
