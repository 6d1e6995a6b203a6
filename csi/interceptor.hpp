#pragma once

#include <grpcpp/support/server_interceptor.h>

#include <memory>

#include "csi/answer_watch.hpp"
#include "csi/call_edge.hpp"

namespace ordinald::csi {

/// What stands on gRPC's side of each call: counts it for CallEdge's drain, tells the watch of its answer, and gives text and a log line to
/// the answers that gRPC makes by itself and sends with an empty message: UNIMPLEMENTED of the methods that no service of ours overrides,
/// and the refusal of bytes that aren't the method's message (INVALID_ARGUMENT then). Thread safe; edge and watch must outlive the server.
std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> make_interceptor(const CallEdge& edge, AnswerWatch& watch);

}  // namespace ordinald::csi
