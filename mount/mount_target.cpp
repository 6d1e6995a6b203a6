#include "mount/mount_target.hpp"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <optional>

#include "mount/crash_point.hpp"
#include "mount/path_info.hpp"

namespace ordinald::mount {
namespace {

/// What a path that can't be had says of the call.
ErrorCode code_of(int error) {
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return ErrorCode::not_found;
    case ENAMETOOLONG:
      return ErrorCode::invalid_argument;
    case ELOOP:
      return ErrorCode::failed_precondition;
    default:
      return errno_error(error, "").code;
  }
}

/// Whether it was made; false when it is there already.
Result<bool> make(int parent, const std::string& name, TargetKind kind, const std::string& path) {
  if (kind == TargetKind::directory) {
    if (::mkdirat(parent, name.c_str(), 0750) == 0) {
      return true;
    }
  } else {
    const UniqueFd fd{::openat(parent, name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0640)};
    if (fd) {
      return true;
    }
  }
  const int error = errno;
  if (error == EEXIST) {
    return false;
  }
  return errno_error(code_of(error), error, "making the target " + path);
}

}  // namespace

Result<SplitPath> SplitPath::open(const std::string& path) {
  const auto last = path.find_last_not_of('/');
  const auto slash = last == std::string::npos ? std::string::npos : path.rfind('/', last);
  if (slash == std::string::npos || path.front() != '/') {
    return make_error(ErrorCode::invalid_argument, "a target must be an absolute path, and not the root: " + path);
  }
  SplitPath result;
  result.name = path.substr(slash + 1, last - slash);
  if (result.name == "." || result.name == "..") {
    return make_error(ErrorCode::invalid_argument, "a target must end in a name: " + path);
  }
  const std::string parent = slash == 0 ? "/" : path.substr(0, slash);
  result.parent.reset(::open(parent.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!result.parent) {
    const int error = errno;
    return errno_error(code_of(error), error, "opening " + parent + ", the parent of the target " + path);
  }
  return result;
}

Result<MountTarget> MountTarget::prepare(const std::string& path, TargetKind kind) {
  MountTarget target;
  target.path_ = path;
  target.kind_ = kind;
  auto where = SplitPath::open(path);
  if (!where && where.error().code == ErrorCode::not_found) {
    // It is the caller's to make. not_found would be heard as: there is no such volume.
    return make_error(ErrorCode::failed_precondition, where.error().message + "; make that directory first");
  }
  TRY(target.where_, std::move(where));
  TRY(target.made_, make(target.where_.parent.get(), target.where_.name, kind, path));
  if (target.made_) {
    acted("making the target", path);
  }
  target.fd_.reset(::openat(target.where_.parent.get(), target.where_.name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!target.fd_) {
    return errno_error(errno, "opening the target " + path);
  }
  auto info = path_info_of(target.fd_.get());
  if (!info) {
    return info.error().with_context("looking at the target " + path);
  }
  target.info_ = std::move(info).value();
  const FileKind found = target.info_.kind;
  if (!target.info_.mount_root && found != (kind == TargetKind::directory ? FileKind::directory : FileKind::regular)) {
    return make_error(ErrorCode::failed_precondition, "the target " + path + " is " + describe(target.info_) + ", not " +
                                                          (kind == TargetKind::directory ? "a directory" : "a file") +
                                                          "; it is left alone: remove what is there");
  }
  return target;
}

MountTarget::~MountTarget() {
  if (made_ && where_.parent) {  // a moved-from one has no parent
    fd_.reset();
    // Best effort, and harmless: it only goes if it is empty, and an empty one that stays is used by the next try.
    ::unlinkat(where_.parent.get(), where_.name.c_str(), kind_ == TargetKind::directory ? AT_REMOVEDIR : 0);
  }
}

Result<std::optional<PathInfo>> MountTarget::already_mounted(const Expected& expected, const MountAttributes& attributes) const {
  if (!info_.mount_root) {
    return std::optional<PathInfo>{};
  }
  if (!matches(info_, expected)) {
    return make_error(ErrorCode::failed_precondition,
                      "the target " + path_ + " is " + describe(info_) + ", which is not this volume; it is left alone");
  }
  TRY(const bool same, has_attributes(fd_.get(), info_, attributes));
  if (!same) {
    return make_error(ErrorCode::failed_precondition,
                      "this volume is mounted at the target " + path_ + " already, with other flags of the mount point: unmount it first");
  }
  return std::optional{info_};
}

Result<PathInfo> MountTarget::attach(int mount_fd) {
  if (::move_mount(mount_fd, "", fd_.get(), "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) != 0) {
    return errno_error(errno, "putting the mount at the target " + path_);
  }
  made_ = false;  // it is in use now
  acted("move_mount", path_);
  return path_info_of(mount_fd);
}

}  // namespace ordinald::mount
