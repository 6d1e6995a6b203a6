#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace ordinald::mount {

/// What kind of failure it is, in the words of gRPC's status codes, so that one table in csi/status maps it.
enum class ErrorCode : std::uint8_t {
  invalid_argument,     ///< the request itself is wrong; a retry can't help
  not_found,            ///< the volume, path or thing does not exist
  already_exists,       ///< it exists, with other properties than those asked for
  failed_precondition,  ///< refused in the present state: somebody must change something first
  aborted,              ///< another call on the same volume is still running
  resource_exhausted,   ///< no room: pool, inodes, loop devices
  out_of_range,         ///< a size that can't be had
  unimplemented,        ///< not served here
  internal,             ///< a step failed in a way that is nobody's request's fault (EIO, a tool that died)
  unavailable,          ///< it may still be going on (a device or a worker that hangs)
};

/// The code's name, lower case with underscores, as logs show it.
std::string_view to_string(ErrorCode code);

/// A failure for the person on call: what was tried, on which volume and device, what the kernel said, what to do next.
///
/// Never holds a secret or a mount flag's text (rule 6). Value type; no locking.
struct Error {
  ErrorCode code = ErrorCode::internal;
  std::string message;
  int sys_errno = 0;  ///< the errno behind it, 0 where there is none

  /// The same error with `what: ` before its message.
  [[nodiscard]] Error with_context(std::string_view what) const;
};

/// An error of `code` with a message of its own.
Error make_error(ErrorCode code, std::string message);

/// `<what>: <text of errno> (<NAME>)`. The code follows the errno: ENOSPC, EDQUOT, EMFILE, ENFILE: resource_exhausted; all else internal.
Error errno_error(int sys_errno, std::string_view what);

/// As errno_error, with the code given.
Error errno_error(ErrorCode code, int sys_errno, std::string_view what);

}  // namespace ordinald::mount
