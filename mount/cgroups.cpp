#include "mount/cgroups.hpp"

#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "mount/files.hpp"
#include "mount/proc_text.hpp"

namespace ordinald::mount {
namespace {

constexpr int deepest = 8;
constexpr int deepest_anywhere = 32;
/// The inode of the host's own pid namespace (PROC_PID_INIT_INO of the kernel).
constexpr ino_t host_pids = 0xEFFFFFFC;

bool has_magic(const std::string& path, std::uint64_t magic) {
  struct statfs status{};
  return ::statfs(path.c_str(), &status) == 0 && static_cast<std::uint64_t>(status.f_type) == magic;
}

bool exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

bool sees_host_pids() {
  struct stat status{};
  return ::stat("/proc/self/ns/pid", &status) == 0 && status.st_ino == host_pids;
}

/// Where it is mounted whole, and not a part of it, in a cgroup namespace of our own: only the root of all has no type (unified), or has a
/// release agent (version 1).
bool is_whole(const Cgroup& hierarchy) {
  return hierarchy.unified ? !exists(hierarchy.path + "/cgroup.type") : exists(hierarchy.path + "/release_agent");
}

bool is_asked_for(const std::string& name, const std::vector<std::string>& names) {
  return std::ranges::any_of(
      names, [&](std::string_view asked) { return asked.starts_with('*') ? name.ends_with(asked.substr(1)) : name == asked; });
}

/// `pod<uid>`, `…-pod<uid>.slice`: told from other names that have the word, such as a slice of somebody's, by the uid's length.
bool is_pod(std::string_view name) {
  constexpr std::size_t shortest_uid = 32;  // a hash, or a UUID with four dashes
  if (name.ends_with(".slice")) {
    name.remove_suffix(std::string_view{".slice"}.size());
  }
  const auto word = name.starts_with("pod") ? 0 : name.rfind("-pod");
  if (word == std::string_view::npos) {
    return false;
  }
  const std::string_view uid = name.substr(word + (word == 0 ? 3 : 4));
  return uid.size() >= shortest_uid && uid.find_first_not_of("0123456789abcdef-_") == std::string_view::npos;
}

/// Below it are the groups of containers, or of one unit; and seldom those of a kubelet's pods, where that runs in one.
bool is_leaf(const std::string& name) {
  constexpr std::array units{".scope", ".service", ".mount", ".swap", ".socket"};
  return is_pod(name) || std::ranges::any_of(units, [&](const char* unit) { return name.ends_with(unit); });
}

/// A directory of this kind counts its children among its links: most have none, and asking that is much less than listing it.
bool has_children(const std::string& group) {
  struct stat status{};
  return ::stat(group.c_str(), &status) != 0 || status.st_nlink != 2;
}

Result<void> search(const Cgroup& in, const std::string& directory, const std::vector<std::string>& names, bool anywhere, int depth,
                    std::vector<Cgroup>& found) {
  return each_entry(directory, DT_DIR, [&](const std::string& name) -> Result<void> {
    const std::string path = directory + "/" + name;
    const bool deeper = anywhere ? depth < deepest_anywhere && !is_pod(name) : depth < deepest && !is_leaf(name);
    if (is_asked_for(name, names)) {
      found.push_back({.path = path, .unified = in.unified});
    } else if (deeper && has_children(path)) {
      return search(in, path, names, anywhere, depth + 1, found);
    }
    return success();
  });
}

/// Adds the processes in it; the unseen ones are counted. Version 1 leaves those out that are of another pid namespace.
void list_own_processes(const Cgroup& group, std::vector<std::int64_t>& pids, std::uint64_t& unseen) {
  const auto text = read_kernel_file(group.path + "/cgroup.procs");
  if (!text) {
    unseen += means_gone(text.error().sys_errno) ? 0 : 1;
    return;
  }
  add_processes_in(text.value(), pids, unseen);
}

void list_all_processes(const Cgroup& group, std::vector<std::int64_t>& pids, std::uint64_t& unseen) {
  list_own_processes(group, pids, unseen);
  const auto listed = each_entry(group.path, DT_DIR, [&](const std::string& name) {
    list_all_processes({.path = group.path + "/" + name, .unified = group.unified}, pids, unseen);
    return Result<void>{success()};
  });
  unseen += listed ? 0 : 1;
}

}  // namespace

Result<std::vector<Cgroup>> find_hierarchies(const std::string& root) {
  if (has_magic(root, CGROUP2_SUPER_MAGIC)) {
    const Cgroup unified{.path = root, .unified = true};
    return is_whole(unified) ? std::vector{unified} : std::vector<Cgroup>{};
  }
  std::vector<Cgroup> all;
  TRYV(each_entry(root, DT_DIR, [&](const std::string& name) -> Result<void> {
    const Cgroup here{.path = root + "/" + name, .unified = has_magic(root + "/" + name, CGROUP2_SUPER_MAGIC)};
    if ((here.unified || has_magic(here.path, CGROUP_SUPER_MAGIC)) && is_whole(here)) {
      all.push_back(here);
    }
    return success();
  }));
  const std::string systemd = root + "/systemd";
  if (std::ranges::find(all, systemd, &Cgroup::path) != all.end()) {
    std::erase_if(all, [&](const Cgroup& each) { return !each.unified && each.path != systemd; });
  }
  return all;
}

Result<std::vector<Cgroup>> find_groups(const std::vector<Cgroup>& hierarchies, const std::vector<std::string>& names) {
  std::vector<Cgroup> groups;
  for (const bool anywhere : {false, true}) {
    for (const Cgroup& hierarchy : hierarchies) {
      TRYV(search(hierarchy, hierarchy.path, names, anywhere, 0, groups));
    }
    if (!groups.empty()) {
      break;
    }
  }
  return groups;
}

std::vector<std::int64_t> list_processes(const std::vector<Cgroup>& groups, std::uint64_t& unseen) {
  std::vector<std::int64_t> pids;
  for (const Cgroup& group : groups) {
    const std::size_t before = pids.size();
    list_all_processes(group, pids, unseen);
    if (pids.size() == before && !group.unified && !sees_host_pids() && exists(group.path)) {
      ++unseen;
    }
  }
  std::ranges::sort(pids);
  const auto repeated = std::ranges::unique(pids);
  pids.erase(repeated.begin(), repeated.end());
  return pids;
}

std::uint64_t count_unseen(const std::vector<Cgroup>& hierarchies) {
  std::uint64_t unseen = 0;
  std::vector<std::int64_t> pids;
  bool unified = true;
  for (const Cgroup& hierarchy : hierarchies) {
    list_own_processes(hierarchy, pids, unseen);
    unified = unified && hierarchy.unified;
  }
  struct stat first{};
  const bool forbidden = ::stat("/proc/1/ns/mnt", &first) != 0;
  return unseen + (forbidden || (!unified && !sees_host_pids()) ? 1 : 0);
}

}  // namespace ordinald::mount
