#pragma once

#include "agent/core.hpp"
#include "agent/volume_locks.hpp"

namespace ordinald::agent {

/// Where two creates of one name meet, as a key of the volume locks.
inline std::string create_key(const std::string& name) { return "named " + name; }

/// The controller's side: volumes come, grow and go.
///
/// Create: promise reserved ─▶ record, durable ─▶ image ─▶ record `provisioned`. Delete: record `deleting`, durable ─▶ image gone ─▶ record
/// gone. A crash in between is finished by the same call again; a delete also by the repairs. The caller holds the
/// volume's lock; for create(), whose volume has no id yet, the lock of create_key(name).
class Provisioner {
 public:
  explicit Provisioner(Core& core) : core_(core) {}

  Result<csi::Volume> create(const csi::CreateVolumeArgs& args);
  Result<void> remove(const std::string& id);
  Result<csi::ValidateResult> validate(const csi::ValidateArgs& args) const;
  Result<csi::CapacityResult> capacity(const csi::CapacityArgs& args);
  /// Grows the promise and what backs it; the device, where it is attached, sees it at once. Answers the volume's size.
  Result<std::uint64_t> grow(const std::string& id, const csi::CapacityRange& capacity);

  [[nodiscard]] csi::Volume show(const VolumeRecord& record) const;
  [[nodiscard]] StringMap topology() const;

 private:
  struct Plan;
  Result<Plan> plan(const csi::CreateVolumeArgs& args) const;
  Result<csi::Volume> existing(const csi::CreateVolumeArgs& args, const Plan& plan, const VolumeRecord& record);
  Result<csi::Volume> provision(VolumeRecord record, const mount::Pool& pool);
  Result<void> refuse_if_used(const std::string& id, mount::Kernel& kernel, const mount::Pool& pool, const VolumeRecord& record);
  [[nodiscard]] bool reachable(const std::vector<StringMap>& requisite) const;

  Core& core_;
};

}  // namespace ordinald::agent
