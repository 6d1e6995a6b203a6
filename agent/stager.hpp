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
  bool keep_history(const std::string& id, const std::vector<Tenure>& past);
  Result<void> grow_if_pending(Request& request, mount::Kernel& kernel, const VolumeState& state);

  Core& core_;
};

}  // namespace ordinald::agent
