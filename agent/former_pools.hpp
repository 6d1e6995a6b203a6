#pragma once

#include "agent/core.hpp"

/// Pools that are configured no more and have volumes left, by their records. These can't be served, and what they were promised lies where
/// it lay: on the file system of another pool, it may be, whose room must not be promised twice.
namespace ordinald::agent {

/// With the directories where they were when they were configured; empty where that isn't known. Each volume weighs what it is.
std::vector<PoolConfig> find_former_pools(const Core& core);

/// The former pool's file system and its images. not_found: its directory is not known, missing, or another by now.
Result<mount::PoolUsage> look_at_former_pool(const Core& core, mount::Kernel& kernel, const PoolConfig& pool);

/// As it counts for others. One that can't be looked at may be on any file system, and then all of it is still to come: that is logged,
/// once. `others`: the pools that it is looked at for, whose images are counted already: it may be one of these, by another name.
PoolView view_former_pool(const Core& core, const PoolConfig& pool, const Result<mount::PoolUsage>& usage,
                          const std::vector<PoolView>& others);

/// How many volumes it has left, and what they are promised.
struct FormerPromises {
  std::uint64_t volumes = 0;
  std::uint64_t bytes = 0;
};
FormerPromises promises_of(const Core& core, const std::string& pool);

}  // namespace ordinald::agent
