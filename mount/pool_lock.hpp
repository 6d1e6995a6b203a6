#pragma once

#include <cstdint>
#include <string>

#include "mount/result.hpp"
#include "mount/unique_fd.hpp"

namespace ordinald::mount {

/// A pool's directory, opened by whoever may wait for it, and how to tell it from another.
struct PoolDirectory {
  UniqueFd fd{};  ///< passed between the agent's processes beside the message, not in it
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  std::string mark{};  ///< pool_mark.hpp
  void fields(auto& f) { f(device, inode, mark); }
};

/// not_found: it is missing. May wait for what lies below it.
Result<PoolDirectory> open_pool_directory(const std::string& path);

/// Takes the directory for this process: flock(2) on the directory itself, which makes nothing in it, works on a full or read-only file
/// system, and never asks what lies below (of a directory the kernel keeps such locks by itself, on FUSE and NFS too: so it holds against
/// other agents on this node, in whatever container, and not against other nodes). It ends with the process and with the descriptor;
/// none of the agent's other processes has that, so what hangs of an agent that was killed keeps no successor out.
/// failed_precondition: another process has it, and which. Never waits.
Result<void> lock_pool_directory(const PoolDirectory& directory, const std::string& path);

}  // namespace ordinald::mount
