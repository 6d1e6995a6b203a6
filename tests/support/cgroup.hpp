#pragma once

#include <sys/types.h>

#include <string>

/// A control group of a test's own, beneath the hierarchy that the agent looks through. Errors: throws std::runtime_error.
namespace ordinald::testing {

class TestCgroup {
 public:
  /// Whether groups can be made here.
  static bool possible();

  /// `<hierarchy>/ordinald-test-<pid>-<n>/<name>`.
  explicit TestCgroup(const std::string& name);
  TestCgroup(const TestCgroup&) = delete;
  TestCgroup& operator=(const TestCgroup&) = delete;
  /// Removes it; processes that are still in it go back to the root first.
  ~TestCgroup();

  void add(pid_t pid);

 private:
  std::string parent_;
  std::string path_;
};

}  // namespace ordinald::testing
