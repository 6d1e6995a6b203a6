#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

/// Files of /proc and /sys as text in, values out. Names in them are anybody's to choose: a program's may look like the rest of its line.
/// Pure; any thread.
namespace ordinald::mount {

/// Field 22 of proc_pid_stat(5), in clock ticks since boot.
std::optional<std::uint64_t> start_time_in(std::string_view stat);

/// Whether a process has a file mapped of a device (a dev_t) that `is_its` says yes to (proc_pid_maps(5)).
bool maps_any_of(const std::string& maps, const std::function<bool(std::uint64_t)>& is_its);

/// The processes in a cgroup.procs (cgroups(7)). `unseen` is added those of other pid namespaces, which are listed as 0.
void add_processes_in(const std::string& procs, std::vector<std::int64_t>& pids, std::uint64_t& unseen);

/// The pid of who has the flock(2) on the inode (proc_locks(5)); nullopt: nobody that can be seen from here.
std::optional<std::string> flock_holder_in(const std::string& locks, std::uint64_t inode);

/// `mnt_id` of proc_pid_fdinfo(5).
std::optional<std::uint64_t> mount_id_in(std::string_view fdinfo);

}  // namespace ordinald::mount
