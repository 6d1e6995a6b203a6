#include "mount/proc_text.hpp"

#include <sys/sysmacros.h>

#include <charconv>
#include <cstdio>
#include <sstream>

namespace ordinald::mount {

std::optional<std::uint64_t> start_time_in(std::string_view stat) {
  // The command, in parentheses, may hold anything, blanks and parentheses too: count from the last one. State is field 3.
  std::size_t at = stat.rfind(')');
  for (int field = 2; at != std::string_view::npos && field < 22; ++field) at = stat.find(' ', at + 1);
  std::uint64_t ticks = 0;
  if (at == std::string_view::npos || std::from_chars(stat.data() + at + 1, stat.data() + stat.size(), ticks).ec != std::errc{}) {
    return std::nullopt;
  }
  return ticks;
}

bool maps_any_of(const std::string& maps, const std::function<bool(std::uint64_t)>& is_its) {
  std::istringstream lines{maps};
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words{line};
    std::string range;
    std::string mode;
    std::string offset;
    std::string device;
    words >> range >> mode >> offset >> device;
    unsigned device_major = 0;
    unsigned device_minor = 0;
    if (std::sscanf(device.c_str(), "%x:%x", &device_major, &device_minor) == 2 && is_its(makedev(device_major, device_minor))) {
      return true;
    }
  }
  return false;
}

void add_processes_in(const std::string& procs, std::vector<std::int64_t>& pids, std::uint64_t& unseen) {
  std::istringstream lines{procs};
  for (std::int64_t pid = 0; lines >> pid;) {
    if (pid == 0) {
      ++unseen;
    } else {
      pids.push_back(pid);
    }
  }
}

std::optional<std::string> flock_holder_in(const std::string& locks, std::uint64_t inode) {
  std::istringstream lines{locks};
  for (std::string line; std::getline(lines, line);) {
    // 3: FLOCK  ADVISORY  WRITE 4711 fd:01:1234567 0 EOF
    std::istringstream words{line};
    std::string number;
    std::string kind;
    std::string mode;
    std::string access;
    std::string pid;
    std::string file;
    words >> number >> kind >> mode >> access >> pid >> file;
    const bool seen = !pid.empty() && pid != "0" && pid.find_first_not_of("0123456789") == std::string::npos;
    if (kind == "FLOCK" && access == "WRITE" && file.ends_with(":" + std::to_string(inode)) && seen) {
      return pid;
    }
  }
  return std::nullopt;
}

std::optional<std::uint64_t> mount_id_in(std::string_view fdinfo) {
  constexpr std::string_view key = "mnt_id:";
  const auto at = fdinfo.find(key);
  const auto digit = at == std::string_view::npos ? at : fdinfo.find_first_of("0123456789", at);
  std::uint64_t id = 0;
  if (digit == std::string_view::npos || std::from_chars(fdinfo.data() + digit, fdinfo.data() + fdinfo.size(), id).ec != std::errc{}) {
    return std::nullopt;
  }
  return id;
}

}  // namespace ordinald::mount
