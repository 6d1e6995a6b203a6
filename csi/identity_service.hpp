#pragma once

#include "csi.grpc.pb.h"
#include "csi/call_edge.hpp"
#include "csi/plugin_info.hpp"
#include "csi/volume_ops.hpp"

namespace ordinald::csi {

/// CSI's Identity service: who the plugin is, what it offers, whether it is up. Thread safe; port and edge must outlive it.
class IdentityService final : public ::csi::v1::Identity::Service {
 public:
  IdentityService(const PluginInfo& plugin, VolumeOps& ops, const CallEdge& edge) : plugin_(plugin), ops_(ops), edge_(edge) {}

  grpc::Status GetPluginInfo(grpc::ServerContext* context, const ::csi::v1::GetPluginInfoRequest* request,
                             ::csi::v1::GetPluginInfoResponse* response) override;
  grpc::Status GetPluginCapabilities(grpc::ServerContext* context, const ::csi::v1::GetPluginCapabilitiesRequest* request,
                                     ::csi::v1::GetPluginCapabilitiesResponse* response) override;
  grpc::Status Probe(grpc::ServerContext* context, const ::csi::v1::ProbeRequest* request, ::csi::v1::ProbeResponse* response) override;

 private:
  const PluginInfo plugin_;
  VolumeOps& ops_;
  const CallEdge& edge_;
};

}  // namespace ordinald::csi
