#include "mount/mount_flags.hpp"

#include <sstream>

namespace ordinald::mount {
namespace {

/// True when `flag` was the mount point's.
bool apply_flag(MountAttributes& attributes, const std::string& flag) {
  struct Switch {
    std::string_view name;
    bool MountAttributes::* member;
    bool value;
  };
  static constexpr Switch switches[] = {
      {"ro", &MountAttributes::read_only, true},
      {"rw", &MountAttributes::read_only, false},
      {"nosuid", &MountAttributes::no_suid, true},
      {"suid", &MountAttributes::no_suid, false},
      {"nodev", &MountAttributes::no_dev, true},
      {"dev", &MountAttributes::no_dev, false},
      {"noexec", &MountAttributes::no_exec, true},
      {"exec", &MountAttributes::no_exec, false},
      {"nodiratime", &MountAttributes::no_dir_atime, true},
      {"diratime", &MountAttributes::no_dir_atime, false},
  };
  for (const Switch& entry : switches) {
    if (flag == entry.name) {
      attributes.*entry.member = entry.value;
      return true;
    }
  }
  if (flag == "noatime") {
    attributes.atime = AccessTime::noatime;
  } else if (flag == "strictatime") {
    attributes.atime = AccessTime::strictatime;
  } else if (flag == "relatime" || flag == "atime") {
    attributes.atime = AccessTime::relatime;
  } else {
    return flag == "defaults" || flag.empty();
  }
  return true;
}

}  // namespace

MountFlags split_mount_flags(const std::vector<std::string>& flags) {
  MountFlags result;
  for (std::uint32_t place = 0; place < flags.size(); ++place) {
    std::istringstream parts{flags[place]};
    std::string part;
    while (std::getline(parts, part, ',')) {
      if (!apply_flag(result.attributes, part)) {
        result.options.push_back(part);
        result.places.push_back(place);
      }
    }
  }
  return result;
}

bool has_option(const MountFlags& flags, std::string_view key) {
  for (const std::string& option : flags.options) {
    if (option == key || (option.starts_with(key) && option.size() > key.size() && option[key.size()] == '=')) {
      return true;
    }
  }
  return false;
}

}  // namespace ordinald::mount
