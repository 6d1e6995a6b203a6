#pragma once

#include <sys/types.h>

#include <string>

#include "tests/support/rig.hpp"

/// Puts a script in a program's place (beneath /usr, which must be a WritableUsr). Threading: one object, one thread.
/// Errors: throws std::system_error or std::runtime_error.
namespace ordinald::testing {

class FaultyTool {
 public:
  /// `body` is bash; there `$REAL` is the program, and `real "$@"` runs it under its own name. Empty: the program is missing.
  FaultyTool(const fs::path& program, const std::string& body);
  FaultyTool(const FaultyTool&) = delete;
  FaultyTool& operator=(const FaultyTool&) = delete;
  ~FaultyTool();

 protected:
  const fs::path& directory() const { return directory_; }

 private:
  fs::path program_;
  fs::path directory_;
};

/// Runs the program until just half of its n-th write to a block device is done, counted from 1: there it stops (or dies). 0: it runs on,
/// and its writes are counted.
class StoppedTool : FaultyTool {
 public:
  StoppedTool(const fs::path& program, int at, int signal);
  ~StoppedTool();

  /// Waits until the program is there, or has ended. The pid of the one that stands there; 0: it ended before, and made `writes()`.
  pid_t wait();
  int writes() const { return writes_; }

 private:
  int events_ = -1;
  int writes_ = 0;
};

}  // namespace ordinald::testing
