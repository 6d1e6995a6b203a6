#pragma once

#include "csi.grpc.pb.h"
#include "csi/call_edge.hpp"
#include "csi/plugin_info.hpp"
#include "csi/volume_ops.hpp"

namespace ordinald::csi {

/// CSI's Controller service: each call is converted, done by the port, and answered. Calls that aren't overridden here are UNIMPLEMENTED
/// (interceptor gives them their text). Thread safe; port and edge must outlive it.
class ControllerService final : public ::csi::v1::Controller::Service {
 public:
  ControllerService(const PluginInfo& plugin, VolumeOps& ops, const CallEdge& edge)
      : expansion_(plugin.controller_expansion), ops_(ops), edge_(edge) {}

  grpc::Status CreateVolume(grpc::ServerContext* context, const ::csi::v1::CreateVolumeRequest* request,
                            ::csi::v1::CreateVolumeResponse* response) override;
  grpc::Status DeleteVolume(grpc::ServerContext* context, const ::csi::v1::DeleteVolumeRequest* request,
                            ::csi::v1::DeleteVolumeResponse* response) override;
  grpc::Status ValidateVolumeCapabilities(grpc::ServerContext* context, const ::csi::v1::ValidateVolumeCapabilitiesRequest* request,
                                          ::csi::v1::ValidateVolumeCapabilitiesResponse* response) override;
  grpc::Status ListVolumes(grpc::ServerContext* context, const ::csi::v1::ListVolumesRequest* request,
                           ::csi::v1::ListVolumesResponse* response) override;
  grpc::Status ControllerListVolumeHealth(grpc::ServerContext* context, const ::csi::v1::ControllerListVolumeHealthRequest* request,
                                          ::csi::v1::ControllerListVolumeHealthResponse* response) override;
  grpc::Status ControllerGetVolumeHealth(grpc::ServerContext* context, const ::csi::v1::ControllerGetVolumeHealthRequest* request,
                                         ::csi::v1::ControllerGetVolumeHealthResponse* response) override;
  grpc::Status GetCapacity(grpc::ServerContext* context, const ::csi::v1::GetCapacityRequest* request,
                           ::csi::v1::GetCapacityResponse* response) override;
  grpc::Status ControllerGetCapabilities(grpc::ServerContext* context, const ::csi::v1::ControllerGetCapabilitiesRequest* request,
                                         ::csi::v1::ControllerGetCapabilitiesResponse* response) override;
  grpc::Status ControllerExpandVolume(grpc::ServerContext* context, const ::csi::v1::ControllerExpandVolumeRequest* request,
                                      ::csi::v1::ControllerExpandVolumeResponse* response) override;
  grpc::Status ControllerGetVolume(grpc::ServerContext* context, const ::csi::v1::ControllerGetVolumeRequest* request,
                                   ::csi::v1::ControllerGetVolumeResponse* response) override;

 private:
  const bool expansion_;  ///< false: growth is the node's alone
  VolumeOps& ops_;
  const CallEdge& edge_;
};

}  // namespace ordinald::csi
