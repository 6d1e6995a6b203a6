#include "csi/node_service.hpp"

#include "csi/answers.hpp"
#include "csi/convert.hpp"

namespace ordinald::csi {

using grpc::ServerContext;
using grpc::Status;
using namespace ::csi::v1;  // NOLINT(google-build-using-namespace): the interface's own names, in this file only

namespace {

constexpr NodeServiceCapability::RPC::Type node_capabilities[] = {
    NodeServiceCapability::RPC::STAGE_UNSTAGE_VOLUME, NodeServiceCapability::RPC::GET_VOLUME_STATS,
    NodeServiceCapability::RPC::EXPAND_VOLUME,        NodeServiceCapability::RPC::SINGLE_NODE_MULTI_WRITER,
    NodeServiceCapability::RPC::VOLUME_MOUNT_GROUP,   NodeServiceCapability::RPC::GET_VOLUME_HEALTH,
    NodeServiceCapability::RPC::GET_STORAGE_HEALTH,
};

}  // namespace

Status NodeService::NodeStageVolume(ServerContext* context, const NodeStageVolumeRequest* request, NodeStageVolumeResponse*) {
  return edge_.run(*context, *request, [&](const CallContext& call) -> Result<void> {
    TRY(const auto args, to_args(*request));
    return ops_.stage(call, args);
  });
}

Status NodeService::NodeUnstageVolume(ServerContext* context, const NodeUnstageVolumeRequest* request, NodeUnstageVolumeResponse*) {
  return edge_.run(*context, *request, [&](const CallContext& call) -> Result<void> {
    TRY(const auto args, to_args(*request));
    return ops_.unstage(call, args);
  });
}

Status NodeService::NodePublishVolume(ServerContext* context, const NodePublishVolumeRequest* request, NodePublishVolumeResponse*) {
  return edge_.run(*context, *request, [&](const CallContext& call) -> Result<void> {
    TRY(const auto args, to_args(*request));
    return ops_.publish(call, args);
  });
}

Status NodeService::NodeUnpublishVolume(ServerContext* context, const NodeUnpublishVolumeRequest* request, NodeUnpublishVolumeResponse*) {
  return edge_.run(*context, *request, [&](const CallContext& call) -> Result<void> {
    TRY(const auto args, to_args(*request));
    return ops_.unpublish(call, args);
  });
}

Status NodeService::NodeGetVolumeStats(ServerContext* context, const NodeGetVolumeStatsRequest* request,
                                       NodeGetVolumeStatsResponse* response) {
  return edge_.run(*context, *request, [&](const CallContext& call) -> Result<void> {
    TRY(const auto args, to_args(*request));
    TRY(const auto stats, ops_.stats(call, args));
    *response = to_proto(stats);
    return mount::success();
  });
}

Status NodeService::NodeGetVolumeHealth(ServerContext* context, const NodeGetVolumeHealthRequest* request,
                                        NodeGetVolumeHealthResponse* response) {
  return edge_.run(*context, *request, [&](const CallContext& call) -> Result<void> {
    TRY(const auto args, to_args(*request));
    TRY(const auto health, ops_.node_volume_health(call, args));
    *response->mutable_volume_health() = to_proto(health);
    return mount::success();
  });
}

Status NodeService::NodeGetStorageHealth(ServerContext* context, const NodeGetStorageHealthRequest* request,
                                         NodeGetStorageHealthResponse* response) {
  return edge_.run(*context, *request, [&](const CallContext& call) -> Result<void> {
    TRYV(to_args(*request));
    TRY(const auto entries, ops_.storage_health(call));
    *response = to_proto(entries);
    return mount::success();
  });
}

Status NodeService::NodeExpandVolume(ServerContext* context, const NodeExpandVolumeRequest* request, NodeExpandVolumeResponse* response) {
  return edge_.run(*context, *request, [&](const CallContext& call) -> Result<void> {
    TRY(const auto args, to_args(*request));
    TRY(const auto capacity, ops_.node_expand(call, args));
    response->set_capacity_bytes(capacity);
    return mount::success();
  });
}

Status NodeService::NodeGetCapabilities(ServerContext* context, const NodeGetCapabilitiesRequest* request,
                                        NodeGetCapabilitiesResponse* response) {
  return edge_.run(
      *context, *request,
      [&](const CallContext&) -> Result<void> {
        for (const auto type : node_capabilities) {
          response->add_capabilities()->mutable_rpc()->set_type(type);
        }
        return mount::success();
      },
      CallEdge::quiet);
}

Status NodeService::NodeGetInfo(ServerContext* context, const NodeGetInfoRequest* request, NodeGetInfoResponse* response) {
  return edge_.run(
      *context, *request,
      [&](const CallContext&) -> Result<void> {
        *response = to_proto(ops_.node_info());
        return mount::success();
      },
      CallEdge::quiet);
}

}  // namespace ordinald::csi
