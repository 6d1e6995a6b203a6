#include "csi/server.hpp"

#include <absl/synchronization/mutex.h>
#include <google/protobuf/stubs/logging.h>
#include <grpc/support/log.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <grpcpp/server_posix.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "csi/answer_watch.hpp"
#include "csi/call_edge.hpp"
#include "csi/connections.hpp"
#include "csi/controller_service.hpp"
#include "csi/identity_service.hpp"
#include "csi/interceptor.hpp"
#include "csi/listener.hpp"
#include "csi/node_service.hpp"

namespace ordinald::csi {
namespace {

/// Of a message. A Create that names every node of a large cluster in its requisite topologies has some hundred KiB.
constexpr int max_receive_bytes = 4 << 20;
/// Of all that gRPC holds for connections and calls; beyond it gRPC closes connections without a call, then cancels calls. It reads even a
/// message that is too large to its end before it refuses it.
constexpr std::size_t grpc_memory = 128 << 20;
constexpr std::chrono::milliseconds after_cancel{500};

/// gRPC has one function for the whole process, without a context: where its words go is that of the server started last. Never destroyed.
std::atomic<std::shared_ptr<const mount::Log>>& grpc_log() {
  static auto& log = *new std::atomic<std::shared_ptr<const mount::Log>>;
  return log;
}

void log_of_grpc(gpr_log_func_args* words) {
  if (const auto log = grpc_log().load(); log != nullptr && words->severity == GPR_LOG_SEVERITY_ERROR) {
    log->error("gRPC: {}", words->message);
  }
}

}  // namespace

struct Server::State {
  State(const ServerOptions& options, VolumeOps& ops, const std::shared_ptr<const mount::Log>& log)
      : edge(log),
        watch(options.answers, log),
        identity(options.plugin, ops, edge),
        node(ops, edge),
        controller(options.plugin, ops, edge) {}

  bool build(int max_threads);
  void drain(std::chrono::milliseconds grace);

  CallEdge edge;
  AnswerWatch watch;
  IdentityService identity;
  NodeService node;
  ControllerService controller;
  ::csi::v1::GroupController::Service group_controller;    // UNIMPLEMENTED, with interceptor' text
  ::csi::v1::SnapshotMetadata::Service snapshot_metadata;  // the same
  std::unique_ptr<grpc::Server> grpc;
  std::unique_ptr<Listener> listener;
  std::unique_ptr<Connections> connections;
  std::thread acceptor;

  std::thread drainer;
  std::mutex mutex;
  std::condition_variable changed;
  bool drained = false;  ///< under mutex
};

bool Server::State::build(int max_threads) {
  // Of bytes that are no message, protobuf writes lines of its own to stderr; the interceptor's line says it all.
  google::protobuf::SetLogHandler(nullptr);
  grpc::ServerBuilder builder;
  builder.RegisterService(&identity);
  builder.RegisterService(&node);
  builder.RegisterService(&controller);
  builder.RegisterService(&group_controller);
  builder.RegisterService(&snapshot_metadata);

  // One completion queue. A thread that takes a call from it leaves the queue to another one, made if need be, up to the quota.
  builder.SetSyncServerOption(grpc::ServerBuilder::NUM_CQS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MIN_POLLERS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MAX_POLLERS, 2);
  builder.SetResourceQuota(grpc::ResourceQuota{"csi"}.SetMaxThreads(max_threads + 1).Resize(grpc_memory));  // the one more waits for calls
  // One client that floods its connection leaves the others their half.
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, std::max(1, max_threads / 2));

  builder.SetMaxReceiveMessageSize(max_receive_bytes);
  // A local socket has no bandwidth to measure, no peer to protect against pings, and nobody asks for traces of it.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PING_STRIKES, 0);
  builder.AddChannelArgument(GRPC_ARG_ENABLE_CHANNELZ, 0);

  std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> interceptors;
  interceptors.push_back(make_interceptor(edge, watch));
  builder.experimental().SetInterceptorCreators(std::move(interceptors));
  grpc = builder.BuildAndStart();
  return grpc != nullptr;
}

void Server::State::drain(std::chrono::milliseconds grace) {
  // gRPC's Shutdown would also wait for connections without a call, which their clients close when it suits them (a C++ one after 5 s).
  edge.drain(grace);
  grpc->Shutdown(std::chrono::system_clock::now());
  const std::lock_guard lock{mutex};
  drained = true;
  changed.notify_all();
}

Server::Server(std::unique_ptr<State> state) : state_(std::move(state)) {}

mount::Result<std::unique_ptr<Server>> Server::start(const ServerOptions& options, VolumeOps& ops, std::shared_ptr<const mount::Log> log) {
  TRY(const auto path, parse_endpoint(options.endpoint));
  if (options.max_threads < 1) {
    return mount::make_error(mount::ErrorCode::invalid_argument, "the most threads must be at least 1");
  }
  // Debian builds Abseil with its lock checks: each of gRPC's locks is entered in a graph, and two that were ever taken in either order end
  // the process, even where both orders can't meet. That is for gRPC's developers; here it costs time, and could cost the node its agent.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  grpc_log().store(log);
  ::gpr_set_log_function(&log_of_grpc);  // by itself it writes to stderr, between our lines
  auto state = std::make_unique<State>(options, ops, log);
  if (!state->build(options.max_threads)) {
    return mount::make_error(mount::ErrorCode::internal, "gRPC can't start its server");
  }
  // The socket comes last: whoever can connect is served.
  TRY(state->listener, Listener::open(path));
  TRY(state->connections, Connections::open(*state->listener, options.connections, log, [server = state->grpc.get()](int connection) {
        grpc::AddInsecureChannelFromFd(server, connection);
      }));
  state->acceptor = std::thread{[connections = state->connections.get()] {
    ::pthread_setname_np(::pthread_self(), "csi-accept");
    connections->run();
  }};
  return std::unique_ptr<Server>{new Server{std::move(state)}};
}

Server::~Server() {
  (void)shutdown(std::chrono::milliseconds{0});
  state_->drainer.join();
}

bool Server::shutdown(std::chrono::milliseconds drain) {
  State& state = *state_;
  if (!state.drainer.joinable()) {
    state.listener->close();
    state.acceptor.join();
    // gRPC's own Shutdown returns only when every call has ended, also those that it has cancelled: on a thread of its own.
    state.drainer = std::thread{[&state, drain] { state.drain(drain); }};
  }
  std::unique_lock lock{state.mutex};
  return state.changed.wait_for(lock, drain + after_cancel, [&state] { return state.drained; });
}

std::vector<std::string> Server::working() const { return state_->edge.working(); }

const std::string& Server::path() const { return state_->listener->path(); }

}  // namespace ordinald::csi
