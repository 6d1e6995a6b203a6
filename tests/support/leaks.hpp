#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <vector>

/// What of a test is still there: mounts, loop devices, processes. Reads /proc and sysfs only.
/// Threading: any. Errors: throws std::runtime_error when /proc can't be read.
namespace ordinald::testing {

struct LoopDevice {
  std::string path;          ///< /dev/loopN
  std::string backing_file;  ///< as sysfs says; ends in " (deleted)" when it is gone
  bool autoclear = false;
};

/// One line of this namespace's mount table that matters to a test.
struct Mounted {
  std::string path;
  std::string options;  ///< of the mount point
  std::string fs_type;
  std::string source;
  std::string super_options;  ///< of the filesystem
};

/// This namespace's mount table in its own order, a mount after what it stands on.
std::vector<Mounted> mount_table();
/// What is mounted at the path, the topmost; an empty path when nothing is.
Mounted mounted_at(const std::filesystem::path& path);

/// Mount points at or beneath the directory, in the table's order.
std::vector<std::string> mounts_beneath(const std::filesystem::path& directory);
std::vector<LoopDevice> loops_beneath(const std::filesystem::path& directory);

/// Processes whose program is this file; zombies left out.
std::vector<pid_t> processes_of(const std::filesystem::path& program);

/// One line for each mount and loop device beneath the directory; empty when nothing is left.
std::string leaks_beneath(const std::filesystem::path& directory);

}  // namespace ordinald::testing
