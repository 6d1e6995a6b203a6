#pragma once

#include <string>

#include "csi.pb.h"
#include "csi/volume_ops.hpp"
#include "mount/result.hpp"

/// The protocol's requests into the port's structs. All validation is here (csi/checks has the single checks): what a struct holds has been
/// checked, and secrets are left behind.
///
/// Errors: invalid_argument, naming the field and never the value of a secret or a mount flag. Pure functions; any thread.
namespace ordinald::csi {

namespace v1 = ::csi::v1;

Result<CreateVolumeArgs> to_args(const v1::CreateVolumeRequest& request);
Result<std::string> to_args(const v1::DeleteVolumeRequest& request);  ///< the volume id, here and below
Result<ValidateArgs> to_args(const v1::ValidateVolumeCapabilitiesRequest& request);
Result<PageArgs> to_args(const v1::ListVolumesRequest& request);
Result<PageArgs> to_args(const v1::ControllerListVolumeHealthRequest& request);
Result<std::string> to_args(const v1::ControllerGetVolumeRequest& request);
Result<std::string> to_args(const v1::ControllerGetVolumeHealthRequest& request);
Result<CapacityArgs> to_args(const v1::GetCapacityRequest& request);

struct ControllerExpandArgs {
  std::string volume_id;
  CapacityRange capacity;
  std::optional<Capability> capability;
};
Result<ControllerExpandArgs> to_args(const v1::ControllerExpandVolumeRequest& request);

Result<StageArgs> to_args(const v1::NodeStageVolumeRequest& request);
Result<UnstageArgs> to_args(const v1::NodeUnstageVolumeRequest& request);
/// The staging path may be empty: that refusal is FAILED_PRECONDITION, and the port's.
Result<PublishArgs> to_args(const v1::NodePublishVolumeRequest& request);
Result<UnpublishArgs> to_args(const v1::NodeUnpublishVolumeRequest& request);
/// `volume_path` may be relative or hold `..`, and then is as it came: an unknown volume is NOT_FOUND before anything is said of its path,
/// and a path that isn't the volume's is NOT_FOUND too, so both are the port's to say. The same holds for NodeExpandVolume.
Result<StatsArgs> to_args(const v1::NodeGetVolumeStatsRequest& request);
Result<NodeHealthArgs> to_args(const v1::NodeGetVolumeHealthRequest& request);
Result<void> to_args(const v1::NodeGetStorageHealthRequest& request);
Result<NodeExpandArgs> to_args(const v1::NodeExpandVolumeRequest& request);

}  // namespace ordinald::csi
