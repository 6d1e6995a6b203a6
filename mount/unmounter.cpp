#include "mount/unmounter.hpp"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <thread>

#include "mount/crash_point.hpp"
#include "mount/mount_target.hpp"
#include "mount/path_info.hpp"

namespace ordinald::mount {
namespace {

/// syncfs(2) of the filesystem mounted there: 0, or an errno. It also tells of writes that failed earlier, unless somebody heard it before.
int write_back(const std::string& path) {
  const UniqueFd fd{::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)};
  return fd && ::syncfs(fd.get()) == 0 ? 0 : errno;
}

/// umount2(2): 0, or an errno. One that is busy is tried again for a quarter of a second: whoever merely looks at a file system has it open
/// for a moment (udev, df, our own health).
int unmount_one(const std::string& path) {
  using std::chrono::milliseconds;
  for (milliseconds wait{1};; wait *= 2) {
    if (::umount2(path.c_str(), UMOUNT_NOFOLLOW) == 0) {
      return 0;
    }
    if (errno != EBUSY || wait > milliseconds{128}) {
      return errno;
    }
    std::this_thread::sleep_for(wait);
  }
}

/// Unmounts from the top down; answers what is at the path once no mount is. `lost` is the errno of a failed write-back.
Result<PathInfo> unmount_all(const UnmountRequest& request, int& lost) {
  while (true) {
    // No descriptor is kept in between: one on the mount would make it busy.
    TRY(const auto info, read_path_info(request.path));
    if (!info.mount_root) {
      return info;
    }
    if (!matches(info, request.expected)) {
      return make_error(ErrorCode::failed_precondition,
                        "not unmounting " + request.path + ": it is " + describe(info) + ", which is not this volume");
    }
    if (request.write_back && lost == 0) {
      lost = write_back(request.path);
    }
    if (const int error = unmount_one(request.path); error != 0) {
      if (error == EBUSY) {
        return errno_error(ErrorCode::failed_precondition, error,
                           "unmounting " + request.path +
                               " (a process has a file or a working directory there, or a mount lies beneath it; fuser -vm " +
                               request.path + " lists the processes)");
      }
      return errno_error(error, "unmounting " + request.path);
    }
    acted("umount", request.path);
  }
}

Result<void> remove_target(const std::string& path, const PathInfo& info) {
  const bool directory = info.kind == FileKind::directory;
  if (!directory && info.kind != FileKind::regular) {
    return make_error(ErrorCode::failed_precondition, "not removing " + path + ": it is " + describe(info) + ", which we did not make");
  }
  TRY(const auto where, SplitPath::open(path));
  if (!directory) {
    struct stat status{};
    if (::fstatat(where.parent.get(), where.name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
      return errno_error(errno, "looking at " + path);
    }
    if (!S_ISREG(status.st_mode) || status.st_size != 0) {
      return make_error(ErrorCode::failed_precondition, "not removing the file " + path + ": it has content, which we did not put there");
    }
  }
  if (::unlinkat(where.parent.get(), where.name.c_str(), directory ? AT_REMOVEDIR : 0) != 0 && errno != ENOENT) {
    const int error = errno;
    if (error == ENOTEMPTY || error == EEXIST) {
      return errno_error(ErrorCode::failed_precondition, error,
                         "not removing the directory " + path + ": it has content, which something wrote beside the mount");
    }
    return errno_error(error == EBUSY ? ErrorCode::failed_precondition : ErrorCode::internal, error, "removing " + path);
  }
  acted("removing the target", path);
  return success();
}

}  // namespace

Result<void> unmount_path(const UnmountRequest& request) {
  int lost = 0;
  TRY(const auto left, unmount_all(request, lost));
  if (request.remove && left.kind != FileKind::none) {
    TRYV(remove_target(request.path, left));
  }
  if (lost != 0) {
    return errno_error(
        lost,
        "it is unmounted, but what was written there last may be lost: writing it to the device failed (the kernel's log says "
        "where)");
  }
  return success();
}

}  // namespace ordinald::mount
