#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "mount/result.hpp"

/// Other programs that a command asks, such as `mke2fs -V` or `systemctl`: no shell, nothing on the input, a deadline.
namespace ordinald::ctl {

struct ProgramEnd {
  int status = 0;      ///< as exited; 128 and the signal that ended it, otherwise
  std::string output;  ///< stdout and stderr together, the first MiB
};

/// Runs an absolute argv and waits for its end; when the deadline passes it is killed. Blocks the thread. Errors: not_found: the program
/// isn't there; unavailable: it didn't end in time; internal.
mount::Result<ProgramEnd> run_program(const std::vector<std::string>& argv, std::chrono::milliseconds deadline);

}  // namespace ordinald::ctl
