#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "mount/result.hpp"

/// How a command ends: a value, or why it failed with the exit status that says so to a script.
namespace ordinald::ctl {

/// The exit statuses of `ordinalctl`; ordinalctl(8) documents them, and scripts depend on them.
enum class Exit : std::uint8_t {
  done = 0,
  failed = 1,       ///< the agent refused or something went wrong; the message says why
  usage = 2,        ///< the command line or a file that it names is wrong; nothing was tried
  unreachable = 3,  ///< no agent answers, or we may not ask it
  busy = 4,         ///< held by somebody else, or not let go in time
  needs_yes = 5,    ///< shown what would be done; nothing was done
  unhealthy = 6,    ///< status and doctor: they found problems
};

/// A failure for the person who called. Value type.
struct Failure {
  Exit status = Exit::failed;
  std::string code;     ///< the agent's, as CSI spells it (`FAILED_PRECONDITION`); empty where no agent said it
  std::string message;  ///< what was tried, what came of it, what to do next

  Failure(Exit status_, std::string code_, std::string message_) : status(status_), code(std::move(code_)), message(std::move(message_)) {}
  /// From the floors below, so that TRY carries their errors up: invalid_argument is wrong usage, all else failed.
  Failure(mount::Error error)  // NOLINT(google-explicit-constructor)
      : status(error.code == mount::ErrorCode::invalid_argument ? Exit::usage : Exit::failed), message(std::move(error.message)) {}
};

template <class T>
using Result = mount::Result<T, Failure>;

inline Failure failure(Exit status, std::string message) { return {status, "", std::move(message)}; }

}  // namespace ordinald::ctl
