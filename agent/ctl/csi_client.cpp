#include "agent/ctl/csi_client.hpp"

#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "agent/config.hpp"
#include "agent/ctl/admin_client.hpp"
#include "agent/ctl/text.hpp"
#include "csi.grpc.pb.h"
#include "mount/unique_fd.hpp"

namespace ordinald::ctl {
namespace {

namespace v1 = ::csi::v1;

std::shared_ptr<grpc::Channel> connect_channel(const std::string& endpoint) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 500);
  // The name that a host header takes from a Unix socket would hold slashes, which some servers refuse.
  arguments.SetString(GRPC_ARG_DEFAULT_AUTHORITY, "localhost");
  arguments.SetMaxReceiveMessageSize(-1);
  return grpc::CreateCustomChannel(endpoint, grpc::InsecureChannelCredentials(), arguments);
}

/// Why nobody answers on the socket, 0 when somebody does. gRPC says UNAVAILABLE for that and for what the agent itself calls so.
int connect_error(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return ENAMETOOLONG;
  }
  path.copy(address.sun_path, path.size());
  const mount::UniqueFd socket{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  return ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ? 0 : errno;
}

/// CSI's spelling of a code.
std::string code_name(grpc::StatusCode code) {
  static constexpr const char* names[] = {"OK",        "CANCELLED",      "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
                                          "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
                                          "ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
                                          "DATA_LOSS", "UNAUTHENTICATED"};
  const auto number = static_cast<std::size_t>(code);
  return number < std::size(names) ? names[number] : std::to_string(number);
}

v1::VolumeCapability message_of(const csi::Capability& capability) {
  v1::VolumeCapability message;
  message.mutable_access_mode()->set_mode(static_cast<v1::VolumeCapability_AccessMode_Mode>(capability.mode));
  if (capability.block) {
    message.mutable_block();
    return message;
  }
  auto& mount = *message.mutable_mount();
  mount.set_fs_type(capability.fs_type);
  for (const std::string& flag : capability.mount_flags) {
    mount.add_mount_flags(flag);
  }
  if (capability.group) {
    mount.set_volume_mount_group(std::to_string(*capability.group));
  }
  return message;
}

template <class Range>
void set_range(Range& message, const csi::CapacityRange& range) {
  message.set_required_bytes(range.required);
  message.set_limit_bytes(range.limit);
}

template <class Map>
void set_map(Map& message, const csi::StringMap& map) {
  message.insert(map.begin(), map.end());
}

template <class Map>
csi::StringMap map_of(const Map& message) {
  return {message.begin(), message.end()};
}

csi::Volume volume_of(const v1::Volume& message) {
  csi::Volume volume;
  volume.id = message.volume_id();
  volume.capacity = message.capacity_bytes();
  volume.context = map_of(message.volume_context());
  if (message.accessible_topology_size() > 0) {
    volume.topology = map_of(message.accessible_topology(0).segments());
  }
  return volume;
}

}  // namespace

struct CsiClient::Stubs {
  explicit Stubs(const std::shared_ptr<grpc::Channel>& channel)
      : controller(v1::Controller::NewStub(channel)), node(v1::Node::NewStub(channel)) {}
  std::unique_ptr<v1::Controller::Stub> controller;
  std::unique_ptr<v1::Node::Stub> node;
};

CsiClient::CsiClient(std::string endpoint) : endpoint_(std::move(endpoint)) {}
CsiClient::~CsiClient() = default;

template <class Method, class Request, class Answer>
Result<Answer> CsiClient::call(Method method, const Request& request, Answer answer, Timeout timeout) {
  if (stubs_ == nullptr) {
    if (const int error = connect_error(agent::endpoint_path(endpoint_)); error != 0) {
      return unreachable(agent::endpoint_path(endpoint_), error);
    }
    stubs_ = std::make_unique<Stubs>(connect_channel(endpoint_));
  }
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + timeout);
  const grpc::Status status = method(*stubs_, context, request, answer);
  if (status.ok()) {
    return answer;
  }
  const std::string code = code_name(status.error_code());
  switch (status.error_code()) {
    case grpc::StatusCode::UNAVAILABLE:
      if (const int error = connect_error(agent::endpoint_path(endpoint_)); error != 0) {
        return unreachable(agent::endpoint_path(endpoint_), error);
      }
      return Failure{Exit::failed, code, status.error_message()};
    case grpc::StatusCode::ABORTED:
      return Failure{Exit::busy, code, status.error_message()};
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      return Failure{Exit::busy, code,
                     "the agent did not finish within " + duration_text(std::chrono::ceil<std::chrono::seconds>(timeout)) +
                         "; it goes on with the work, and the same command again joins it"};
    default:
      return Failure{Exit::failed, code, status.error_message()};
  }
}

// A method of a service as `call` takes it.
#define ORDINALD_METHOD(service, name) \
  [](Stubs& stubs, auto& context, const auto& message, auto& answer) { return stubs.service->name(&context, message, &answer); }

Result<csi::Volume> CsiClient::create_volume(const csi::CreateVolumeArgs& args, Timeout timeout) {
  v1::CreateVolumeRequest request;
  request.set_name(args.name);
  set_range(*request.mutable_capacity_range(), args.capacity);
  for (const csi::Capability& capability : args.capabilities) {
    *request.add_volume_capabilities() = message_of(capability);
  }
  set_map(*request.mutable_parameters(), args.parameters);
  for (const csi::StringMap& segments : args.requisite) {
    set_map(*request.mutable_accessibility_requirements()->add_requisite()->mutable_segments(), segments);
  }
  TRY(const auto answer, call(ORDINALD_METHOD(controller, CreateVolume), request, v1::CreateVolumeResponse{}, timeout));
  return volume_of(answer.volume());
}

Result<void> CsiClient::delete_volume(const std::string& volume_id, Timeout timeout) {
  v1::DeleteVolumeRequest request;
  request.set_volume_id(volume_id);
  TRYV(call(ORDINALD_METHOD(controller, DeleteVolume), request, v1::DeleteVolumeResponse{}, timeout));
  return mount::success();
}

Result<std::vector<csi::Volume>> CsiClient::list_volumes(Timeout timeout) {
  std::vector<csi::Volume> volumes;
  v1::ListVolumesRequest request;
  do {
    TRY(const auto answer, call(ORDINALD_METHOD(controller, ListVolumes), request, v1::ListVolumesResponse{}, timeout));
    for (const auto& entry : answer.entries()) {
      volumes.push_back(volume_of(entry.volume()));
    }
    request.set_starting_token(answer.next_token());
  } while (!request.starting_token().empty());
  return volumes;
}

Result<csi::ExpandResult> CsiClient::expand_volume(const std::string& volume_id, const csi::CapacityRange& capacity,
                                                   const std::optional<csi::Capability>& capability, Timeout timeout) {
  v1::ControllerExpandVolumeRequest request;
  request.set_volume_id(volume_id);
  set_range(*request.mutable_capacity_range(), capacity);
  if (capability) {
    *request.mutable_volume_capability() = message_of(*capability);
  }
  TRY(const auto answer, call(ORDINALD_METHOD(controller, ControllerExpandVolume), request, v1::ControllerExpandVolumeResponse{}, timeout));
  return csi::ExpandResult{.capacity = answer.capacity_bytes(), .node_expansion_required = answer.node_expansion_required()};
}

Result<void> CsiClient::stage(const csi::StageArgs& args, Timeout timeout) {
  v1::NodeStageVolumeRequest request;
  request.set_volume_id(args.volume_id);
  request.set_staging_target_path(args.staging_path);
  *request.mutable_volume_capability() = message_of(args.capability);
  set_map(*request.mutable_publish_context(), args.publish_context);
  set_map(*request.mutable_volume_context(), args.volume_context);
  TRYV(call(ORDINALD_METHOD(node, NodeStageVolume), request, v1::NodeStageVolumeResponse{}, timeout));
  return mount::success();
}

Result<void> CsiClient::unstage(const csi::UnstageArgs& args, Timeout timeout) {
  v1::NodeUnstageVolumeRequest request;
  request.set_volume_id(args.volume_id);
  request.set_staging_target_path(args.staging_path);
  TRYV(call(ORDINALD_METHOD(node, NodeUnstageVolume), request, v1::NodeUnstageVolumeResponse{}, timeout));
  return mount::success();
}

Result<void> CsiClient::publish(const csi::PublishArgs& args, Timeout timeout) {
  v1::NodePublishVolumeRequest request;
  request.set_volume_id(args.volume_id);
  request.set_staging_target_path(args.staging_path);
  request.set_target_path(args.target_path);
  *request.mutable_volume_capability() = message_of(args.capability);
  request.set_readonly(args.readonly);
  set_map(*request.mutable_publish_context(), args.publish_context);
  set_map(*request.mutable_volume_context(), args.volume_context);
  TRYV(call(ORDINALD_METHOD(node, NodePublishVolume), request, v1::NodePublishVolumeResponse{}, timeout));
  return mount::success();
}

Result<void> CsiClient::unpublish(const csi::UnpublishArgs& args, Timeout timeout) {
  v1::NodeUnpublishVolumeRequest request;
  request.set_volume_id(args.volume_id);
  request.set_target_path(args.target_path);
  TRYV(call(ORDINALD_METHOD(node, NodeUnpublishVolume), request, v1::NodeUnpublishVolumeResponse{}, timeout));
  return mount::success();
}

Result<std::int64_t> CsiClient::node_expand(const csi::NodeExpandArgs& args, Timeout timeout) {
  v1::NodeExpandVolumeRequest request;
  request.set_volume_id(args.volume_id);
  request.set_volume_path(args.volume_path);
  request.set_staging_target_path(args.staging_path);
  set_range(*request.mutable_capacity_range(), args.capacity);
  if (args.capability) {
    *request.mutable_volume_capability() = message_of(*args.capability);
  }
  TRY(const auto answer, call(ORDINALD_METHOD(node, NodeExpandVolume), request, v1::NodeExpandVolumeResponse{}, timeout));
  return answer.capacity_bytes();
}

Result<csi::NodeInfo> CsiClient::node_info(Timeout timeout) {
  TRY(const auto answer, call(ORDINALD_METHOD(node, NodeGetInfo), v1::NodeGetInfoRequest{}, v1::NodeGetInfoResponse{}, timeout));
  return csi::NodeInfo{.node_id = answer.node_id(),
                       .max_volumes = answer.max_volumes_per_node(),
                       .topology = map_of(answer.accessible_topology().segments())};
}

#undef ORDINALD_METHOD

}  // namespace ordinald::ctl
