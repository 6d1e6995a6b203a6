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

#include "mount/files.hpp"
#include "mount/path_info.hpp"
#include "mount/unique_fd.hpp"

namespace ordinald::mount {
namespace {

constexpr const char* capability_attribute = "security.capability";
constexpr mode_t permission_bits = 07777;

struct Node {
  std::uint64_t inode = 0;
  std::uint64_t mount_id = 0;
  mode_t mode = 0;
  gid_t group = 0;
};

Result<Node> look(int fd) {
  struct statx status{};
  if (::statx(fd, "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT, STATX_TYPE | STATX_MODE | STATX_GID | STATX_INO | STATX_MNT_ID, &status) != 0) {
    return errno_error(errno, "statx");
  }
  return Node{.inode = status.stx_ino, .mount_id = status.stx_mnt_id, .mode = status.stx_mode, .group = status.stx_gid};
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

/// Changes what an O_PATH descriptor stands for. What is right already is not touched: a chown takes setuid, setgid and capabilities away
/// from files, and what it took is put back.
Result<void> change(int fd, const Node& node, gid_t group, const std::string& where) {
  const std::string path = proc_path(fd);
  std::array<char, 1024> capability{};
  ssize_t capability_size = -1;
  if (node.group != group) {
    if (S_ISREG(node.mode)) {
      capability_size = ::getxattr(path.c_str(), capability_attribute, capability.data(), capability.size());
      if (capability_size < 0 && errno != ENODATA && errno != EOPNOTSUPP) {
        return errno_error(errno, "reading the capabilities of " + where);
      }
    }
    if (::fchownat(fd, "", static_cast<uid_t>(-1), group, AT_EMPTY_PATH) != 0) {
      return errno_error(errno, "giving " + where + " to group " + std::to_string(group));
    }
  }
  if (S_ISLNK(node.mode)) {
    return success();  // has no mode of its own
  }
  TRY(const auto now, look(fd));
  if ((now.mode & permission_bits) != wanted_mode(node.mode) && ::chmod(path.c_str(), wanted_mode(node.mode)) != 0) {
    return errno_error(errno, "giving the group of " + where + " access");
  }
  if (capability_size >= 0 &&
      ::setxattr(path.c_str(), capability_attribute, capability.data(), static_cast<std::size_t>(capability_size), 0) != 0) {
    return errno_error(errno, "putting back the capabilities of " + where);
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
    if (!is_right(node, group_)) {
      TRYV(change(fd.get(), node, group_, where));
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
  TRYV(Walk(std::move(own), node, path, gid).run());
  return change(root.get(), node, gid, path);
}

}  // namespace ordinald::mount
