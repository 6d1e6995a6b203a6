#include "mount/cgroup_users.hpp"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <map>
#include <sstream>

#include "mount/files.hpp"
#include "mount/mountinfo.hpp"

namespace ordinald::mount {
namespace {

constexpr int deepest = 8;

bool has_magic(const std::string& path, std::uint64_t magic) {
  struct statfs status{};
  return ::statfs(path.c_str(), &status) == 0 && static_cast<std::uint64_t>(status.f_type) == magic;
}

/// The hierarchies in which every process has a place that its manager gave it.
std::vector<std::string> hierarchies(const std::string& root) {
  if (has_magic(root, CGROUP2_SUPER_MAGIC)) {
    // Only the root of all has no type: what is mounted here is a part of the hierarchy, in a cgroup namespace of our own.
    const bool part = ::access((root + "/cgroup.type").c_str(), F_OK) == 0;
    return part ? std::vector<std::string>{} : std::vector{root};
  }
  std::vector<std::string> found;
  for (const char* name : {"/systemd", "/unified"}) {
    if (const std::string path = root + name; has_magic(path, CGROUP_SUPER_MAGIC) || has_magic(path, CGROUP2_SUPER_MAGIC)) {
      found.push_back(path);
    }
  }
  return found;
}

bool is_asked_for(const std::string& name, const CgroupQuery& query) {
  return std::ranges::any_of(
      query.names, [&](std::string_view asked) { return asked.starts_with('*') ? name.ends_with(asked.substr(1)) : name == asked; });
}

/// Below it are the groups of containers and of single services.
bool is_leaf(const std::string& name) {
  return name.starts_with("pod") || name.find("-pod") != std::string::npos || name.ends_with(".scope") || name.ends_with(".service");
}

/// Calls `visit` with each directory in it; a group that goes meanwhile has none.
template <class Visit>
void each_child(const std::string& directory, Visit visit) {
  const DirectoryStream stream{::opendir(directory.c_str())};
  while (stream) {
    const dirent* entry = ::readdir(stream.get());
    if (entry == nullptr) {
      return;
    }
    const std::string name{static_cast<const char*>(entry->d_name)};
    if (entry->d_type == DT_DIR && name != "." && name != "..") {
      visit(name);
    }
  }
}

void find_groups(const std::string& directory, const CgroupQuery& query, int depth, std::vector<std::string>& found) {
  each_child(directory, [&](const std::string& name) {
    const std::string path = directory + "/" + name;
    if (is_asked_for(name, query)) {
      found.push_back(path);
    } else if (depth < deepest && !is_leaf(name)) {
      find_groups(path, query, depth + 1, found);
    }
  });
}

void list_processes(const std::string& group, std::vector<std::int64_t>& pids, std::uint64_t& unseen) {
  const auto text = read_kernel_file(group + "/cgroup.procs");
  if (text) {
    std::istringstream lines{text.value()};
    for (std::int64_t pid = 0; lines >> pid;) {
      if (pid == 0) {
        ++unseen;
      } else {
        pids.push_back(pid);
      }
    }
  } else if (text.error().sys_errno != ENOENT && text.error().sys_errno != ENODEV) {
    ++unseen;
  }
  each_child(group, [&](const std::string& name) { list_processes(group + "/" + name, pids, unseen); });
}

/// One process; knows what counts as having the volume.
class Process {
 public:
  /// `namespaces`: what is known already of mount namespaces, by inode: the processes of a workload share few.
  Process(std::int64_t pid, const CgroupQuery& query, std::map<ino_t, std::string>& namespaces)
      : directory_("/proc/" + std::to_string(pid)), query_(query), namespaces_(namespaces) {}

  /// Where it has it; empty: nowhere. An error: it can't be looked into.
  Result<std::string> has_it_at() const {
    TRY(const auto mounted, mounted_at());
    if (!mounted.empty()) {
      return mounted;
    }
    return open_at();
  }

  [[nodiscard]] std::string command() const {
    auto name = read_kernel_file(directory_ + "/comm");
    return name ? std::move(name).value() : std::string{};
  }

 private:
  static bool has_ended(const Error& error) {
    return error.sys_errno == ENOENT || error.sys_errno == ESRCH || error.code == ErrorCode::not_found;
  }

  /// In our own namespace the stage is mounted for everybody, which says nothing of this process.
  Result<std::string> mounted_at() const {
    struct stat own{};
    struct stat its{};
    if (::stat("/proc/self/ns/mnt", &own) != 0 || ::stat((directory_ + "/ns/mnt").c_str(), &its) != 0) {
      return errno == ENOENT || errno == ESRCH ? Result<std::string>{std::string{}} : errno_error(errno, directory_ + "/ns/mnt");
    }
    if (own.st_ino == its.st_ino) {
      return std::string{};
    }
    if (const auto known = namespaces_.find(its.st_ino); known != namespaces_.end()) {
      return known->second;
    }
    const auto text = read_kernel_file(directory_ + "/mountinfo");
    if (!text) {
      return has_ended(text.error()) ? Result<std::string>{std::string{}} : text.error();
    }
    TRY(const auto table, parse_mountinfo(text.value()));
    const auto found = std::ranges::find_if(table, [&](const MountEntry& entry) {
      const bool node = entry.fs_type == "devtmpfs" && entry.root == query_.device.path.substr(query_.device.path.rfind('/'));
      return node || is_of_device(entry, query_.device) || (query_.filesystem != 0 && entry.device == query_.filesystem);
    });
    return namespaces_[its.st_ino] = found == table.end() ? std::string{} : found->mount_point;
  }

  Result<std::string> open_at() const {
    for (const char* name : {"/cwd", "/root", "/exe"}) {
      if (is_of_volume(directory_ + name)) {
        return target_of(directory_ + name);
      }
    }
    const DirectoryStream files{::opendir((directory_ + "/fd").c_str())};
    if (!files) {
      return errno == ENOENT || errno == ESRCH ? Result<std::string>{std::string{}} : errno_error(errno, directory_ + "/fd");
    }
    while (const dirent* entry = ::readdir(files.get())) {
      const std::string path = directory_ + "/fd/" + static_cast<const char*>(entry->d_name);
      if (entry->d_type == DT_LNK && is_of_volume(path)) {
        return target_of(path);
      }
    }
    return mapped();
  }

  /// Through the magic link: never a path, and so no other file. DONT_SYNC: what the kernel knows already, no device is asked.
  [[nodiscard]] bool is_of_volume(const std::string& link) const {
    struct statx status{};
    if (::statx(AT_FDCWD, link.c_str(), AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_TYPE, &status) != 0) {
      return false;
    }
    const std::uint64_t filesystem = makedev(status.stx_dev_major, status.stx_dev_minor);
    const bool node = S_ISBLK(status.stx_mode) && makedev(status.stx_rdev_major, status.stx_rdev_minor) == query_.device.number;
    return node || is_its(filesystem);
  }
  [[nodiscard]] bool is_its(std::uint64_t filesystem) const {
    return filesystem == query_.device.number || (query_.filesystem != 0 && filesystem == query_.filesystem);
  }

  static std::string target_of(const std::string& link) {
    std::array<char, PATH_MAX> path{};
    const ssize_t size = ::readlink(link.c_str(), path.data(), path.size());
    return size < 0 ? link : std::string{path.data(), static_cast<std::size_t>(size)};
  }

  /// Files that are mapped and not open any more: the fourth word of a line of maps is the device.
  Result<std::string> mapped() const {
    const auto text = read_kernel_file(directory_ + "/maps");
    if (!text) {
      return has_ended(text.error()) ? Result<std::string>{std::string{}} : text.error();
    }
    std::istringstream lines{text.value()};
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
        return "a mapped file";
      }
    }
    return std::string{};
  }

  std::string directory_;
  const CgroupQuery& query_;
  std::map<ino_t, std::string>& namespaces_;
};

}  // namespace

Result<CgroupUsers> find_cgroup_users(const CgroupQuery& query, const std::string& root) {
  CgroupUsers result;
  std::vector<std::string> groups;
  for (const std::string& hierarchy : hierarchies(root)) {
    result.visible = true;
    find_groups(hierarchy, query, 0, groups);
  }
  result.found = !groups.empty();
  std::vector<std::int64_t> pids;
  for (const std::string& group : groups) {
    list_processes(group, pids, result.unseen);
  }
  std::ranges::sort(pids);
  const auto repeated = std::ranges::unique(pids);
  pids.erase(repeated.begin(), repeated.end());
  std::map<ino_t, std::string> namespaces;
  for (const std::int64_t pid : pids) {
    const Process process{pid, query, namespaces};
    const auto where = process.has_it_at();
    if (!where) {
      ++result.unseen;
    } else if (!where.value().empty()) {
      result.users.push_back({.pid = pid, .command = process.command(), .mount_point = where.value(), .mount_namespace = 0});
    }
  }
  return result;
}

}  // namespace ordinald::mount
