#pragma once

#include <google/protobuf/map.h>

#include <cstddef>
#include <string>
#include <string_view>

#include "csi/volume_ops.hpp"
#include "mount/result.hpp"

/// Checks of single values, for csi/convert. Each names the field when it refuses (invalid_argument), and the value only where that is no
/// secret. The limits are CSI's ("Size Limits"). Free functions without state.
namespace ordinald::csi {

using mount::Result;
using ProtoMap = google::protobuf::Map<std::string, std::string>;

inline constexpr std::size_t string_limit = 128;
inline constexpr std::size_t map_limit = 4096;
inline constexpr std::size_t path_limit = 4096;  ///< PATH_MAX, its NUL included

/// Refuses the characters that CSI refuses in names: U+0000–0008, 000B, 000C, 000E–001F, 007F–009F.
Result<void> check_controls(std::string_view field, std::string_view value);

/// As check_controls; refuses more than 128 bytes too.
Result<void> check_text(std::string_view field, std::string_view value);

/// As check_text; refuses an empty one too.
Result<void> check_required(std::string_view field, std::string_view value);

/// Refuses a map whose keys and values are more than 4 KiB together.
Result<void> check_map(std::string_view field, const ProtoMap& map);

/// The map, checked.
Result<StringMap> to_map(std::string_view field, const ProtoMap& map);

/// A path as far as it can be judged before it is known whose it is: neither empty nor longer than PATH_MAX, no character that CSI refuses
/// in names. It may still be relative or hold `..`.
Result<void> check_path_text(std::string_view field, std::string_view value);

/// An absolute path without `..`, with its repeated slashes, `.` components and trailing slash taken out, so that equal paths are equal
/// strings. Lexical: nothing is looked up.
Result<std::string> to_path(std::string_view field, std::string_view value);

/// As to_path, with empty for empty.
Result<std::string> to_optional_path(std::string_view field, std::string_view value);

}  // namespace ordinald::csi
