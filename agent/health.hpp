#pragma once

#include <optional>

#include "agent/core.hpp"

namespace ordinald::agent {

/// What is wrong with a pool that looks so, or does not answer.
std::optional<csi::StorageHealthEntry> judge_pool(const PoolConfig& config, const Result<mount::PoolUsage>& usage);

/// Why its filesystem is smaller than the volume, and how that ends; empty: it isn't, or grows with the next call.
std::string growth_pending(const Core& core, const VolumeRecord& record, const VolumeState& state);

/// What is wrong, in CSI's words. An entry stays as long as its cause does; an empty list is a healthy volume.
class Health {
 public:
  explicit Health(Core& core) : core_(core) {}

  /// What the pool knows: file missing, too short, record damaged.
  Result<csi::VolumeHealth> controller(const std::string& id) const;
  /// What this node sees: the same, and device gone, filesystem read-only after an error, mount gone, device hung, growth pending.
  Result<csi::VolumeHealth> node(const std::string& id) const;
  Result<std::vector<csi::StorageHealthEntry>> storage() const;

 private:
  using Entries = std::vector<csi::HealthEntry>;
  Result<Entries> record_entries(const std::string& id) const;
  Entries pool_entries(mount::Kernel& kernel, const VolumeRecord& record) const;
  void device_entries(mount::Kernel& kernel, const VolumeRecord& record, Entries& entries) const;
  void mount_entries(mount::Kernel& kernel, const VolumeState& state, Entries& entries) const;

  Core& core_;
};

}  // namespace ordinald::agent
