#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <grpcpp/support/status.h>

#include "csi.pb.h"

/// A CSI client for tests, quickstart and bench: one object is one connection to the agent's socket.
///
/// Threading: thread safe; a call blocks its thread. Errors: a call never throws; its Reply tells.
namespace ordinald::testing {

/// A call's end: status, and the answer when it went well.
template <class Response>
struct Reply {
  grpc::Status status;
  Response message;

  bool ok() const { return status.ok(); }
  grpc::StatusCode code() const { return status.error_code(); }
  std::string error() const { return status.error_message(); }
  const Response* operator->() const { return &message; }
};

using Timeout = std::optional<std::chrono::milliseconds>;

/// `FAILED_PRECONDITION`; the number of a code that has no name.
std::string code_name(grpc::StatusCode code);

/// The services and methods that a client calls, `X(service, method)`.
#define ORDINALD_CSI_METHODS(X)                      \
  X(Identity, GetPluginInfo)                         \
  X(Identity, GetPluginCapabilities)                 \
  X(Identity, Probe)                                 \
  X(Controller, CreateVolume)                        \
  X(Controller, DeleteVolume)                        \
  X(Controller, ControllerPublishVolume)             \
  X(Controller, ControllerUnpublishVolume)           \
  X(Controller, ValidateVolumeCapabilities)          \
  X(Controller, ListVolumes)                         \
  X(Controller, ControllerListVolumeHealth)          \
  X(Controller, ControllerGetVolumeHealth)           \
  X(Controller, GetCapacity)                         \
  X(Controller, ControllerGetCapabilities)           \
  X(Controller, CreateSnapshot)                      \
  X(Controller, DeleteSnapshot)                      \
  X(Controller, ListSnapshots)                       \
  X(Controller, GetSnapshot)                         \
  X(Controller, ControllerExpandVolume)              \
  X(Controller, ControllerGetVolume)                 \
  X(Controller, ControllerModifyVolume)              \
  X(GroupController, GroupControllerGetCapabilities) \
  X(GroupController, CreateVolumeGroupSnapshot)      \
  X(GroupController, DeleteVolumeGroupSnapshot)      \
  X(GroupController, GetVolumeGroupSnapshot)         \
  X(Node, NodeStageVolume)                           \
  X(Node, NodeUnstageVolume)                         \
  X(Node, NodePublishVolume)                         \
  X(Node, NodeUnpublishVolume)                       \
  X(Node, NodeGetVolumeStats)                        \
  X(Node, NodeGetVolumeHealth)                       \
  X(Node, NodeGetStorageHealth)                      \
  X(Node, NodeExpandVolume)                          \
  X(Node, NodeGetCapabilities)                       \
  X(Node, NodeGetInfo)

class CsiClient {
 public:
  /// `unix:///path`. Connects at the first call.
  explicit CsiClient(const std::string& endpoint);
  CsiClient(const CsiClient&) = delete;
  CsiClient& operator=(const CsiClient&) = delete;
  ~CsiClient();

  /// `call(request)` for each request message. Without a timeout the call has no deadline.
#define ORDINALD_DECLARE_CALL(service, method) \
  Reply<csi::v1::method##Response> call(const csi::v1::method##Request& request, Timeout timeout = {});
  ORDINALD_CSI_METHODS(ORDINALD_DECLARE_CALL)
#undef ORDINALD_DECLARE_CALL

 private:
  struct Stubs;
  std::unique_ptr<Stubs> stubs_;
};

using Mode = csi::v1::VolumeCapability_AccessMode_Mode;
inline constexpr Mode single_node_writer = csi::v1::VolumeCapability_AccessMode_Mode_SINGLE_NODE_WRITER;
inline constexpr Mode single_node_reader_only = csi::v1::VolumeCapability_AccessMode_Mode_SINGLE_NODE_READER_ONLY;
inline constexpr Mode multi_node_reader_only = csi::v1::VolumeCapability_AccessMode_Mode_MULTI_NODE_READER_ONLY;
inline constexpr Mode multi_node_single_writer = csi::v1::VolumeCapability_AccessMode_Mode_MULTI_NODE_SINGLE_WRITER;
inline constexpr Mode multi_node_multi_writer = csi::v1::VolumeCapability_AccessMode_Mode_MULTI_NODE_MULTI_WRITER;
inline constexpr Mode single_node_single_writer = csi::v1::VolumeCapability_AccessMode_Mode_SINGLE_NODE_SINGLE_WRITER;
inline constexpr Mode single_node_multi_writer = csi::v1::VolumeCapability_AccessMode_Mode_SINGLE_NODE_MULTI_WRITER;

csi::v1::VolumeCapability mount_capability(Mode mode, std::string_view fs_type = "", const std::vector<std::string>& flags = {});
csi::v1::VolumeCapability block_capability(Mode mode);

inline constexpr std::int64_t mebi = std::int64_t{1} << 20;
inline constexpr std::int64_t gibi = std::int64_t{1} << 30;

}  // namespace ordinald::testing
