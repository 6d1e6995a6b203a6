#pragma once

#include <sys/types.h>

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "mount/result.hpp"
#include "mount/types.hpp"

/// Whether one process has a volume (proc(5)): mounted in a namespace of its own, open, mapped, or as one of its directories. Any thread.
namespace ordinald::mount {

/// What is known already of mount namespaces, as seen from a root directory: the processes of a workload share few.
struct View {
  ino_t name_space = 0;
  dev_t root_device = 0;
  ino_t root = 0;
  auto operator<=>(const View&) const = default;
};

/// One search, and what it has found out on its way. `query` must outlive it.
struct Search {
  const CgroupQuery& query;
  std::map<View, std::string> views{};
  std::optional<std::uint64_t> btrfs_number{};  ///< as mountinfo and maps have it; 0: it is not mounted here
};

/// How a process has the volume.
struct ProcessUse {
  std::string at{};  ///< empty: it doesn't have it
  std::uint64_t mount_namespace = 0;
  bool ended = false;     ///< it is gone, or a zombie
  std::string command{};  ///< of one that has it, or that is asked for whatever it has
};

/// An error: the process can't be looked into.
Result<ProcessUse> look_at_process(std::int64_t pid, Search& search);

}  // namespace ordinald::mount
