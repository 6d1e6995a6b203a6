#pragma once

#include <sys/types.h>

#include <functional>
#include <string>

#include "tests/support/cgroup.hpp"

/// A process in a control group of its own, as a container's is: it does what a test says and then waits until it is killed.
/// Errors: throws std::runtime_error, also when what it should do throws.
namespace ordinald::testing {

class Workload {
 public:
  /// `act` runs in the process once it is in its group; it has no descriptor of the test's but stdin, stdout and stderr.
  Workload(const std::string& group, const std::function<void()>& act, const std::string& hierarchy = {});
  Workload(const Workload&) = delete;
  Workload& operator=(const Workload&) = delete;
  /// Kills all that is in the group, and removes it.
  ~Workload();

  pid_t pid() const { return pid_; }

 private:
  TestCgroup cgroup_;
  pid_t pid_ = -1;
};

/// For `act`: a mount namespace of its own, whose mounts are what is mounted now.
void leave_mount_namespace();

}  // namespace ordinald::testing
