#include "mount/error.hpp"

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "mount/result.hpp"

namespace ordinald::mount {

std::string_view to_string(ErrorCode code) {
  switch (code) {
    case ErrorCode::invalid_argument:
      return "invalid_argument";
    case ErrorCode::not_found:
      return "not_found";
    case ErrorCode::already_exists:
      return "already_exists";
    case ErrorCode::failed_precondition:
      return "failed_precondition";
    case ErrorCode::aborted:
      return "aborted";
    case ErrorCode::resource_exhausted:
      return "resource_exhausted";
    case ErrorCode::out_of_range:
      return "out_of_range";
    case ErrorCode::unimplemented:
      return "unimplemented";
    case ErrorCode::internal:
      return "internal";
    case ErrorCode::unavailable:
      return "unavailable";
  }
  return "internal";
}

Error Error::with_context(std::string_view what) const {
  Error result = *this;
  result.message = std::string{what} + ": " + message;
  return result;
}

Error make_error(ErrorCode code, std::string message) { return Error{.code = code, .message = std::move(message), .sys_errno = 0}; }

Error errno_error(int sys_errno, std::string_view what) {
  switch (sys_errno) {
    case ENOSPC:
    case EDQUOT:
    case EMFILE:
    case ENFILE:
      return errno_error(ErrorCode::resource_exhausted, sys_errno, what);
    default:
      return errno_error(ErrorCode::internal, sys_errno, what);
  }
}

Error errno_error(ErrorCode code, int sys_errno, std::string_view what) {
  std::string message{what};
  message += ": ";
  const char* text = ::strerrordesc_np(sys_errno);
  message += text != nullptr ? text : "unknown error";
  if (const char* name = ::strerrorname_np(sys_errno); name != nullptr) {
    message += " (";
    message += name;
    message += ")";
  }
  return Error{.code = code, .message = std::move(message), .sys_errno = sys_errno};
}

void throw_no_value(const Error& error) { throw std::logic_error{"a value was asked for where there is an error: " + error.message}; }

void throw_no_value() { throw std::logic_error{"a value was asked for where there is an error"}; }

void throw_no_error() { throw std::logic_error{"an error was asked for where there is none"}; }

}  // namespace ordinald::mount
