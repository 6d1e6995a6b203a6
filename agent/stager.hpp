#pragma once

#include "agent/core.hpp"

namespace ordinald::agent {

/// NodeStageVolume and NodeUnstageVolume: a volume's device, and its mount at a staging path. Each call runs under its volume's lock, and
/// can be repeated from wherever it stopped.
class Stager {
 public:
  explicit Stager(Core& core) : core_(core) {}

  Result<void> stage(const csi::StageArgs& args);
  Result<void> unstage(const csi::UnstageArgs& args);

 private:
  struct Request;
  Result<Request> read(const csi::StageArgs& args) const;
  Result<bool> repeated(const Request& request, mount::Kernel& kernel, VolumeState& state);
  Result<void> stage_block(Request& request, mount::Kernel& kernel, VolumeState& state);
  Result<void> stage_mount(Request& request, mount::Kernel& kernel, VolumeState& state);
  static Error with_repair(Error error, const Request& request);
  Result<void> keep_history(const std::string& id, const std::vector<Tenure>& past);
  Result<void> grow_if_pending(Request& request, mount::Kernel& kernel, const VolumeState& state);

  Core& core_;
};

/// The volume's device, where it is attached: the ledger's, or the one that its pool finds. Works without a record, by asking each pool
/// (a damaged record's volume is still taken down).
Result<std::optional<mount::Device>> find_device(const Core& core, mount::Kernel& kernel, const std::string& id, const VolumeState& state);

/// The state, with the device and the filesystem filled in from the record where the ledger has them no more.
Result<VolumeState> known_state(const Core& core, mount::Kernel& kernel, const std::string& id);

/// Detaches a device that nothing of ours uses any more. One that lives on in another mount namespace goes when that lets go: success, and
/// a warning that names who has it.
Result<void> let_go(const Core& core, mount::Kernel& kernel, const std::string& id, const mount::Device& device);

}  // namespace ordinald::agent
