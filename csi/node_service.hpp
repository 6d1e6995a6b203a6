#pragma once

#include "csi.grpc.pb.h"
#include "csi/call_edge.hpp"
#include "csi/volume_ops.hpp"

namespace ordinald::csi {

/// CSI's Node service: each call is converted, done by the port, and answered. Thread safe; port and edge must outlive it.
class NodeService final : public ::csi::v1::Node::Service {
 public:
  NodeService(VolumeOps& ops, const CallEdge& edge) : ops_(ops), edge_(edge) {}

  grpc::Status NodeStageVolume(grpc::ServerContext* context, const ::csi::v1::NodeStageVolumeRequest* request,
                               ::csi::v1::NodeStageVolumeResponse* response) override;
  grpc::Status NodeUnstageVolume(grpc::ServerContext* context, const ::csi::v1::NodeUnstageVolumeRequest* request,
                                 ::csi::v1::NodeUnstageVolumeResponse* response) override;
  grpc::Status NodePublishVolume(grpc::ServerContext* context, const ::csi::v1::NodePublishVolumeRequest* request,
                                 ::csi::v1::NodePublishVolumeResponse* response) override;
  grpc::Status NodeUnpublishVolume(grpc::ServerContext* context, const ::csi::v1::NodeUnpublishVolumeRequest* request,
                                   ::csi::v1::NodeUnpublishVolumeResponse* response) override;
  grpc::Status NodeGetVolumeStats(grpc::ServerContext* context, const ::csi::v1::NodeGetVolumeStatsRequest* request,
                                  ::csi::v1::NodeGetVolumeStatsResponse* response) override;
  grpc::Status NodeGetVolumeHealth(grpc::ServerContext* context, const ::csi::v1::NodeGetVolumeHealthRequest* request,
                                   ::csi::v1::NodeGetVolumeHealthResponse* response) override;
  grpc::Status NodeGetStorageHealth(grpc::ServerContext* context, const ::csi::v1::NodeGetStorageHealthRequest* request,
                                    ::csi::v1::NodeGetStorageHealthResponse* response) override;
  grpc::Status NodeExpandVolume(grpc::ServerContext* context, const ::csi::v1::NodeExpandVolumeRequest* request,
                                ::csi::v1::NodeExpandVolumeResponse* response) override;
  grpc::Status NodeGetCapabilities(grpc::ServerContext* context, const ::csi::v1::NodeGetCapabilitiesRequest* request,
                                   ::csi::v1::NodeGetCapabilitiesResponse* response) override;
  grpc::Status NodeGetInfo(grpc::ServerContext* context, const ::csi::v1::NodeGetInfoRequest* request,
                           ::csi::v1::NodeGetInfoResponse* response) override;

 private:
  VolumeOps& ops_;
  const CallEdge& edge_;
};

}  // namespace ordinald::csi
