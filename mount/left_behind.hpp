#pragma once

#include <sys/types.h>

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "mount/result.hpp"
#include "mount/unique_fd.hpp"

namespace ordinald::mount {

/// Workers and tools that nobody waits for any more: those of an earlier agent that were still there when this one started, and the tools
/// of workers that died. They are killed; one in uninterruptible sleep lives on, and until it is gone nobody may touch its volume (rule 8).
/// The others are served.
///
/// Threading: a value; copies share the processes, and may be used by several threads. Errors: internal when the directory can't be read.
class LeftBehind {
 public:
  struct Process {
    pid_t pid = 0;
    std::string command;
    std::string volume;
    std::chrono::system_clock::time_point since;  ///< when it began with this volume
  };

  LeftBehind() = default;

  /// Reads the marks beneath the run directory and sends SIGKILL to whoever wrote them; does not wait. Call it only while holding the
  /// lock on the run directory: another agent's living workers are killed as well. No directory is nothing left.
  static Result<LeftBehind> collect(const std::string& run_dir);
  /// The same for one worker of ours, which has died: its tool may not have.
  static Result<LeftBehind> collect_of(const std::string& run_dir, pid_t worker);

  /// Adds the other's, and forgets who is gone.
  void merge(const LeftBehind& other);

  /// Success once nothing that was left works on the volume any more; waits up to `patience` for that (0.1 ms is usual after a kill).
  /// unavailable: it is still there; says which process, and since when.
  [[nodiscard]] Result<void> check(std::string_view volume, std::chrono::milliseconds patience = std::chrono::seconds{2}) const;

  /// Who is still alive now.
  [[nodiscard]] std::vector<Process> alive() const;

 private:
  struct Entry;
  static Result<LeftBehind> collect_names(const std::string& directory, const std::vector<std::string>& names);

  std::vector<std::shared_ptr<Entry>> entries_;
};

}  // namespace ordinald::mount
