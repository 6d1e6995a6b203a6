#pragma once

#include "agent/core.hpp"
#include "agent/volume_locks.hpp"

namespace ordinald::agent {

/// Where two creates of one name meet, as a key of the volume locks.
inline std::string create_key(const std::string& name) { return "named " + name; }

/// The controller's side: volumes come and grow. (How they go: deletion.hpp.)
///
/// Create: promise reserved ─▶ record, durable ─▶ image ─▶ record `provisioned`. A crash in between is finished by the same call again. The
/// caller holds the volume's lock; for create(), whose volume has no id yet, the lock of create_key(name): create() takes the volume's
/// after it, wherever it changes anything.
class Provisioner {
 public:
  Provisioner(Core& core, VolumeLocks& locks) : core_(core), locks_(locks) {}

  Result<csi::Volume> create(const csi::CallContext& call, const csi::CreateVolumeArgs& args);
  Result<csi::ValidateResult> validate(const csi::ValidateArgs& args) const;
  Result<csi::CapacityResult> capacity(const csi::CapacityArgs& args);
  /// Grows the promise and what backs it; the device, where it is attached, sees it at once. Answers the volume's size.
  Result<std::uint64_t> grow(const std::string& id, const csi::CapacityRange& capacity);

  /// As every answer shows it. The context stays empty: an orchestrator keeps for ever what it was given once (Kubernetes in the PV), and a
  /// claim may be another by then (`rebind`).
  [[nodiscard]] csi::Volume show(const VolumeRecord& record) const;
  [[nodiscard]] StringMap topology() const;

 private:
  /// Where its device is attached, it sees the volume's size.
  Result<void> show_size(const VolumeRecord& record);
  struct Plan;
  Result<Plan> plan(const csi::CreateVolumeArgs& args) const;
  static Result<void> check_new(const csi::CreateVolumeArgs& args, const Plan& plan);
  Result<csi::Volume> existing(const csi::CreateVolumeArgs& args, const Plan& plan, const VolumeRecord& record);
  Result<csi::Volume> first_terms(const csi::CreateVolumeArgs& args, const Plan& plan, VolumeRecord record);
  Result<csi::Volume> provision(VolumeRecord record, const mount::Pool& pool);
  [[nodiscard]] bool reachable(const std::vector<StringMap>& requisite) const;

  Core& core_;
  VolumeLocks& locks_;
};

}  // namespace ordinald::agent
