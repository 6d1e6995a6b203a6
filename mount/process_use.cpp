#include "mount/process_use.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>

#include "mount/files.hpp"
#include "mount/mountinfo.hpp"
#include "mount/proc_text.hpp"

namespace ordinald::mount {
namespace {

/// One process; knows what counts as having the volume.
class Process {
 public:
  Process(std::int64_t pid, const CgroupQuery& query, Views& views)
      : process_("/proc/" + std::to_string(pid)), directory_(process_), query_(query), views_(views) {}

  Result<ProcessUse> look() {
    auto use = look_at_thread();
    if (use && use.value().ended && find_living_thread()) {
      use = look_at_thread();
    }
    // Whatever the error was: the kernel tells of one that ends meanwhile as of one that is forbidden.
    if (::access(process_.c_str(), F_OK) != 0) {
      return ProcessUse{.ended = true};
    }
    if (use && (query_.any || !use.value().at.empty())) {
      auto name = read_kernel_file(process_ + "/comm");
      use.value().command = name ? std::move(name).value() : std::string{};
    }
    return use;
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

  Result<ProcessUse> look_at_thread() const {
    struct stat own{};
    struct stat its{};
    if (::stat("/proc/self/ns/mnt", &own) != 0 || ::stat((directory_ + "/ns/mnt").c_str(), &its) != 0) {
      return means_gone(errno) ? Result<ProcessUse>{ProcessUse{.ended = true}} : errno_error(errno, directory_ + "/ns/mnt");
    }
    ProcessUse use{.mount_namespace = its.st_ino};
    // In our own namespace the stage is mounted for everybody, which says nothing of this process.
    if (own.st_ino != its.st_ino) {
      TRY(use.at, mounted_at(its.st_ino));
    }
    if (use.at.empty() || is_usual(use.at)) {
      TRY(use.at, open_at());
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
  [[nodiscard]] bool is_usual(std::string_view path) const {
    return std::ranges::any_of(query_.usual, [&](std::string_view usual) {
      constexpr int names = 3;
      std::size_t tail = usual.size();
      for (int i = 0; i < names && tail > 0 && tail != std::string_view::npos; ++i) {
        tail = usual.rfind('/', tail - 1);
      }
      return path.ends_with(usual.substr(tail == std::string_view::npos ? 0 : tail));
    });
  }

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

  /// Files that are mapped and not open any more.
  Result<std::string> mapped() const {
    const auto text = read_kernel_file(directory_ + "/maps");
    if (!text) {
      return means_gone(text.error().sys_errno) ? Result<std::string>{std::string{}} : text.error();
    }
    return std::string{maps_any_of(text.value(), [this](std::uint64_t device) { return is_its(device); }) ? "a mapped file" : ""};
  }

  const std::string process_;
  std::string directory_;  ///< of the thread that is looked at
  const CgroupQuery& query_;
  Views& views_;
};

}  // namespace

Result<ProcessUse> look_at_process(std::int64_t pid, const CgroupQuery& query, Views& views) { return Process{pid, query, views}.look(); }

}  // namespace ordinald::mount
