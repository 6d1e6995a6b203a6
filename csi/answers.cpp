#include "csi/answers.hpp"

#include <algorithm>

namespace ordinald::csi {

namespace v1 = ::csi::v1;

namespace {

v1::VolumeUsage usage(v1::VolumeUsage::Unit unit, std::int64_t total, std::int64_t available, std::int64_t used) {
  v1::VolumeUsage result;
  result.set_unit(unit);
  result.set_total(std::max<std::int64_t>(total, 0));
  result.set_available(std::max<std::int64_t>(available, 0));
  result.set_used(std::max<std::int64_t>(used, 0));
  return result;
}

}  // namespace

v1::Volume to_proto(const Volume& volume) {
  v1::Volume result;
  result.set_volume_id(volume.id);
  result.set_capacity_bytes(volume.capacity);
  result.mutable_volume_context()->insert(volume.context.begin(), volume.context.end());
  if (!volume.topology.empty()) {
    result.add_accessible_topology()->mutable_segments()->insert(volume.topology.begin(), volume.topology.end());
  }
  return result;
}

v1::VolumeHealth to_proto(const VolumeHealth& health) {
  v1::VolumeHealth result;
  result.set_volume_id(health.volume_id);
  for (const auto& entry : health.entries) {
    auto& out = *result.add_health_statuses();
    out.set_status(static_cast<v1::VolumeHealthErrorType>(entry.status));
    out.set_reason(entry.reason);
    out.set_message(entry.message);
  }
  return result;
}

v1::NodeGetStorageHealthResponse to_proto(const std::vector<StorageHealthEntry>& entries) {
  v1::NodeGetStorageHealthResponse result;
  for (const auto& entry : entries) {
    auto& out = *result.add_backend_health();
    out.set_status(static_cast<v1::StorageHealthErrorType>(entry.status));
    out.set_reason(entry.reason);
    out.set_message(entry.message);
  }
  return result;
}

v1::NodeGetVolumeStatsResponse to_proto(const VolumeStats& stats) {
  v1::NodeGetVolumeStatsResponse result;
  *result.add_usage() = usage(v1::VolumeUsage::BYTES, stats.total, stats.available, stats.used);
  if (!stats.block) {
    *result.add_usage() = usage(v1::VolumeUsage::INODES, stats.inodes, stats.inodes_free, stats.inodes_used);
  }
  return result;
}

v1::GetCapacityResponse to_proto(const CapacityResult& result) {
  v1::GetCapacityResponse response;
  response.set_available_capacity(std::max<std::int64_t>(result.available, 0));
  if (result.maximum_volume_size) {
    response.mutable_maximum_volume_size()->set_value(*result.maximum_volume_size);
  }
  if (result.minimum_volume_size) {
    response.mutable_minimum_volume_size()->set_value(*result.minimum_volume_size);
  }
  return response;
}

v1::NodeGetInfoResponse to_proto(const NodeInfo& info) {
  v1::NodeGetInfoResponse response;
  response.set_node_id(info.node_id);
  response.set_max_volumes_per_node(info.max_volumes);
  if (!info.topology.empty()) {
    response.mutable_accessible_topology()->mutable_segments()->insert(info.topology.begin(), info.topology.end());
  }
  return response;
}

}  // namespace ordinald::csi
