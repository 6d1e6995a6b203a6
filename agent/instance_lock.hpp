#pragma once

#include <string>
#include <utility>

#include "mount/result.hpp"
#include "mount/unique_fd.hpp"

namespace ordinald::agent {

/// Makes the directory (0700), and its parents (0755), where they are missing.
mount::Result<void> make_private_directory(const std::string& directory);

/// Holds a directory for one agent: flock(2) on `<directory>/lock`, gone with the process however that ends.
///
/// The file (0600) stays, and holds the owner's pid for people and for the refusal of a second agent. The daemon forks nothing after it
/// takes the lock (the zygote is forked before), so nobody inherits it; its descriptor is close-on-exec all the same.
class InstanceLock {
 public:
  /// failed_precondition: another agent has it, and which. Makes the directory where it is missing.
  static mount::Result<InstanceLock> acquire(const std::string& directory);
  InstanceLock() = default;  ///< holds nothing

 private:
  explicit InstanceLock(mount::UniqueFd file) : file_(std::move(file)) {}
  mount::UniqueFd file_;
};

}  // namespace ordinald::agent
