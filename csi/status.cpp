#include "csi/status.hpp"

#include <cstddef>
#include <string>

namespace ordinald::csi {
namespace {

using grpc::StatusCode;
using mount::ErrorCode;

constexpr std::size_t encoded_limit = 4096;

/// As much of the message as has at most `encoded_limit` bytes when gRPC has percent-encoded it, cut between two characters.
std::string fitting(std::string_view message) {
  std::size_t encoded = 0;
  std::size_t end = 0;  // of the last whole character that fits
  for (std::size_t i = 0; i < message.size(); ++i) {
    const auto byte = static_cast<unsigned char>(message[i]);
    if ((byte & 0xc0U) != 0x80U) {
      end = i;
    }
    encoded += byte < 0x20 || byte > 0x7e || byte == '%' ? 3 : 1;
    if (encoded > encoded_limit) {
      return std::string{message.substr(0, end)} + " ... (cut; the agent's log has all of it)";
    }
  }
  return std::string{message};
}

}  // namespace

StatusCode to_status_code(ErrorCode code) {
  switch (code) {
    case ErrorCode::invalid_argument:
      return StatusCode::INVALID_ARGUMENT;
    case ErrorCode::not_found:
      return StatusCode::NOT_FOUND;
    case ErrorCode::already_exists:
      return StatusCode::ALREADY_EXISTS;
    case ErrorCode::failed_precondition:
      return StatusCode::FAILED_PRECONDITION;
    case ErrorCode::aborted:
      return StatusCode::ABORTED;
    case ErrorCode::resource_exhausted:
      return StatusCode::RESOURCE_EXHAUSTED;
    case ErrorCode::out_of_range:
      return StatusCode::OUT_OF_RANGE;
    case ErrorCode::unimplemented:
      return StatusCode::UNIMPLEMENTED;
    case ErrorCode::internal:
      return StatusCode::INTERNAL;
    case ErrorCode::unavailable:
      return StatusCode::UNAVAILABLE;
  }
  return StatusCode::INTERNAL;
}

grpc::Status to_status(const mount::Error& error) {
  std::string message = fitting(error.message);
  if (message.empty()) {
    message = "bug: an error without a message (" + std::string{mount::to_string(error.code)} + ")";
  }
  return {to_status_code(error.code), message};
}

}  // namespace ordinald::csi
