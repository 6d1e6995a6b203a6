#pragma once

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "agent/strict_json.hpp"
#include "mount/result.hpp"

/// A person's JSON into structs: each kind of value with its refusal, `pools[1].directory: expected …, found …`. Pure; any thread. All
/// errors are invalid_argument.
namespace ordinald::agent {

using mount::Result;

/// `<path>: expected <expected>, found <value>`.
mount::Error unexpected(std::string_view path, std::string_view expected, const nlohmann::json& found);

Result<std::string> read_string(const nlohmann::json& value, std::string_view path, std::string_view expected,
                                bool (*good)(std::string_view));
Result<bool> read_bool(const nlohmann::json& value, std::string_view path);
/// Whole numbers only: 5.0 isn't one.
Result<std::int64_t> read_integer(const nlohmann::json& value, std::string_view path, std::int64_t least, std::optional<std::int64_t> most);
Result<double> read_number(const nlohmann::json& value, std::string_view path, double least, double most);
/// Which of the words it is.
Result<std::size_t> read_choice(const nlohmann::json& value, std::string_view path, std::span<const std::string_view> words);
Result<std::string> read_word(const nlohmann::json& value, std::string_view path, std::span<const std::string_view> words);

/// A key of an object, and how it gets into the struct.
template <class T>
struct Field {
  std::string_view key;
  Result<void> (*read)(T& into, const nlohmann::json& value, const std::string& path);
};

/// Each key of the object by its field; one that has none is refused with those that there are.
template <class T>
Result<void> read_object(T& into, const nlohmann::json& object, const std::string& path, std::span<const Field<T>> fields) {
  if (!object.is_object()) {
    return path.empty() ? mount::make_error(mount::ErrorCode::invalid_argument, "expected an object at the top, found " + describe(object))
                        : unexpected(path, "an object", object);
  }
  for (const auto& [key, value] : object.items()) {
    const std::string here = key_path(path, key);
    const auto field = std::ranges::find(fields, std::string_view{key}, &Field<T>::key);
    if (field == fields.end()) {
      std::string message = here + ": unknown key; expected one of ";
      for (const Field<T>& each : fields) {
        message.append(&each == fields.data() ? "" : ", ").append(each.key);
      }
      return mount::make_error(mount::ErrorCode::invalid_argument, std::move(message));
    }
    TRYV(field->read(into, value, here));
  }
  return mount::success();
}

template <class To, class From>
Result<void> store(To& to, Result<From> from) {
  if (!from) {
    return from.error();
  }
  to = static_cast<To>(std::move(from).value());
  return mount::success();
}

}  // namespace ordinald::agent
