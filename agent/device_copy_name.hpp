#pragma once

#include <string>
#include <string_view>

/// What the copy of a block device is called in a pool until it is adopted: `.sdb1+copy.img.new`.
///
/// The pool lists it as it lists a half-made image, so that its size is promised and its blocks are counted as long as it is there. No
/// volume has an id with a `+`, so it is never taken for one, and no repair for what a create has left: an hour's work may be going on.
namespace ordinald::agent {

inline constexpr std::string_view device_copy_ending = "+copy.img.new";

inline bool is_device_copy(std::string_view file) { return file.starts_with('.') && file.ends_with(device_copy_ending); }

/// Of two devices with the same last name only one is copied at a time.
inline std::string device_copy_name(const std::string& device) {
  return "." + device.substr(device.rfind('/') + 1) + std::string{device_copy_ending};
}

/// For the report of what is left.
inline std::string describe_device_copy(const std::string& path) {
  return path + ": the copy of a block device by ordinalctl adopt, which is at it or was interrupted; run again, it begins anew there";
}

}  // namespace ordinald::agent
