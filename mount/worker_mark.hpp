#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "mount/result.hpp"
#include "mount/unique_fd.hpp"

namespace ordinald::mount {

/// What a worker says of itself in `<run_dir>/workers/<pid>.<start time>`, so that the successor of a killed agent knows what may still
/// act on which volume: one line, written in one go before the worker acts.
///
///     data-db-1
///     data-db-1<TAB>4711 5338270 mkfs.btrfs        (while it runs a tool: pid, start time, program)
struct Mark {
  std::string volume;  ///< empty: has not begun with any
  pid_t tool_pid = 0;  ///< 0: none
  std::uint64_t tool_start = 0;
  std::string tool;
};

/// nullopt: not what we write.
std::optional<Mark> parse_mark(std::string_view text);

/// The worker's side. Threading: one process with one thread. A tool's child writes its own pid through the copy it has by fork.
class WorkerMark {
 public:
  /// Makes the file for the calling process.
  static Result<WorkerMark> open(const std::string& run_dir);

  /// Costs a system call when the volume is another than before, else nothing.
  Result<void> set_volume(std::string_view volume);
  Result<void> set_tool(pid_t pid, std::uint64_t start_time, std::string_view program);
  Result<void> clear_tool();
  /// At a clean end.
  void remove();

 private:
  WorkerMark(UniqueFd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}
  Result<void> write(std::string line);

  UniqueFd fd_;
  std::string path_;
  std::string volume_;  ///< escaped, as it stands in the file
};

/// The worker that a mark's file is of, `<pid>.<start time>`; false: no such name.
bool parse_mark_name(std::string_view name, pid_t& pid, std::uint64_t& start_time);

/// `<run_dir>/workers`.
std::string marks_directory(const std::string& run_dir);

}  // namespace ordinald::mount
