#include "mount/loop_search.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cerrno>
#include <cstdio>
#include <ctime>
#include <memory>
#include <string_view>
#include <vector>

#include "mount/block_device.hpp"
#include "mount/files.hpp"

namespace ordinald::mount {
namespace {

constexpr const char* loops_directory = "/sys/devices/virtual/block";
constexpr std::string_view deleted_mark = " (deleted)";

/// Whether one path is the other's end, name by name. The loop may have been attached by an agent in another mount namespace, where
/// the pool's directory hangs elsewhere: then sysfs shows a shorter path than ours, or a longer one.
bool one_ends_with_other(std::string_view a, std::string_view b) {
  if (a.size() < b.size()) {
    std::swap(a, b);
  }
  return a.ends_with(b) && (a.size() == b.size() || b.starts_with('/') || a[a.size() - b.size() - 1] == '/');
}

bool is_candidate(std::string_view backing, const BackingFile& file) {
  const bool deleted = backing.ends_with(deleted_mark);
  if (file.inode != 0) {
    const std::string_view name = deleted ? backing.substr(0, backing.size() - deleted_mark.size()) : backing;
    const auto slash = name.rfind('/');
    // Both readings: a file's own name can end in "(deleted)" too.
    return name.substr(slash == std::string_view::npos ? 0 : slash + 1) == file.file || backing.ends_with("/" + file.file);
  }
  return deleted && one_ends_with_other(backing.substr(0, backing.size() - deleted_mark.size()), file.directory + "/" + file.file);
}

/// A loop may have been made on another name of the file, a hard link.
bool is_same_file(const std::string& path, const BackingFile& file) {
  struct stat status{};
  return file.names > 1 && ::stat(path.c_str(), &status) == 0 && status.st_dev == file.device && status.st_ino == file.inode;
}

struct NamedLoop {
  std::string name;     ///< loopN
  std::string backing;  ///< as sysfs shows it
};

/// All that have a file.
Result<std::vector<NamedLoop>> list_named() {
  const DirectoryStream stream{::opendir(loops_directory)};
  if (!stream) {
    return errno_error(errno, std::string{"listing "} + loops_directory);
  }
  std::vector<NamedLoop> found;
  while (true) {
    errno = 0;
    const dirent* entry = ::readdir(stream.get());
    if (entry == nullptr) {
      if (errno != 0) {
        return errno_error(errno, std::string{"listing "} + loops_directory);
      }
      return found;
    }
    std::string name{static_cast<const char*>(entry->d_name)};
    if (!name.starts_with("loop")) {
      continue;
    }
    auto backing = read_kernel_file(name + "/loop/backing_file", ::dirfd(stream.get()));
    // A loop without a file has no such entry, and one that goes away while we look answers ENODEV or ENXIO: neither counts.
    if (backing) {
      found.push_back({.name = std::move(name), .backing = std::move(backing).value()});
    }
  }
}

/// One look. `winding_down` tells that a candidate had neither a file nor done with it.
Result<std::optional<OpenLoop>> look(const BackingFile& file, bool& winding_down) {
  winding_down = false;
  TRY(const auto loops, list_named());
  for (const NamedLoop& named : loops) {
    if (!is_candidate(named.backing, file) && !is_same_file(named.backing, file)) {
      continue;
    }
    const std::string path = "/dev/" + named.name;
    OpenLoop loop{.fd = UniqueFd{::open(path.c_str(), O_RDONLY | O_CLOEXEC)}, .device = {}};
    if (!loop.fd) {
      const int error = errno;
      if (error == ENXIO || error == EBUSY) {  // the kernel lets nobody in while it takes the file away
        winding_down = true;
        continue;
      }
      return errno_error(error, "opening " + path + ", which sysfs says has " + file.directory + "/" + file.file + " attached");
    }
    auto info = loop_status(loop.fd.get(), path);
    if (!info) {
      if (info.error().code == ErrorCode::not_found) {
        winding_down = true;
        continue;
      }
      return info.error();
    }
    loop.info = info.value();
    if (file.inode != 0 && (loop.info.lo_device != file.device || loop.info.lo_inode != file.inode)) {
      continue;  // another file of that name
    }
    TRY(loop.device, describe_open_device(loop.fd.get(), path));
    return std::optional{std::move(loop)};
  }
  return std::optional<OpenLoop>{};
}

}  // namespace

Result<std::vector<LoopEntry>> list_loops() {
  TRY(const auto named, list_named());
  std::vector<LoopEntry> loops;
  for (const NamedLoop& each : named) {
    const auto number = read_kernel_file(std::string{loops_directory} + "/" + each.name + "/dev");
    if (!number) {
      continue;  // it went meanwhile
    }
    unsigned major_number = 0;
    unsigned minor_number = 0;
    if (std::sscanf(number.value().c_str(), "%u:%u", &major_number, &minor_number) != 2) {
      return make_error(ErrorCode::internal, "sysfs gives " + each.name + " the device number " + number.value());
    }
    LoopEntry entry{.path = "/dev/" + each.name, .number = makedev(major_number, minor_number), .backing = each.backing, .deleted = false};
    if (entry.backing.ends_with(deleted_mark)) {
      entry.backing.resize(entry.backing.size() - deleted_mark.size());
      entry.deleted = true;
    }
    loops.push_back(std::move(entry));
  }
  return loops;
}

bool ShortWait::again() {
  if (rounds_++ >= 100) {
    return false;
  }
  const timespec pause{.tv_sec = 0, .tv_nsec = 2'000'000};
  ::nanosleep(&pause, nullptr);
  return true;
}

std::string sysfs_path(const Device& device, const char* name) {
  return "/sys/dev/block/" + std::to_string(major(device.number)) + ":" + std::to_string(minor(device.number)) + "/" + name;
}

Result<std::optional<OpenLoop>> search_loops(const BackingFile& file) {
  ShortWait wait;
  while (true) {
    bool winding_down = false;
    TRY(auto found, look(file, winding_down));
    if (found || !winding_down) {
      return found;
    }
    if (!wait.again()) {
      return make_error(ErrorCode::unavailable, "a loop device of " + file.directory + "/" + file.file +
                                                    " is still being taken away by the kernel; try again in a moment");
    }
  }
}

}  // namespace ordinald::mount
