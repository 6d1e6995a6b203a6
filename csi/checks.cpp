#include "csi/checks.hpp"

#include <fmt/core.h>

#include "csi/redact.hpp"

namespace ordinald::csi {
namespace {

using mount::ErrorCode;
using mount::make_error;

/// Where the first refused character is, or npos. Of UTF-8, which protobuf has checked already: C2 80 to C2 9F are U+0080 to U+009F.
std::size_t find_refused(std::string_view value) {
  for (std::size_t i = 0; i < value.size(); ++i) {
    const auto byte = static_cast<unsigned char>(value[i]);
    if (byte == 0x7f || (byte < 0x20 && byte != '\t' && byte != '\n' && byte != '\r')) {
      return i;
    }
    if (byte == 0xc2 && i + 1 < value.size() && static_cast<unsigned char>(value[i + 1]) < 0xa0) {
      return i;
    }
  }
  return std::string_view::npos;
}

Result<void> refuse_longer(std::string_view field, std::string_view value, std::size_t limit) {
  if (value.size() > limit) {
    return make_error(ErrorCode::invalid_argument,
                      fmt::format("{} has {} bytes, more than the {} that CSI allows", field, value.size(), limit));
  }
  return mount::success();
}

Result<void> refuse_empty(std::string_view field, std::string_view value) {
  if (value.empty()) {
    return make_error(ErrorCode::invalid_argument, fmt::format("{} is missing", field));
  }
  return mount::success();
}

}  // namespace

Result<void> check_controls(std::string_view field, std::string_view value) {
  if (const auto at = find_refused(value); at != std::string_view::npos) {
    return make_error(ErrorCode::invalid_argument, fmt::format("{} has a control character at byte {}", field, at));
  }
  return mount::success();
}

Result<void> check_text(std::string_view field, std::string_view value) {
  TRYV(refuse_longer(field, value, string_limit));
  return check_controls(field, value);
}

Result<void> check_required(std::string_view field, std::string_view value) {
  TRYV(refuse_empty(field, value));
  return check_text(field, value);
}

Result<void> check_map(std::string_view field, const ProtoMap& map) {
  std::size_t total = 0;
  for (const auto& [key, value] : map) {
    total += key.size() + value.size();
  }
  if (total > map_limit) {
    return make_error(ErrorCode::invalid_argument,
                      fmt::format("{} has {} bytes of keys and values, more than the {} that CSI allows", field, total, map_limit));
  }
  return mount::success();
}

Result<StringMap> to_map(std::string_view field, const ProtoMap& map) {
  TRYV(check_map(field, map));
  return StringMap{map.begin(), map.end()};
}

Result<void> check_path_text(std::string_view field, std::string_view value) {
  TRYV(refuse_empty(field, value));
  TRYV(refuse_longer(field, value, path_limit - 1));
  return check_controls(field, value);
}

Result<std::string> to_path(std::string_view field, std::string_view value) {
  TRYV(check_path_text(field, value));
  if (value.front() != '/') {
    return make_error(ErrorCode::invalid_argument, fmt::format("{} must be an absolute path, not {}", field, quote(value)));
  }
  std::string path;
  for (std::size_t begin = 0; begin < value.size();) {
    const auto end = std::min(value.find('/', begin), value.size());
    const auto component = value.substr(begin, end - begin);
    if (component == "..") {
      return make_error(ErrorCode::invalid_argument, fmt::format("{} must not have a \"..\" in it: {}", field, quote(value)));
    }
    if (!component.empty() && component != ".") {
      path += '/';
      path += component;
    }
    begin = end + 1;
  }
  return path.empty() ? std::string{"/"} : path;
}

Result<std::string> to_optional_path(std::string_view field, std::string_view value) {
  if (value.empty()) {
    return std::string{};
  }
  return to_path(field, value);
}

}  // namespace ordinald::csi
