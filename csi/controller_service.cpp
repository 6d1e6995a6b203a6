#include "csi/controller_service.hpp"

#include "csi/answers.hpp"
#include "csi/convert.hpp"

namespace ordinald::csi {

using grpc::ServerContext;
using grpc::Status;
using namespace ::csi::v1;  // NOLINT(google-build-using-namespace): the interface's own names, in this file only

namespace {

constexpr ControllerServiceCapability::RPC::Type controller_capabilities[] = {
    ControllerServiceCapability::RPC::CREATE_DELETE_VOLUME,
    ControllerServiceCapability::RPC::LIST_VOLUMES,
    ControllerServiceCapability::RPC::GET_CAPACITY,
    ControllerServiceCapability::RPC::GET_VOLUME,
    ControllerServiceCapability::RPC::GET_VOLUME_HEALTH,
    ControllerServiceCapability::RPC::LIST_VOLUME_HEALTH,
    ControllerServiceCapability::RPC::SINGLE_NODE_MULTI_WRITER,
};

}  // namespace

Status ControllerService::CreateVolume(ServerContext* context, const CreateVolumeRequest* request, CreateVolumeResponse* response) {
  return edge_.run(*context, *request, [&](const CallContext& call) -> Result<void> {
    TRY(const auto args, to_args(*request));
    TRY(const auto volume, ops_.create_volume(call, args));
    *response->mutable_volume() = to_proto(volume);
    return mount::success();
  });
}

Status ControllerService::DeleteVolume(ServerContext* context, const DeleteVolumeRequest* request, DeleteVolumeResponse*) {
  return edge_.run(*context, *request, [&](const CallContext& call) -> Result<void> {
    TRY(const auto volume_id, to_args(*request));
    return ops_.delete_volume(call, volume_id);
  });
}

Status ControllerService::ValidateVolumeCapabilities(ServerContext* context, const ValidateVolumeCapabilitiesRequest* request,
                                                     ValidateVolumeCapabilitiesResponse* response) {
  return edge_.run(*context, *request, [&](const CallContext& call) -> Result<void> {
    TRY(const auto args, to_args(*request));
    TRY(const auto result, ops_.validate_volume(call, args));
    response->set_message(result.message);
    if (result.confirmed) {
      auto& confirmed = *response->mutable_confirmed();
      *confirmed.mutable_volume_context() = request->volume_context();
      *confirmed.mutable_volume_capabilities() = request->volume_capabilities();
      *confirmed.mutable_parameters() = request->parameters();
    }
    return mount::success();
  });
}

Status ControllerService::ListVolumes(ServerContext* context, const ListVolumesRequest* request, ListVolumesResponse* response) {
  return edge_.run(*context, *request, [&](const CallContext& call) -> Result<void> {
    TRY(const auto args, to_args(*request));
    TRY(const auto page, ops_.list_volumes(call, args));
    for (const auto& volume : page.entries) {
      *response->add_entries()->mutable_volume() = to_proto(volume);
    }
    response->set_next_token(page.next);
    return mount::success();
  });
}

Status ControllerService::ControllerListVolumeHealth(ServerContext* context, const ControllerListVolumeHealthRequest* request,
                                                     ControllerListVolumeHealthResponse* response) {
  return edge_.run(*context, *request, [&](const CallContext& call) -> Result<void> {
    TRY(const auto args, to_args(*request));
    TRY(const auto page, ops_.list_volume_health(call, args));
    for (const auto& health : page.entries) {
      *response->add_entries() = to_proto(health);
    }
    response->set_next_token(page.next);
    return mount::success();
  });
}

Status ControllerService::ControllerGetVolumeHealth(ServerContext* context, const ControllerGetVolumeHealthRequest* request,
                                                    ControllerGetVolumeHealthResponse* response) {
  return edge_.run(*context, *request, [&](const CallContext& call) -> Result<void> {
    TRY(const auto volume_id, to_args(*request));
    TRY(const auto health, ops_.controller_volume_health(call, volume_id));
    *response->mutable_volume_health() = to_proto(health);
    return mount::success();
  });
}

Status ControllerService::GetCapacity(ServerContext* context, const GetCapacityRequest* request, GetCapacityResponse* response) {
  return edge_.run(*context, *request, [&](const CallContext& call) -> Result<void> {
    TRY(const auto args, to_args(*request));
    TRY(const auto capacity, ops_.get_capacity(call, args));
    *response = to_proto(capacity);
    return mount::success();
  });
}

Status ControllerService::ControllerGetCapabilities(ServerContext* context, const ControllerGetCapabilitiesRequest* request,
                                                    ControllerGetCapabilitiesResponse* response) {
  return edge_.run(
      *context, *request,
      [&](const CallContext&) -> Result<void> {
        for (const auto type : controller_capabilities) {
          response->add_capabilities()->mutable_rpc()->set_type(type);
        }
        if (expansion_) {
          response->add_capabilities()->mutable_rpc()->set_type(ControllerServiceCapability::RPC::EXPAND_VOLUME);
        }
        return mount::success();
      },
      CallEdge::quiet);
}

Status ControllerService::ControllerExpandVolume(ServerContext* context, const ControllerExpandVolumeRequest* request,
                                                 ControllerExpandVolumeResponse* response) {
  return edge_.run(*context, *request, [&](const CallContext& call) -> Result<void> {
    if (!expansion_) {
      return mount::make_error(
          mount::ErrorCode::unimplemented,
          "ControllerExpandVolume is switched off by the agent's setting controllerExpansion: NodeExpandVolume does it all");
    }
    TRY(const auto args, to_args(*request));
    TRY(const auto result, ops_.expand_volume(call, args.volume_id, args.capacity, args.capability));
    response->set_capacity_bytes(result.capacity);
    response->set_node_expansion_required(result.node_expansion_required);
    return mount::success();
  });
}

Status ControllerService::ControllerGetVolume(ServerContext* context, const ControllerGetVolumeRequest* request,
                                              ControllerGetVolumeResponse* response) {
  return edge_.run(*context, *request, [&](const CallContext& call) -> Result<void> {
    TRY(const auto volume_id, to_args(*request));
    TRY(const auto volume, ops_.get_volume(call, volume_id));
    *response->mutable_volume() = to_proto(volume);
    response->mutable_status();  // required; what it could hold goes with capabilities that aren't ours
    return mount::success();
  });
}

}  // namespace ordinald::csi
