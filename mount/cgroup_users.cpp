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
#include <cstdlib>
#include <map>
#include <set>
#include <sstream>

#include "mount/files.hpp"
#include "mount/mountinfo.hpp"

namespace ordinald::mount {
namespace {

constexpr int deepest = 8;
/// How often a group is listed again because processes of it ended while they were looked at: those may have forked others.
constexpr int most_rounds = 8;
/// The inode of the host's own pid namespace (PROC_PID_INIT_INO of the kernel).
constexpr ino_t host_pids = 0xEFFFFFFC;

struct Hierarchy {
  std::string path;
  bool unified = false;
};

bool has_magic(const std::string& path, std::uint64_t magic) {
  struct statfs status{};
  return ::statfs(path.c_str(), &status) == 0 && static_cast<std::uint64_t>(status.f_type) == magic;
}

bool exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

bool sees_host_pids() {
  struct stat status{};
  return ::stat("/proc/self/ns/pid", &status) == 0 && status.st_ino == host_pids;
}

bool means_gone(int error) { return error == ENOENT || error == ENODEV || error == ESRCH; }

/// Calls `visit` with each name in it. A directory that goes meanwhile has none; one that can't be read is an error, never empty.
template <class Visit>
Result<void> each_entry(const std::string& directory, unsigned char type, Visit visit) {
  const DirectoryStream stream{::opendir(directory.c_str())};
  if (!stream) {
    return means_gone(errno) ? success() : Result<void>{errno_error(errno, "listing " + directory)};
  }
  while (true) {
    errno = 0;
    const dirent* entry = ::readdir(stream.get());
    if (entry == nullptr) {
      return errno == 0 || means_gone(errno) ? success() : Result<void>{errno_error(errno, "listing " + directory)};
    }
    const std::string name{static_cast<const char*>(entry->d_name)};
    if (entry->d_type == type && name != "." && name != "..") {
      TRYV(visit(name));
    }
  }
}

/// Where it is mounted whole, and not a part of it, in a cgroup namespace of our own: only the root of all has no type (unified), or has a
/// release agent (version 1).
bool is_whole(const Hierarchy& hierarchy) {
  return hierarchy.unified ? !exists(hierarchy.path + "/cgroup.type") : exists(hierarchy.path + "/release_agent");
}

/// The hierarchies in which every process has a place that its manager gave it: the unified one; of version 1 systemd's, which container
/// runtimes join too, with the unified one beside it; without systemd all that there are.
Result<std::vector<Hierarchy>> hierarchies(const std::string& root) {
  if (has_magic(root, CGROUP2_SUPER_MAGIC)) {
    const Hierarchy unified{.path = root, .unified = true};
    return is_whole(unified) ? std::vector{unified} : std::vector<Hierarchy>{};
  }
  std::vector<Hierarchy> all;
  TRYV(each_entry(root, DT_DIR, [&](const std::string& name) -> Result<void> {
    const Hierarchy here{.path = root + "/" + name, .unified = has_magic(root + "/" + name, CGROUP2_SUPER_MAGIC)};
    if ((here.unified || has_magic(here.path, CGROUP_SUPER_MAGIC)) && is_whole(here)) {
      all.push_back(here);
    }
    return success();
  }));
  const std::string systemd = root + "/systemd";
  if (std::ranges::find(all, systemd, &Hierarchy::path) != all.end()) {
    std::erase_if(all, [&](const Hierarchy& each) { return !each.unified && each.path != systemd; });
  }
  return all;
}

bool is_asked_for(const std::string& name, const CgroupQuery& query) {
  return std::ranges::any_of(
      query.names, [&](std::string_view asked) { return asked.starts_with('*') ? name.ends_with(asked.substr(1)) : name == asked; });
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

/// Below it are the groups of containers, or of one unit.
bool is_leaf(const std::string& name) {
  constexpr std::array units{".scope", ".service", ".mount", ".swap", ".socket"};
  return is_pod(name) || std::ranges::any_of(units, [&](const char* unit) { return name.ends_with(unit); });
}

/// A directory of this kind counts its children among its links: most have none, and asking that is much less than listing it.
bool has_children(const std::string& group) {
  struct stat status{};
  return ::stat(group.c_str(), &status) != 0 || status.st_nlink != 2;
}

Result<void> find_groups(const Hierarchy& in, const std::string& directory, const CgroupQuery& query, int depth,
                         std::vector<Hierarchy>& found) {
  return each_entry(directory, DT_DIR, [&](const std::string& name) -> Result<void> {
    const std::string path = directory + "/" + name;
    if (is_asked_for(name, query)) {
      found.push_back({.path = path, .unified = in.unified});
    } else if (depth < deepest && !is_leaf(name) && has_children(path)) {
      return find_groups(in, path, query, depth + 1, found);
    }
    return success();
  });
}

/// Adds the processes in it; the unseen ones are counted. Version 1 leaves those out that are of another pid namespace.
void list_own_processes(const Hierarchy& group, std::vector<std::int64_t>& pids, std::uint64_t& unseen) {
  const auto text = read_kernel_file(group.path + "/cgroup.procs");
  if (!text) {
    unseen += means_gone(text.error().sys_errno) ? 0 : 1;
    return;
  }
  std::istringstream lines{text.value()};
  for (std::int64_t pid = 0; lines >> pid;) {
    if (pid == 0) {
      ++unseen;
    } else {
      pids.push_back(pid);
    }
  }
}

void list_all_processes(const Hierarchy& group, std::vector<std::int64_t>& pids, std::uint64_t& unseen) {
  list_own_processes(group, pids, unseen);
  const auto listed = each_entry(group.path, DT_DIR, [&](const std::string& name) {
    list_all_processes({.path = group.path + "/" + name, .unified = group.unified}, pids, unseen);
    return Result<void>{success()};
  });
  unseen += listed ? 0 : 1;
}

/// The processes of the groups, each once.
std::vector<std::int64_t> list_processes(const std::vector<Hierarchy>& groups, std::uint64_t& unseen) {
  std::vector<std::int64_t> pids;
  for (const Hierarchy& group : groups) {
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

/// What is known already of mount namespaces, as seen from a root directory: the processes of a workload share few.
struct View {
  ino_t name_space = 0;
  dev_t root_device = 0;
  ino_t root = 0;
  auto operator<=>(const View&) const = default;
};
using Views = std::map<View, std::string>;

struct Use {
  std::string at{};  ///< empty: it doesn't have it
  std::uint64_t mount_namespace = 0;
  bool ended = false;  ///< it is gone, or a zombie
};

/// One process; knows what counts as having the volume.
class Process {
 public:
  Process(std::int64_t pid, const CgroupQuery& query, Views& views)
      : process_("/proc/" + std::to_string(pid)), directory_(process_), query_(query), views_(views) {}

  /// An error: it can't be looked into.
  Result<Use> look() {
    auto use = look_at_thread();
    if (use && use.value().ended && find_living_thread()) {
      use = look_at_thread();
    }
    // Whatever the error was: the kernel tells of one that ends meanwhile as of one that is forbidden.
    return exists(process_) ? use : Use{.ended = true};
  }

  [[nodiscard]] std::string command() const {
    auto name = read_kernel_file(process_ + "/comm");
    return name ? std::move(name).value() : std::string{};
  }

 private:
  /// The first thread of a process can end before the others, of which one may hang in a device.
  bool find_living_thread() {
    std::string living;
    const auto listed = each_entry(process_ + "/task", DT_DIR, [&](const std::string& tid) -> Result<void> {
      const std::string task = process_ + "/task/" + tid;
      if (struct stat status{}; ::stat((task + "/ns/mnt").c_str(), &status) == 0) {
        living = task;
      }
      return success();
    });
    directory_ = living.empty() ? directory_ : living;
    return listed && !living.empty();
  }

  Result<Use> look_at_thread() const {
    struct stat own{};
    struct stat its{};
    if (::stat("/proc/self/ns/mnt", &own) != 0 || ::stat((directory_ + "/ns/mnt").c_str(), &its) != 0) {
      return means_gone(errno) ? Result<Use>{Use{.ended = true}} : errno_error(errno, directory_ + "/ns/mnt");
    }
    Use use{.mount_namespace = its.st_ino};
    // In our own namespace the stage is mounted for everybody, which says nothing of this process.
    if (own.st_ino != its.st_ino) {
      TRY(use.at, mounted_at(its.st_ino));
    }
    if (use.at.empty() || is_usual(use.at)) {
      TRY(auto open, open_at());
      use.at = open.empty() ? std::move(use.at) : std::move(open);
    }
    // What ends lets go of its memory first, then of its files: with its program still there it had all that it has.
    std::array<char, 1> program{};
    use.ended = use.at.empty() && ::readlink((directory_ + "/exe").c_str(), program.data(), program.size()) < 0 && means_gone(errno);
    return use;
  }

  Result<std::string> mounted_at(ino_t name_space) const {
    struct statx root{};
    if (!look_through(directory_ + "/root", root)) {
      return means_gone(errno) ? Result<std::string>{std::string{}} : errno_error(errno, directory_ + "/root");
    }
    // What is outside of its root directory a process's table doesn't show.
    const View view{.name_space = name_space, .root_device = makedev(root.stx_dev_major, root.stx_dev_minor), .root = root.stx_ino};
    if (const auto known = views_.find(view); known != views_.end()) {
      return known->second;
    }
    const auto text = read_kernel_file(directory_ + "/mountinfo");
    if (!text) {
      return means_gone(text.error().sys_errno) ? Result<std::string>{std::string{}} : text.error();
    }
    TRY(const auto table, parse_mountinfo(text.value()));
    std::string& found = views_[view];
    for (const MountEntry& entry : table) {
      const bool node = entry.fs_type == "devtmpfs" && entry.root == query_.device.path.substr(query_.device.path.rfind('/'));
      const bool its = node || is_of_device(entry, query_.device) || (query_.filesystem != 0 && entry.device == query_.filesystem);
      if (its && (found.empty() || (is_usual(found) && !is_usual(entry.mount_point)))) {
        found = entry.mount_point;
      }
    }
    return found;
  }
  [[nodiscard]] bool is_usual(const std::string& path) const { return std::ranges::find(query_.usual, path) != query_.usual.end(); }

  Result<std::string> open_at() const {
    for (const char* name : {"/cwd", "/root", "/exe"}) {
      TRY(const bool has, is_of_volume(directory_ + name));
      if (has) {
        return target_of(directory_ + name);
      }
    }
    std::string file;
    TRYV(each_entry(directory_ + "/fd", DT_LNK, [&](const std::string& name) -> Result<void> {
      const std::string link = directory_ + "/fd/" + name;
      if (file.empty()) {
        TRY(const bool has, is_of_volume(link));
        file = has ? target_of(link) : file;
      }
      return success();
    }));
    return file.empty() ? mapped() : Result<std::string>{file};
  }

  /// Through the magic link: never a path, and so no other file. DONT_SYNC: what the kernel knows already, no device is asked.
  static bool look_through(const std::string& link, struct statx& status) {
    return ::statx(AT_FDCWD, link.c_str(), AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_TYPE | STATX_INO, &status) == 0;
  }
  [[nodiscard]] Result<bool> is_of_volume(const std::string& link) const {
    struct statx status{};
    if (!look_through(link, status)) {
      return means_gone(errno) ? Result<bool>{false} : errno_error(errno, "looking at " + link);
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
      return means_gone(text.error().sys_errno) ? Result<std::string>{std::string{}} : text.error();
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

  const std::string process_;
  std::string directory_;  ///< of the thread that is looked at
  const CgroupQuery& query_;
  Views& views_;
};

/// True: some ended while they were looked at, others than those in `ended`, and may have forked more.
template <class List>
bool look_at_all(List list, const CgroupQuery& query, std::set<std::int64_t>& ended, CgroupUsers& result) {
  result.unseen = 0;
  result.users.clear();
  const std::size_t ended_before = ended.size();
  Views views;
  const std::vector<std::int64_t> pids = list(result.unseen);
  for (const std::int64_t pid : pids) {
    Process process{pid, query, views};
    const auto use = process.look();
    if (!use) {
      ++result.unseen;
    } else if (use.value().ended) {
      ended.insert(pid);
    } else if (!use.value().at.empty()) {
      result.users.push_back(
          {.pid = pid, .command = process.command(), .mount_point = use.value().at, .mount_namespace = use.value().mount_namespace});
    }
  }
  return ended.size() > ended_before && result.users.empty() && result.unseen == 0;
}

/// Whether every process of the host could be looked into: the kernel's own are seen in the root, and so is the first.
std::uint64_t count_unseen(const std::vector<Hierarchy>& seen) {
  std::uint64_t unseen = 0;
  std::vector<std::int64_t> pids;
  bool unified = true;
  for (const Hierarchy& hierarchy : seen) {
    list_own_processes(hierarchy, pids, unseen);
    unified = unified && hierarchy.unified;
  }
  struct stat first{};
  const bool forbidden = ::stat("/proc/1/ns/mnt", &first) != 0;
  return unseen + (forbidden || (!unified && !sees_host_pids()) ? 1 : 0);
}

}  // namespace

Result<CgroupUsers> find_cgroup_users(const CgroupQuery& query, const std::string& root) {
  TRY(const auto seen, hierarchies(root));
  CgroupUsers result;
  result.visible = !seen.empty();
  if (query.names.empty()) {
    result.unseen = count_unseen(seen);
    return result;
  }
  std::set<std::int64_t> ended;
  if (query.names.front() == "/") {
    std::vector<std::int64_t> all;
    TRYV(each_entry("/proc", DT_DIR, [&](const std::string& name) -> Result<void> {
      if (name.find_first_not_of("0123456789") == std::string::npos) {
        all.push_back(std::strtoll(name.c_str(), nullptr, 10));
      }
      return success();
    }));
    look_at_all([&](std::uint64_t&) { return all; }, query, ended, result);
    result.found = true;
    return result;
  }
  std::vector<Hierarchy> groups;
  for (const Hierarchy& hierarchy : seen) {
    TRYV(find_groups(hierarchy, hierarchy.path, query, 0, groups));
  }
  result.found = !groups.empty();
  const auto list = [&](std::uint64_t& unseen) { return list_processes(groups, unseen); };
  for (int round = 0; look_at_all(list, query, ended, result); ++round) {
    if (round == most_rounds) {
      ++result.unseen;
      break;
    }
  }
  return result;
}

}  // namespace ordinald::mount
