#pragma once

#include <string>
#include <string_view>

#include "agent/volume_record.hpp"
#include "mount/types.hpp"

/// What a file in a pool is called that is an image, and not whole yet: `.<id>.img.new`. Pure functions; any thread.
namespace ordinald::agent {

/// The volume that it is to be; empty: no volume could have that name.
inline std::string half_made_volume(std::string_view file) {
  constexpr std::string_view ending = ".img.new";
  const bool named = file.starts_with('.') && file.ends_with(ending) && file.size() > ending.size() + 1;
  const std::string id{named ? file.substr(1, file.size() - 1 - ending.size()) : std::string_view{}};
  return is_volume_id(id) ? id : std::string{};
}

/// Whether a create left it, and nobody else can have: it has the volume's mark, or none yet and an id as only we give, or nothing in it.
inline bool is_half_made(const mount::PoolImage& image) {
  const std::string id = half_made_volume(image.file);
  if (id.empty() || !image.volume_id.empty()) {
    return !id.empty() && image.volume_id == id;
  }
  return is_made_id(id) || image.allocated == 0;
}

/// For the report of what is left.
inline std::string describe_no_half_made(const std::string& path, const mount::PoolImage& image) {
  return path + " is called as an image that is being made, and " +
         (image.volume_id.empty() ? "has no mark of a volume" : "has the mark of volume " + image.volume_id) +
         ": it may be a person's, and is left alone; whoever needs it gives it another name";
}

}  // namespace ordinald::agent
