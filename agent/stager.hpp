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
  Result<void> take_back_unseen(mount::Kernel& kernel, VolumeRecord& record, const mount::Device& device);
  Result<void> stage_mount(Request& request, mount::Kernel& kernel, VolumeState& state);
  static Error with_repair(Error error, const Request& request);
  Result<void> grow_if_pending(Request& request, mount::Kernel& kernel, const VolumeState& state);
  static Result<void> refuse_other_options(const Request& request, mount::Kernel& kernel, const VolumeState& state,
                                           const mount::Device& device);
  void served_as_it_is(const std::string& id, const std::string& why);

  Core& core_;
};

}  // namespace ordinald::agent
