#pragma once

#include <grpcpp/support/status.h>

#include "mount/error.hpp"

namespace ordinald::csi {

/// The gRPC status code of each kind of error: the one table.
grpc::StatusCode to_status_code(mount::ErrorCode code);

/// The status that a caller gets: never with an empty message, never with details. A message that wouldn't pass a client's limit for
/// metadata (8 KiB with some, once percent-encoded) is cut.
grpc::Status to_status(const mount::Error& error);

}  // namespace ordinald::csi
