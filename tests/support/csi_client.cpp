#include "tests/support/csi_client.hpp"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include <iterator>

#include "csi.grpc.pb.h"

namespace ordinald::testing {
namespace {

std::shared_ptr<grpc::Channel> connect(const std::string& endpoint) {
  grpc::ChannelArguments arguments;
  // Each client has a connection of its own, and finds a restarted agent at once.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 20000);  // how long one attempt may take
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 500);
  // The name that a host header takes from a unix socket would hold slashes, which some servers refuse.
  arguments.SetString(GRPC_ARG_DEFAULT_AUTHORITY, "localhost");
  arguments.SetMaxReceiveMessageSize(-1);
  return grpc::CreateCustomChannel(endpoint, grpc::InsecureChannelCredentials(), arguments);
}

}  // namespace

struct CsiClient::Stubs {
  explicit Stubs(const std::shared_ptr<grpc::Channel>& channel)
      : Identity(csi::v1::Identity::NewStub(channel)),
        Controller(csi::v1::Controller::NewStub(channel)),
        GroupController(csi::v1::GroupController::NewStub(channel)),
        Node(csi::v1::Node::NewStub(channel)) {}

  // Named as the services are, for the macro below.
  std::unique_ptr<csi::v1::Identity::Stub> Identity;
  std::unique_ptr<csi::v1::Controller::Stub> Controller;
  std::unique_ptr<csi::v1::GroupController::Stub> GroupController;
  std::unique_ptr<csi::v1::Node::Stub> Node;
};

CsiClient::CsiClient(const std::string& endpoint) : stubs_(std::make_unique<Stubs>(connect(endpoint))) {}
CsiClient::~CsiClient() = default;

#define ORDINALD_DEFINE_CALL(service, method)                                                                  \
  Reply<csi::v1::method##Response> CsiClient::call(const csi::v1::method##Request& request, Timeout timeout) { \
    grpc::ClientContext context;                                                                               \
    if (timeout) context.set_deadline(std::chrono::system_clock::now() + *timeout);                            \
    Reply<csi::v1::method##Response> reply;                                                                    \
    reply.status = stubs_->service->method(&context, request, &reply.message);                                 \
    return reply;                                                                                              \
  }
ORDINALD_CSI_METHODS(ORDINALD_DEFINE_CALL)
#undef ORDINALD_DEFINE_CALL

std::string code_name(grpc::StatusCode code) {
  static constexpr const char* names[] = {"OK",        "CANCELLED",      "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
                                          "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
                                          "ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
                                          "DATA_LOSS", "UNAUTHENTICATED"};
  const auto number = static_cast<std::size_t>(code);
  return number < std::size(names) ? names[number] : std::to_string(number);
}

csi::v1::VolumeCapability mount_capability(Mode mode, std::string_view fs_type, const std::vector<std::string>& flags) {
  csi::v1::VolumeCapability capability;
  capability.mutable_access_mode()->set_mode(mode);
  capability.mutable_mount()->set_fs_type(std::string(fs_type));
  for (const std::string& flag : flags) capability.mutable_mount()->add_mount_flags(flag);
  return capability;
}

csi::v1::VolumeCapability block_capability(Mode mode) {
  csi::v1::VolumeCapability capability;
  capability.mutable_access_mode()->set_mode(mode);
  capability.mutable_block();
  return capability;
}

}  // namespace ordinald::testing
