#pragma once

#include <vector>

#include "csi.pb.h"
#include "csi/volume_ops.hpp"

/// The port's answers into the protocol's messages. Pure functions; any thread.
namespace ordinald::csi {

::csi::v1::Volume to_proto(const Volume& volume);
::csi::v1::VolumeHealth to_proto(const VolumeHealth& health);
::csi::v1::NodeGetStorageHealthResponse to_proto(const std::vector<StorageHealthEntry>& entries);
/// Bytes, and inodes for a filesystem; nothing below zero.
::csi::v1::NodeGetVolumeStatsResponse to_proto(const VolumeStats& stats);
::csi::v1::GetCapacityResponse to_proto(const CapacityResult& result);
::csi::v1::NodeGetInfoResponse to_proto(const NodeInfo& info);

}  // namespace ordinald::csi
