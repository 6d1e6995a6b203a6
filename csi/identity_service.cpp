#include "csi/identity_service.hpp"

namespace ordinald::csi {

using grpc::ServerContext;
using grpc::Status;
using namespace ::csi::v1;  // NOLINT(google-build-using-namespace): the interface's own names, in this file only

namespace {}  // namespace

Status IdentityService::GetPluginInfo(ServerContext* context, const GetPluginInfoRequest* request, GetPluginInfoResponse* response) {
  return edge_.run(
      *context, *request,
      [&](const CallContext&) -> Result<void> {
        response->set_name(plugin_.name);
        response->set_vendor_version(plugin_.vendor_version);
        return mount::success();
      },
      CallEdge::quiet);
}

Status IdentityService::GetPluginCapabilities(ServerContext* context, const GetPluginCapabilitiesRequest* request,
                                              GetPluginCapabilitiesResponse* response) {
  return edge_.run(
      *context, *request,
      [&](const CallContext&) -> Result<void> {
        for (const auto type :
             {PluginCapability::Service::CONTROLLER_SERVICE, PluginCapability::Service::VOLUME_ACCESSIBILITY_CONSTRAINTS}) {
          response->add_capabilities()->mutable_service()->set_type(type);
        }
        response->add_capabilities()->mutable_volume_expansion()->set_type(PluginCapability::VolumeExpansion::ONLINE);
        return mount::success();
      },
      CallEdge::quiet);
}

Status IdentityService::Probe(ServerContext* context, const ProbeRequest* request, ProbeResponse* response) {
  return edge_.run(
      *context, *request,
      [&](const CallContext&) -> Result<void> {
        TRY(const bool ready, ops_.ready());
        response->mutable_ready()->set_value(ready);
        return mount::success();
      },
      CallEdge::quiet);
}

}  // namespace ordinald::csi
