#pragma once

#include <sys/types.h>

#include <filesystem>
#include <memory>
#include <string>

#include "tests/faults/sick_control.hpp"
#include "tests/support/temp.hpp"

/// Directories whose device fails or hangs when a test says so. Each guard ends what hangs by itself, also when the test fails: no
/// process is left in uninterruptible sleep. Make them after the Rig whose pool they are, so that they go before it.
///
/// Threading: one object, one thread. Errors: throws std::system_error or std::runtime_error.
namespace ordinald::testing {

/// A directory behind a FUSE server of its own.
class SickDirectory {
 public:
  /// Serves the empty directory at this path.
  explicit SickDirectory(const std::filesystem::path& path);
  SickDirectory(const SickDirectory&) = delete;
  SickDirectory& operator=(const SickDirectory&) = delete;
  /// Kills the server, whatever state it is in: the kernel answers all that waits for it with an error. The mount goes with the Rig's
  /// directory, as do the loop devices on it.
  ~SickDirectory();

  SickControl& control() { return *control_; }
  /// Lets these operations (SickOp) fail from now on, on bytes of `[begin, end)`.
  void fail(std::uint32_t ops, int error = 5, std::uint64_t begin = 0, std::uint64_t end = SickControl::everywhere);
  /// Lets these fail after `passing` more of them.
  void fail_after(std::uint32_t ops, std::uint64_t passing);
  /// Lets these operations wait.
  void hold(std::uint32_t ops);
  /// Until one more operation waits than had before.
  void wait_for_held(std::uint32_t before);
  /// All is well again.
  void heal();
  /// Stops the whole server (SIGSTOP): everything beneath the path hangs.
  void freeze();
  void thaw();
  /// The same files, without FUSE.
  const std::filesystem::path& below() const { return below_; }

 private:
  std::filesystem::path path_;
  TempDir temp_;
  std::filesystem::path below_;
  SickControl* control_ = nullptr;
  pid_t pid_ = -1;
};

/// An ext4 on an image of its own, mounted at the path, that can be frozen (FIFREEZE, ioctl_fifreeze(2)): what writes to it then waits.
class FreezableDirectory {
 public:
  FreezableDirectory(const std::filesystem::path& path, std::int64_t size);
  FreezableDirectory(const FreezableDirectory&) = delete;
  FreezableDirectory& operator=(const FreezableDirectory&) = delete;
  /// Thaws it. Its mount goes with the Rig's directory.
  ~FreezableDirectory();

  void freeze();
  void thaw();

 private:
  std::filesystem::path path_;
  TempDir temp_;
  bool frozen_ = false;
};

}  // namespace ordinald::testing
