#pragma once

#include <linux/loop.h>

#include <optional>
#include <string>
#include <vector>

#include "mount/kernel.hpp"
#include "mount/unique_fd.hpp"

/// Which loop device an image has. Part of loop_device; stateless, any thread.
namespace ordinald::mount {

/// A loop, held open, so that an autoclear one can't go away meanwhile.
struct OpenLoop {
  UniqueFd fd;
  Device device;
  loop_info64 info{};
};

/// The file that an image is (or was, when it is gone: then sysfs's name, with its "(deleted)", is all there is to go by).
struct BackingFile {
  std::string directory;
  std::string file;
  std::uint64_t device = 0;
  std::uint64_t inode = 0;  ///< 0: gone
  std::uint64_t names = 1;  ///< st_nlink
};

/// Looks through sysfs for candidates by name (and by what the path leads to, where the file has several names), opens those only, and
/// believes what LOOP_GET_STATUS64 says. unavailable: a loop of this name is being taken away just now and didn't get done within a fifth
/// of a second.
Result<std::optional<OpenLoop>> search_loops(const BackingFile& file);

/// Every loop that has a file, by sysfs alone.
Result<std::vector<LoopEntry>> list_loops();

/// `/sys/dev/block/M:m/` and the name; for what can be known of a device without opening it.
std::string sysfs_path(const Device& device, const char* name);

/// Waits a moment for what the kernel reports no event for: 2 ms each time, false once 200 ms have passed.
class ShortWait {
 public:
  bool again();

 private:
  int rounds_ = 0;
};

}  // namespace ordinald::mount
