#include "mount/image_file.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <utility>

#include "mount/btrfs_info.hpp"
#include "mount/crash_point.hpp"
#include "mount/files.hpp"
#include "mount/pool_mark.hpp"
#include "mount/units.hpp"

namespace ordinald::mount {
namespace {

constexpr const char* volume_attribute = "trusted.ordinald.volume";
constexpr const char* label_attribute = "trusted.ordinald.label";
constexpr std::size_t largest_label = 65536;  // the kernel's XATTR_SIZE_MAX

Result<void> check_name(const ImageRef& image) {
  if (image.file.empty() || image.file == "." || image.file == ".." || image.file.find('/') != std::string::npos ||
      image.file.size() > 200) {
    return make_error(ErrorCode::invalid_argument, "an image's file name must be a plain name: " + image.file);
  }
  return success();
}

/// The attribute's value; empty where there is none, or where the file system keeps no such attributes.
Result<std::string> read_attribute(const std::string& path, const char* attribute = volume_attribute, std::size_t largest = 1024) {
  std::string value(largest, '\0');
  // By path and not by descriptor: an open would break the lease by which another worker is just proving that nobody has the image.
  const ssize_t size = ::lgetxattr(path.c_str(), attribute, value.data(), value.size());
  if (size < 0) {
    if (errno == ENODATA || errno == EOPNOTSUPP) {
      return std::string{};
    }
    return errno_error(errno, std::string{"reading the attribute "} + attribute + " of " + path);
  }
  value.resize(static_cast<std::size_t>(size));
  return value;
}

ImageInfo to_info(const struct stat& status, std::string volume_id) {
  return {.size = static_cast<std::uint64_t>(status.st_size),
          .allocated = static_cast<std::uint64_t>(status.st_blocks) * stat_block,
          .device = status.st_dev,
          .inode = status.st_ino,
          .volume_id = std::move(volume_id),
          .label = {}};
}

Result<ImageInfo> info_of(int fd, const ImageRef& image) {
  struct stat status{};
  if (::fstat(fd, &status) != 0) {
    return errno_error(errno, "looking at " + describe(image));
  }
  return to_info(status, image.volume_id);
}

Error not_ours(const ImageRef& image, const std::string& found) {
  return make_error(ErrorCode::failed_precondition, describe(image) + " is not this volume's: its attribute " + volume_attribute +
                                                        (found.empty() ? " is missing" : " says " + found) +
                                                        ". It is left alone; find out where the file came from");
}

/// Allocates `[0, size)` beyond what is allocated already, then sets the size. Until every block is there the size stays, so that a
/// full file system, or a crash, leaves no image of a size that nobody asked for.
Result<void> set_size(int fd, const ImageSpec& spec, std::uint64_t old_size) {
  const std::uint64_t size = std::max(spec.size, old_size);
  if (spec.thick && size > 0) {
    int result = 0;
    do {
      result = ::fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, static_cast<off_t>(size));
    } while (result != 0 && errno == EINTR);
    if (result != 0) {
      const int error = errno;
      // Gives back what was taken beyond the end; holes that it filled below stay filled, which does no harm.
      if (::ftruncate(fd, static_cast<off_t>(old_size)) != 0) {
        return errno_error(errno, "giving back a part of " + describe(spec.image) + " after its allocation failed");
      }
      const std::string what = "allocating " + std::to_string(size) + " bytes for " + describe(spec.image);
      if (error == EOPNOTSUPP) {
        return errno_error(ErrorCode::failed_precondition, error, what + " (this file system can't: use a thin pool)");
      }
      if (error == EFBIG) {
        return errno_error(ErrorCode::out_of_range, error, what);
      }
      return errno_error(error, what);
    }
  }
  if (size != old_size && ::ftruncate(fd, static_cast<off_t>(size)) != 0) {
    const int error = errno;
    const std::string what = "setting the size of " + describe(spec.image) + " to " + std::to_string(size);
    return error == EFBIG || error == EINVAL ? errno_error(ErrorCode::out_of_range, error, what) : errno_error(error, what);
  }
  return success();
}

Result<void> sync_image(int fd, const ImageRef& image) {
  if (::fsync(fd) != 0) {
    return errno_error(errno, "making " + describe(image) + " durable");
  }
  acted("fsync of the image", image.file);
  return success();
}

Result<void> sync_directory(int directory, const ImageRef& image) {
  if (::fsync(directory) != 0) {
    return errno_error(errno, "making the directory " + image.directory + " durable");
  }
  acted("fsync of the pool", image.directory);
  return success();
}

Result<ImageInfo> grow_open_image(int fd, const ImageSpec& spec) {
  struct stat status{};
  if (::fstat(fd, &status) != 0) {
    return errno_error(errno, "looking at " + describe(spec.image));
  }
  const auto old_size = static_cast<std::uint64_t>(status.st_size);
  if (spec.thick || old_size < spec.size) {
    TRYV(set_size(fd, spec, old_size));
    acted("sizing the image", spec.image.file);
  }
  // Also where nothing was to be done: an earlier try may have ended before it.
  TRYV(sync_image(fd, spec.image));
  return info_of(fd, spec.image);
}

/// A label is a help for a bad day, not a need: one that the file system has no room for (ext4 has some 4 KB) is left out.
bool is_for_want_of_room(int error) { return error == ENOSPC || error == E2BIG || error == ERANGE; }

Result<void> set_mark(int fd, const ImageRef& image) {
  const std::string& id = image.volume_id;
  if (::fsetxattr(fd, volume_attribute, id.data(), id.size(), 0) == 0) {
    return success();
  }
  const int error = errno;
  const std::string what = std::string{"setting the attribute "} + volume_attribute + " of " + describe(image);
  if (error == EOPNOTSUPP || error == EPERM) {
    return errno_error(ErrorCode::failed_precondition, error,
                       what + " (a pool's file system must keep trusted attributes, and the agent needs CAP_SYS_ADMIN)");
  }
  return errno_error(error, what);
}

/// The new image under its temporary name, complete and durable.
Result<ImageInfo> write_new_image(int fd, const ImageSpec& spec) {
  TRYV(set_size(fd, spec, 0));
  acted("sizing the new image", spec.image.file);
  TRYV(set_mark(fd, spec.image));
  if (!spec.label.empty() && ::fsetxattr(fd, label_attribute, spec.label.data(), spec.label.size(), 0) != 0 &&
      !is_for_want_of_room(errno)) {
    return errno_error(errno, std::string{"setting the attribute "} + label_attribute + " of " + describe(spec.image));
  }
  TRYV(sync_image(fd, spec.image));
  return info_of(fd, spec.image);
}

/// Each subvolume of a btrfs has an st_dev of its own.
Result<std::string> filesystem_of(int directory, const struct stat& status) {
  struct statfs usage{};
  if (::fstatfs(directory, &usage) == 0 && usage.f_type == BTRFS_SUPER_MAGIC) {
    TRY(const std::string uuid, read_btrfs_uuid(directory));
    return "btrfs " + uuid;
  }
  return "device " + std::to_string(status.st_dev);
}

std::string temporary_name(const ImageRef& image) { return "." + image.file + ".new"; }
constexpr std::string_view half_made_ending = ".img.new";

}  // namespace

std::string describe(const ImageRef& image) { return "the image " + image.directory + "/" + image.file + " of volume " + image.volume_id; }

Result<UniqueFd> open_image(const ImageRef& image, int flags) {
  TRY(const auto found, inspect_image_file(image));
  if (!found) {
    return make_error(ErrorCode::not_found, describe(image) + " does not exist");
  }
  if (found->volume_id != image.volume_id) {
    return not_ours(image, found->volume_id);
  }
  TRY(const auto directory, open_directory(image.directory));
  TRY(auto fd, open_beneath(directory.get(), image.file, flags));
  struct stat status{};
  if (::fstat(fd.get(), &status) != 0) {
    return errno_error(errno, "looking at " + describe(image));
  }
  if (status.st_dev != found->device || status.st_ino != found->inode) {
    return make_error(ErrorCode::failed_precondition, describe(image) + " was replaced while it was being opened");
  }
  return fd;
}

Result<ImageInfo> create_image_file(const ImageSpec& spec) {
  TRY(const auto existing, inspect_image_file(spec.image));
  if (existing) {
    if (existing->volume_id != spec.image.volume_id) {
      Error error = not_ours(spec.image, existing->volume_id);
      error.code = ErrorCode::already_exists;
      return error;
    }
    TRY(const auto grown, resize_image_file(spec));
    // Its name may not be durable yet: an earlier try may have ended between the two.
    TRY(const auto directory, open_directory(spec.image.directory));
    TRYV(sync_directory(directory.get(), spec.image));
    return grown;
  }
  TRY(const auto directory, open_directory(spec.image.directory));
  // A file of this name was left by a creation that crashed: nobody else may use it, and the volume's lock is held.
  const std::string temporary = temporary_name(spec.image);
  if (::unlinkat(directory.get(), temporary.c_str(), 0) != 0 && errno != ENOENT) {
    return errno_error(errno, "removing the half-made " + spec.image.directory + "/" + temporary);
  }
  const UniqueFd fd{::openat(directory.get(), temporary.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600)};
  if (!fd) {
    return errno_error(errno, "creating " + describe(spec.image));
  }
  acted("making the new image", temporary);
  auto info = write_new_image(fd.get(), spec);
  if (info && ::renameat2(directory.get(), temporary.c_str(), directory.get(), spec.image.file.c_str(), RENAME_NOREPLACE) != 0) {
    const int error = errno;
    const std::string what = "giving its name to " + describe(spec.image);
    info = error == EEXIST ? errno_error(ErrorCode::already_exists, error, what) : errno_error(error, what);
  }
  if (!info) {
    // Best effort: what stays is replaced by the next try, and the error that counts is the one above.
    ::unlinkat(directory.get(), temporary.c_str(), 0);
    return info;
  }
  acted("naming the image", spec.image.file);
  TRYV(sync_directory(directory.get(), spec.image));
  return info;
}

Result<std::optional<ImageInfo>> inspect_image_file(const ImageRef& image) {
  TRYV(check_name(image));
  const std::string path = image.directory + "/" + image.file;
  struct stat status{};
  if (::lstat(path.c_str(), &status) != 0) {
    if (errno != ENOENT) {
      return errno_error(errno == ENOTDIR ? ErrorCode::not_found : ErrorCode::internal, errno, "looking at " + describe(image));
    }
    TRYV(open_directory(image.directory));
    return std::optional<ImageInfo>{};
  }
  if (!S_ISREG(status.st_mode)) {
    return make_error(ErrorCode::failed_precondition, describe(image) + " is not a regular file; it is left alone");
  }
  TRY(auto volume_id, read_attribute(path));
  return std::optional{to_info(status, std::move(volume_id))};
}

Result<std::string> read_image_label(const ImageRef& image) {
  return read_attribute(image.directory + "/" + image.file, label_attribute, largest_label);
}

Result<void> relabel_image_file(const ImageSpec& spec) {
  TRY(const auto fd, open_image(spec.image, O_RDONLY));
  const std::string what = std::string{"setting the attribute "} + label_attribute + " of " + describe(spec.image);
  if (spec.label.empty() || ::fsetxattr(fd.get(), label_attribute, spec.label.data(), spec.label.size(), 0) != 0) {
    if (!spec.label.empty() && !is_for_want_of_room(errno)) {
      return errno_error(errno, what);
    }
    // None is better than the old one, which is not true any more.
    if (::fremovexattr(fd.get(), label_attribute) != 0 && errno != ENODATA) {
      return errno_error(errno, what);
    }
  }
  acted("relabelling the image", spec.image.file);
  return sync_image(fd.get(), spec.image);
}

Result<std::string> read_image_mark(const std::string& path) { return read_attribute(path); }

Result<void> mark_image(int fd, const ImageRef& image, const std::string& label) {
  // The label first: whoever finds the mark finds what it means.
  if (::fsetxattr(fd, label_attribute, label.data(), label.size(), 0) != 0) {
    const int error = errno;
    return errno_error(ErrorCode::failed_precondition, error,
                       std::string{"setting the attribute "} + label_attribute + " of " + describe(image) +
                           (is_for_want_of_room(error) ? " (its file system has no room for it: free some, or take other attributes off)"
                                                       : " (a pool's file system must keep trusted attributes)"));
  }
  return set_mark(fd, image);
}

Result<ImageInfo> resize_image_file(const ImageSpec& spec) {
  TRY(const auto fd, open_image(spec.image, O_RDWR));
  return grow_open_image(fd.get(), spec);
}

Result<void> remove_image_file(const ImageRef& image) {
  TRY(const auto found, inspect_image_file(image));
  TRY(const auto directory, open_directory(image.directory));
  if (found) {
    if (found->volume_id != image.volume_id) {
      return not_ours(image, found->volume_id);
    }
    if (::unlinkat(directory.get(), image.file.c_str(), 0) != 0 && errno != ENOENT) {
      return errno_error(errno, "removing " + describe(image));
    }
    acted("removing the image", image.file);
  }
  // What a creation that crashed has left.
  if (::unlinkat(directory.get(), temporary_name(image).c_str(), 0) != 0 && errno != ENOENT) {
    return errno_error(errno, "removing the half-made " + describe(image));
  }
  // Also where there was none: an earlier try may have ended between the two.
  return sync_directory(directory.get(), image);
}

Result<PoolUsage> inspect_pool_directory(const std::string& directory) {
  TRY(auto fd, open_directory(directory));
  struct stat status{};
  struct statvfs usage{};
  if (::fstat(fd.get(), &status) != 0 || ::fstatvfs(fd.get(), &usage) != 0) {
    return errno_error(errno, "looking at the directory " + directory);
  }
  TRY(auto filesystem, filesystem_of(fd.get(), status));
  TRY(auto mark, read_pool_mark(fd.get()));
  PoolUsage result{.total = usage.f_blocks * usage.f_frsize,
                   .free = usage.f_bavail * usage.f_frsize,
                   .inodes = usage.f_files,
                   .inodes_free = usage.f_favail,
                   .device = status.st_dev,
                   .filesystem = std::move(filesystem),
                   .read_only = (usage.f_flag & ST_RDONLY) != 0,
                   .mark = std::move(mark),
                   .images = {}};
  const DirectoryStream stream{::fdopendir(fd.get())};
  if (!stream) {
    return errno_error(errno, "listing the directory " + directory);
  }
  fd.release();  // the stream closes it
  while (true) {
    errno = 0;
    const dirent* entry = ::readdir(stream.get());
    if (entry == nullptr) {
      if (errno != 0) {
        return errno_error(errno, "listing the directory " + directory);
      }
      return result;
    }
    const std::string name{static_cast<const char*>(entry->d_name)};
    if (!name.ends_with(".img") && !(name.starts_with('.') && name.ends_with(half_made_ending))) {
      continue;
    }
    std::string path = directory;
    path.append("/").append(name);
    if (::lstat(path.c_str(), &status) != 0) {
      if (errno == ENOENT) {
        continue;  // removed while we looked
      }
      result.images.push_back({.file = name, .trouble = errno_error(errno, "looking at " + path).message});  // one must not cost all
      continue;
    }
    if (!S_ISREG(status.st_mode)) {
      continue;
    }
    auto volume_id = read_attribute(path);
    if (!volume_id) {
      if (volume_id.error().sys_errno != ENOENT) {
        const ImageInfo info = to_info(status, {});
        result.images.push_back({.file = name, .size = info.size, .allocated = info.allocated, .trouble = volume_id.error().message});
      }
      continue;
    }
    ImageInfo info = to_info(status, std::move(volume_id).value());
    result.images.push_back(
        {.file = name, .size = info.size, .allocated = info.allocated, .volume_id = std::move(info.volume_id), .trouble = {}});
  }
}

}  // namespace ordinald::mount
