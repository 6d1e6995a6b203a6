#pragma once

#include <sys/types.h>

#include <string>

/// A control group of a test's own, beneath the hierarchy that the agent looks through. Errors: throws std::runtime_error.
namespace ordinald::testing {

class TestCgroup {
 public:
  /// Whether groups can be made here.
  static bool possible();

  /// `<hierarchy>/ordinald-test-<pid>-<n>/<name>`; the hierarchy is the one the agent looks through where none is named.
  explicit TestCgroup(const std::string& name, const std::string& hierarchy = {});
  TestCgroup(const TestCgroup&) = delete;
  TestCgroup& operator=(const TestCgroup&) = delete;
  /// Removes it with the groups in it; processes that are still there go back to the root first.
  ~TestCgroup();

  void add(pid_t pid);
  /// Kills its processes, and waits until there are none.
  void kill_all();
  const std::string& path() const { return path_; }

 private:
  std::string root_;
  std::string parent_;
  std::string path_;
};

}  // namespace ordinald::testing
