#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mount/result.hpp"
#include "mount/types.hpp"

/// Control groups by their names (cgroups(7)), the unified hierarchy and version 1. Stateless, any thread.
namespace ordinald::mount {

/// A group, or the root of a hierarchy of them.
struct Cgroup {
  std::string path;
  bool unified = false;
};

/// The hierarchies in which every process has a place that its manager gave it: the unified one; of version 1 systemd's, which container
/// runtimes join too, with the unified one beside it; without systemd all that there are. One of which only a part is seen, in a cgroup
/// namespace, is left out. `root`: where they are mounted, as kernel.hpp says.
Result<std::vector<Cgroup>> find_hierarchies(const std::string& root);

/// The groups of these names (`*` before one: those that end so), beneath slices and plain groups. Where none is there, also beneath
/// scopes and services: mostly those have none or containers' only, but a kubelet may itself be in one. Not beneath pods. One that can't be
/// read is an error, never empty.
Result<std::vector<Cgroup>> find_groups(const std::vector<Cgroup>& hierarchies, const std::vector<std::string>& names);

/// The processes of the groups and of those beneath them, each once. What can't be told is counted in `unseen`.
std::vector<std::int64_t> list_processes(const std::vector<Cgroup>& groups, std::uint64_t& unseen);

/// Whether every process of the host could be looked into: 0, or how much can't be.
std::uint64_t count_unseen(const std::vector<Cgroup>& hierarchies);

}  // namespace ordinald::mount
