#include "mount/process_use.hpp"

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
#include <new>
#include <optional>
#include <string>
#include <vector>

#include "mount/files.hpp"
#include "mount/mountinfo.hpp"
#include "mount/proc_text.hpp"

namespace ordinald::mount {
namespace {

/// One process; knows what counts as having the volume.
class Process {
 public:
  Process(std::int64_t pid, Search& search)
      : process_("/proc/" + std::to_string(pid)), directory_(process_), query_(search.query), search_(search) {}

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
    if (const auto known = search_.views.find(view); known != search_.views.end()) {
      return known->second;
    }
    const auto text = read_kernel_file(directory_ + "/mountinfo");
    if (!text) {
      return means_gone(text.error().sys_errno) ? Result<std::string>{std::string{}} : text.error();
    }
    TRY(const auto table, parse_mountinfo(text.value()));
    std::string& found = search_.views[view];
    for (const MountEntry& entry : table) {
      const bool node = entry.fs_type == "devtmpfs" && entry.root == query_.device.path.substr(query_.device.path.rfind('/'));
      const bool its = node || is_of_device(entry, query_.device);
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
      const int error = errno;
      if (means_gone(error)) {
        return false;
      }
      const auto shut_down = error == EIO ? device_of_xfs(link) : std::nullopt;
      return shut_down ? Result<bool>{*shut_down == query_.device.number} : errno_error(error, "looking at " + link);
    }
    const std::uint64_t filesystem = makedev(status.stx_dev_major, status.stx_dev_minor);
    const bool node = S_ISBLK(status.stx_mode) && makedev(status.stx_rdev_major, status.stx_rdev_minor) == query_.device.number;
    if (node || filesystem == query_.device.number || status.stx_dev_major != 0 || query_.btrfs_uuid.empty()) {
      return node || filesystem == query_.device.number;
    }
    return is_on_its_btrfs(link);
  }

  /// Each subvolume of a btrfs has an anonymous device number of its own; of the numbers that statfs(2) answers the first is made of the
  /// UUID alone. Only a btrfs is asked: the server of another anonymous filesystem (NFS, FUSE) may hang.
  [[nodiscard]] Result<bool> is_on_its_btrfs(const std::string& link) const {
    constexpr int btrfs_handles = 0x4d;  // FILEID_BTRFS_WITHOUT_PARENT of linux/exportfs.h; made without asking any device
    alignas(file_handle) std::array<char, sizeof(file_handle) + MAX_HANDLE_SZ> room{};
    auto* handle = new (room.data()) file_handle{};
    handle->handle_bytes = MAX_HANDLE_SZ;
    int mount_id = 0;
    if (::name_to_handle_at(AT_FDCWD, link.c_str(), handle, &mount_id, AT_SYMLINK_FOLLOW) != 0) {
      const bool none = errno == EOPNOTSUPP || errno == EOVERFLOW || errno == ESTALE || means_gone(errno);  // a pipe, another filesystem
      return none ? Result<bool>{false} : errno_error(errno, "looking at " + link);
    }
    struct statfs status{};
    if (handle->handle_type != btrfs_handles) {
      return false;
    }
    if (::statfs(link.c_str(), &status) != 0) {
      return means_gone(errno) ? Result<bool>{false} : errno_error(errno, "looking at " + link);
    }
    return status.f_type == BTRFS_SUPER_MAGIC && static_cast<std::uint32_t>(status.f_fsid.__val[0]) == btrfs_number_of(query_.btrfs_uuid);
  }
  /// Big-endian words 0 and 2 of the UUID, one upon the other.
  static std::uint32_t btrfs_number_of(std::string uuid) {
    std::erase(uuid, '-');
    const auto word = [&](std::size_t at) { return uuid.size() == 32 ? std::stoul(uuid.substr(at, 8), nullptr, 16) : 0; };
    return static_cast<std::uint32_t>(word(0) ^ word(16));
  }

  /// An xfs that was shut down answers any stat(2) with EIO, and statfs(2) all the same: with the number of its device.
  static std::optional<std::uint64_t> device_of_xfs(const std::string& link) {
    struct statfs status{};
    if (::statfs(link.c_str(), &status) != 0 || status.f_type != XFS_SUPER_MAGIC) {
      return std::nullopt;
    }
    return static_cast<std::uint32_t>(status.f_fsid.__val[0]);  // as a dev_t of so many bits has it
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
    const auto is_its = [this](std::uint64_t device) {
      return device == query_.device.number || (major(device) == 0 && minor(device) != 0 && device == btrfs_number());
    };
    return std::string{maps_any_of(text.value(), is_its) ? "a mapped file" : ""};
  }
  /// What the kernel prints for all of a btrfs that is mounted here, whatever the subvolume; 0: it is no btrfs, or nowhere mounted.
  [[nodiscard]] std::uint64_t btrfs_number() const {
    if (!search_.btrfs_number) {
      search_.btrfs_number = 0;
      const auto table = query_.btrfs_uuid.empty() ? Result<std::vector<MountEntry>>{std::vector<MountEntry>{}} : read_mount_table();
      const auto entry = table ? std::ranges::find_if(table.value(), [&](const auto& e) { return is_of_device(e, query_.device); })
                               : std::vector<MountEntry>::const_iterator{};
      if (table && entry != table.value().end()) {
        search_.btrfs_number = entry->device;
      }
    }
    return *search_.btrfs_number;
  }

  const std::string process_;
  std::string directory_;  ///< of the thread that is looked at
  const CgroupQuery& query_;
  Search& search_;
};

}  // namespace

Result<ProcessUse> look_at_process(std::int64_t pid, Search& search) { return Process{pid, search}.look(); }

}  // namespace ordinald::mount
