#include "mount/adoption.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <utility>

#include "mount/crash_point.hpp"
#include "mount/files.hpp"
#include "mount/image_file.hpp"
#include "mount/mount_target.hpp"

namespace ordinald::mount {
namespace {

Error refuse(const AdoptRequest& request, const std::string& why) {
  return make_error(ErrorCode::failed_precondition, request.source + " " + why + "; it is left as it is");
}

bool is_surveyed(const struct stat& status, const AdoptRequest& request) {
  return S_ISREG(status.st_mode) && status.st_dev == request.device && status.st_ino == request.inode &&
         static_cast<std::uint64_t>(status.st_size) == request.size;
}

Result<void> sync_pool(const AdoptRequest& request, int pool) {
  if (::fsync(pool) != 0) {
    return errno_error(errno, "making the directory " + request.image.directory + " durable");
  }
  acted("fsync of the pool", request.image.directory);
  return success();
}

Result<void> sync_source(const AdoptRequest& request, const SplitPath& from) {
  const UniqueFd directory{::openat(from.parent.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (!directory || ::fsync(directory.get()) != 0) {
    return errno_error(errno, "making the directory of " + request.source + " durable");
  }
  return success();
}

/// It has its new name already: an earlier try may have ended before that was durable.
Result<ImageInfo> finish_move(const AdoptRequest& request, ImageInfo there, int pool) {
  if (there.volume_id != request.image.volume_id) {
    return make_error(ErrorCode::already_exists,
                      request.image.directory + "/" + request.image.file + " is there already, and not this volume's");
  }
  TRYV(sync_pool(request, pool));
  if (const auto from = SplitPath::open(request.source)) {
    TRYV(sync_source(request, from.value()));
  } else if (from.error().code != ErrorCode::not_found) {  // a directory that is gone has no names
    return from.error();
  }
  return there;
}

/// A lease until the descriptor is closed: whoever opens the file meanwhile waits.
Result<void> keep_others_out(int fd, const AdoptRequest& request) {
  // Whoever waits makes the kernel send a signal: SIGIO, which would end this process. SIGURG is ignored by default.
  if (::fcntl(fd, F_SETSIG, SIGURG) == 0 && ::fcntl(fd, F_SETLEASE, F_WRLCK) == 0) {
    return success();
  }
  if (errno == EAGAIN) {
    return refuse(request,
                  "is in use: a program or a loop device has it open (fuser -v " + request.source + "; losetup -j " + request.source + ")");
  }
  const int error = errno;
  return errno_error(ErrorCode::failed_precondition, error, "making sure that nobody has " + request.source + " open");
}

/// It stays ours until somebody wants to open the file: who does waits, though for some seconds only.
Result<void> require_lease(int fd, const AdoptRequest& request) {
  if (::fcntl(fd, F_GETLEASE) == F_WRLCK) {
    return success();
  }
  return refuse(request, "is being opened by another program (fuser -v " + request.source + ")");
}

Result<void> prepare(int fd, const AdoptRequest& request) {
  TRYV(mark_image(fd, request.image, request.label));
  acted("marking the file", request.source);
  if (::fchown(fd, 0, 0) != 0 || ::fchmod(fd, 0600) != 0) {
    return errno_error(errno, "making " + request.source + " root's alone");
  }
  if (::fsync(fd) != 0) {
    return errno_error(errno, "making " + request.source + " durable");
  }
  acted("fsync of the image", request.image.file);
  return success();
}

Result<void> move(int fd, const AdoptRequest& request, const SplitPath& from, int pool) {
  const std::string& file = request.image.file;
  TRYV(require_lease(fd, request));
  const std::string what = "moving " + request.source + " to " + request.image.directory + "/" + file;
  if (::renameat2(from.parent.get(), from.name.c_str(), pool, file.c_str(), RENAME_NOREPLACE) != 0) {
    const int error = errno;
    const ErrorCode code = error == EXDEV    ? ErrorCode::failed_precondition
                           : error == EEXIST ? ErrorCode::already_exists
                                             : ErrorCode::internal;
    return errno_error(code, error, what);
  }
  acted("moving the image", file);
  struct stat status{};
  if (::fstatat(pool, file.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0 && is_surveyed(status, request)) {
    return success();
  }
  // Somebody put another file in its place between the look and the move.
  ::renameat2(pool, file.c_str(), from.parent.get(), from.name.c_str(), RENAME_NOREPLACE);
  return refuse(request, "was replaced while it was being moved");
}

/// Where that fails, owner and mode are those that it had; a mark alone nobody minds.
Result<void> prepare_and_move(int fd, const struct stat& before, const AdoptRequest& request, const SplitPath& from, int pool) {
  TRYV(keep_others_out(fd, request));
  auto moved = prepare(fd, request);
  if (moved) {
    moved = move(fd, request, from, pool);
  }
  if (!moved && (::fchown(fd, before.st_uid, before.st_gid) != 0 || ::fchmod(fd, before.st_mode & 07777) != 0)) {
    return moved.error().with_context("owner or mode of " + request.source + " could not be put back");
  }
  return moved;
}

}  // namespace

Result<ImageInfo> adopt_file(const AdoptRequest& request) {
  const ImageRef& image = request.image;
  TRY(auto there, inspect_image_file(image));
  TRY(const auto pool, open_directory(image.directory));
  if (there) {
    return finish_move(request, std::move(*there), pool.get());
  }
  TRY(const auto from, SplitPath::open(request.source));
  TRY(const auto fd, open_beneath(from.parent.get(), from.name, O_RDONLY | O_NONBLOCK));
  struct stat status{};
  if (::fstat(fd.get(), &status) != 0) {
    return errno_error(errno, "looking at " + request.source);
  }
  if (!is_surveyed(status, request)) {
    return refuse(request, "is not the file any more that was looked at");
  }
  if (status.st_nlink != 1) {
    return refuse(request, "has " + std::to_string(status.st_nlink) + " names (hard links), and would stay writable by the others");
  }
  TRYV(prepare_and_move(fd.get(), status, request, from, pool.get()));
  TRYV(sync_pool(request, pool.get()));
  TRYV(sync_source(request, from));
  TRY(auto info, inspect_image_file(image));
  if (!info) {
    return make_error(ErrorCode::internal, describe(image) + " was taken away at once");
  }
  return std::move(*info);
}

}  // namespace ordinald::mount
