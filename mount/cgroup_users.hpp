#pragma once

#include <string>

#include "mount/result.hpp"
#include "mount/types.hpp"

/// Who of a workload still has a volume (cgroups(7), proc(5)). Stateless, any thread.
namespace ordinald::mount {

/// `root`: where control groups are mounted: a unified hierarchy, or a directory with those of version 1. A group is searched as
/// find_groups says. A group or a process that can't be read is an error, or counts as unseen: never as gone.
Result<CgroupUsers> find_cgroup_users(const CgroupQuery& query, const std::string& root);

}  // namespace ordinald::mount
