#pragma once

#include "agent/core.hpp"

namespace ordinald::agent {

/// NodePublishVolume and NodeUnpublishVolume: who may have a staged volume, and where (rule 4). Each call runs under its volume's lock: the
/// check and the act are one step. The ledger is written before the bind, so that a crash in between leaves a publication too many, never
/// one too few.
class Publisher {
 public:
  explicit Publisher(Core& core) : core_(core) {}

  Result<void> publish(const csi::PublishArgs& args);
  /// `how`: what the volume's history says of the publication's end.
  Result<void> unpublish(const csi::UnpublishArgs& args, const std::string& how = "unpublished");

 private:
  void claim_found(const csi::PublishArgs& args, VolumeState& state) const;
  Result<mount::BindRequest> bind_request(const csi::PublishArgs& args, const VolumeState& state, Publication& publication) const;
  Result<void> make_visible(const csi::PublishArgs& args, mount::Kernel& kernel, VolumeState& state, const mount::BindRequest& bind);
  Result<void> unpublish_unknown(const csi::UnpublishArgs& args, mount::Kernel& kernel, const std::string& how);
  Result<void> take_away(mount::Kernel& kernel, const csi::UnpublishArgs& args, const mount::Expected& expected);

  Core& core_;
};

}  // namespace ordinald::agent
