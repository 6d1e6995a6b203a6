#pragma once

#include <string>
#include <string_view>

/// Of absolute and normal paths, by their text. Pure; any thread.
namespace ordinald::agent {

/// Whether `path` is `directory` or beneath it.
inline bool is_within(std::string_view path, std::string_view directory) {
  return path == directory || (path.starts_with(directory) && (directory.ends_with('/') || path[directory.size()] == '/'));
}

inline std::string directory_of(const std::string& path) { return path.substr(0, path.rfind('/')); }
inline std::string file_of(const std::string& path) { return path.substr(path.rfind('/') + 1); }

}  // namespace ordinald::agent
