#pragma once

#include <sys/types.h>

#include <compare>
#include <cstdint>
#include <map>
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
using Views = std::map<View, std::string>;

/// How a process has the volume.
struct ProcessUse {
  std::string at{};  ///< empty: it doesn't have it
  std::uint64_t mount_namespace = 0;
  bool ended = false;     ///< it is gone, or a zombie
  std::string command{};  ///< of one that has it, or that is asked for whatever it has
};

/// `views` is shared by the looks of one search. An error: the process can't be looked into.
Result<ProcessUse> look_at_process(std::int64_t pid, const CgroupQuery& query, Views& views);

}  // namespace ordinald::mount
