#include "mount/mount_group.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <memory>
#include <optional>
#include <vector>

#include "mount/crash_point.hpp"
#include "mount/files.hpp"
#include "mount/path_info.hpp"
#include "mount/taken_note.hpp"
#include "mount/unique_fd.hpp"
#include "mount/units.hpp"

namespace ordinald::mount {
namespace {

constexpr const char* capability_attribute = "security.capability";
/// On a file while its group is changed: what the chown takes from it. No workload without CAP_SYS_ADMIN can write it.
constexpr const char* taken_attribute = "trusted.ordinald.taken";
constexpr mode_t runs_as = S_ISUID | S_ISGID;

// What a chown takes from a file, and what is put back afterwards (taken_note): it is written onto the file itself before the chown (in
// that order on the disk too: the filesystem's journal keeps it), so that whoever repeats a walk that died in between can put it back.
bool nothing(const Taken& taken) { return (taken.mode & runs_as) == 0 && taken.capability.empty(); }

struct Node {
  std::uint64_t inode = 0;
  std::uint64_t mount_id = 0;
  mode_t mode = 0;
  gid_t group = 0;
  std::string changed{};  ///< when its content was, last

  [[nodiscard]] bool is_file() const { return S_ISREG(mode); }
};

Result<Node> look(int fd) {
  struct statx status{};
  if (::statx(fd, "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT, STATX_TYPE | STATX_MODE | STATX_GID | STATX_INO | STATX_MTIME | STATX_MNT_ID,
              &status) != 0) {
    return errno_error(errno, "statx");
  }
  return Node{.inode = status.stx_ino,
              .mount_id = status.stx_mnt_id,
              .mode = status.stx_mode,
              .group = status.stx_gid,
              .changed = std::to_string(status.stx_mtime.tv_sec) + "." + std::to_string(status.stx_mtime.tv_nsec)};
}

/// The mode with g+rwX, and for directories setgid, so that what is made in them later has the group too.
mode_t wanted_mode(mode_t mode) {
  mode_t result = (mode & permission_bits) | S_IRGRP | S_IWGRP;
  if (S_ISDIR(mode)) {
    result |= S_IXGRP | S_ISGID;
  } else if ((mode & (S_IXUSR | S_IXGRP | S_IXOTH)) != 0) {
    result |= S_IXGRP;
  }
  return result;
}

bool is_right(const Node& node, gid_t group) {
  return node.group == group && (S_ISLNK(node.mode) || (node.mode & permission_bits) == wanted_mode(node.mode));
}

/// nullopt: the file has none of that name.
Result<std::optional<std::string>> read_attribute(const std::string& path, const char* name, const std::string& where) {
  std::array<char, 1024> value{};
  const ssize_t size = ::getxattr(path.c_str(), name, value.data(), value.size());
  if (size >= 0) {
    return std::string{value.data(), static_cast<std::size_t>(size)};
  }
  if (errno == ENODATA || errno == EOPNOTSUPP) {
    return std::optional<std::string>{};
  }
  return errno_error(errno, std::string{"reading "} + name + " of " + where);
}

/// nullopt: no walk died on this file.
Result<std::optional<Taken>> read_taken(const std::string& path, const std::string& where) {
  TRY(const auto text, read_attribute(path, taken_attribute, where));
  if (!text) {
    return std::optional<Taken>{};
  }
  return std::optional{parse_taken(*text).value_or(Taken{})};  // else there is nothing that could be put back
}

/// Without room for it the walk goes on all the same.
Result<void> write_taken(const std::string& path, const Taken& taken, const std::string& where) {
  const std::string text = to_text(taken);
  if (::setxattr(path.c_str(), taken_attribute, text.data(), text.size(), 0) != 0 && errno != ENOSPC && errno != EDQUOT &&
      errno != EOPNOTSUPP && errno != EPERM) {
    return errno_error(errno, "noting what " + where + " is about to lose");
  }
  acted("setxattr", where);
  return success();
}

/// What must be on the file in the end: what it has, or had before a walk died on it.
Result<Taken> to_keep(const std::string& path, const Node& node, const std::optional<Taken>& left, const std::string& where) {
  TRY(const auto capability, read_attribute(path, capability_attribute, where));
  Taken keep{.mode = node.mode & permission_bits, .changed = node.changed, .capability = capability.value_or("")};
  constexpr mode_t others = S_IRWXU | S_IRWXO;  // the group's are this walk's
  if (left && left->changed == node.changed && (left->mode & others) == (node.mode & others)) {
    keep.mode |= left->mode & runs_as;
    if (keep.capability.empty()) {
      keep.capability = left->capability;
    }
  }
  return keep;
}

/// Changes what an O_PATH descriptor stands for. What is right already is not touched: a chown takes setuid, setgid and capabilities away
/// from files, and what it took is put back. `left`: what a walk that died on this file has noted.
Result<void> change(int fd, const Node& node, gid_t group, const std::optional<Taken>& left, const std::string& where) {
  const std::string path = proc_path(fd);
  Taken keep{.mode = node.mode, .changed = {}, .capability = {}};
  bool noted = left.has_value();
  if (node.is_file()) {
    TRY(keep, to_keep(path, node, left, where));
    if (node.group != group && !nothing(keep)) {
      TRYV(write_taken(path, keep, where));
      noted = true;
    }
  }
  if (node.group != group) {
    if (::fchownat(fd, "", static_cast<uid_t>(-1), group, AT_EMPTY_PATH) != 0) {
      return errno_error(errno, "giving " + where + " to group " + std::to_string(group));
    }
    acted("fchownat", where);
  }
  if (S_ISLNK(node.mode)) {
    return success();  // has no mode of its own
  }
  const mode_t wanted = wanted_mode((node.mode & S_IFMT) | keep.mode);
  TRY(const auto now, look(fd));
  if ((now.mode & permission_bits) != wanted) {
    if (::chmod(path.c_str(), wanted) != 0) {
      return errno_error(errno, "giving the group of " + where + " access");
    }
    acted("chmod", where);
  }
  if (!keep.capability.empty()) {
    if (::setxattr(path.c_str(), capability_attribute, keep.capability.data(), keep.capability.size(), 0) != 0) {
      return errno_error(errno, "putting back the capabilities of " + where);
    }
    acted("setxattr", where);
  }
  if (noted && ::removexattr(path.c_str(), taken_attribute) != 0 && errno != ENODATA && errno != EOPNOTSUPP) {
    return errno_error(errno, "forgetting what " + where + " had lost");
  }
  return success();
}

/// The walk. It holds one directory open at a time, however deep the tree is, and comes back up by "..", which must be the directory that
/// it came from.
class Walk {
 public:
  Walk(UniqueFd root, const Node& node, std::string path, gid_t group)
      : directory_(std::move(root)), mount_id_(node.mount_id), where_(std::move(path)), group_(group) {
    levels_.push_back({.inode = node.inode, .children = {}, .path_size = where_.size()});
  }

  Result<void> run() {
    TRYV(visit_entries());
    while (true) {
      Level& level = levels_.back();
      if (!level.children.empty()) {
        const std::string name = std::move(level.children.back());
        level.children.pop_back();
        TRYV(descend(name));
      } else if (levels_.size() > 1) {
        TRYV(ascend());
      } else {
        return success();
      }
    }
  }

 private:
  struct Level {
    std::uint64_t inode = 0;
    std::vector<std::string> children;  ///< directories still to be entered
    std::size_t path_size = 0;          ///< of `where_`
  };

  /// Changes all that the open directory holds, and notes its directories.
  Result<void> visit_entries() {
    UniqueFd copy{::openat(directory_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (!copy) {
      return errno_error(errno, "opening " + where_);
    }
    const DirectoryStream stream{::fdopendir(copy.get())};
    if (!stream) {
      return errno_error(errno, "listing " + where_);
    }
    copy.release();  // the stream closes it
    while (true) {
      errno = 0;
      const dirent* entry = ::readdir(stream.get());
      if (entry == nullptr) {
        return errno == 0 ? Result<void>{success()} : errno_error(errno, "listing " + where_);
      }
      const std::string name{static_cast<const char*>(entry->d_name)};
      if (name != "." && name != "..") {
        TRYV(visit(name));
      }
    }
  }

  Result<void> visit(const std::string& name) {
    const std::string where = where_ + "/" + name;
    const UniqueFd fd{::openat(directory_.get(), name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC)};
    if (!fd) {
      return errno == ENOENT ? Result<void>{success()} : errno_error(errno, "opening " + where);
    }
    TRY(const auto node, look(fd.get()));
    if (node.mount_id != mount_id_) {
      return success();  // another mount, be it of this filesystem: not ours to change
    }
    std::optional<Taken> left;
    if (node.is_file()) {
      TRY(left, read_taken(proc_path(fd.get()), where));
    }
    if (left || !is_right(node, group_)) {
      TRYV(change(fd.get(), node, group_, left, where));
    }
    if (S_ISDIR(node.mode)) {
      levels_.back().children.push_back(name);
    }
    return success();
  }

  Result<void> descend(const std::string& name) {
    UniqueFd child{::openat(directory_.get(), name.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)};
    if (!child) {
      if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP) {
        return success();  // removed or replaced meanwhile
      }
      return errno_error(errno, "opening " + where_ + "/" + name);
    }
    TRY(const auto node, look(child.get()));
    if (node.mount_id != mount_id_) {
      return success();
    }
    directory_ = std::move(child);
    where_ += "/" + name;
    levels_.push_back({.inode = node.inode, .children = {}, .path_size = where_.size()});
    return visit_entries();
  }

  Result<void> ascend() {
    UniqueFd parent{::openat(directory_.get(), "..", O_PATH | O_DIRECTORY | O_CLOEXEC)};
    if (!parent) {
      return errno_error(errno, "going back up from " + where_);
    }
    TRY(const auto node, look(parent.get()));
    levels_.pop_back();
    if (node.inode != levels_.back().inode || node.mount_id != mount_id_) {
      return make_error(ErrorCode::aborted, where_ + " was moved while its group was being set; it is done again at the next try");
    }
    directory_ = std::move(parent);
    where_.resize(levels_.back().path_size);
    return success();
  }

  UniqueFd directory_;
  std::uint64_t mount_id_;
  std::string where_;
  gid_t group_;
  std::vector<Level> levels_;
};

}  // namespace

Result<void> give_to_group(const std::string& path, const Expected& expected, std::uint32_t gid) {
  TRY(auto root, open_mounted_directory(path, expected));
  TRY(const auto node, look(root.get()));
  if (is_right(node, gid)) {
    return success();
  }
  UniqueFd own{::openat(root.get(), ".", O_PATH | O_DIRECTORY | O_CLOEXEC)};
  if (!own) {
    return errno_error(errno, "opening " + path);
  }
  if ((node.mode & S_ISGID) != 0) {
    // Until the walk is done the root is right for no group, or one that dies on it would be taken for done by the group before.
    if (::chmod(proc_path(root.get()).c_str(), node.mode & permission_bits & ~static_cast<mode_t>(S_ISGID)) != 0) {
      return errno_error(errno, "beginning to set the group of " + path);
    }
    acted("chmod", path);
  }
  TRYV(Walk(std::move(own), node, path, gid).run());
  return change(root.get(), node, gid, std::nullopt, path);
}

}  // namespace ordinald::mount
