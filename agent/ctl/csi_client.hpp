#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/ctl/failure.hpp"
#include "csi/volume_ops.hpp"

/// A CSI client in plain structs: what any orchestrator may ask of the agent, and nothing else. Storage has no other door.
///
/// Threading: one object, one thread; a call blocks it for at most its `timeout`, after which the agent may still be at work: repeat the
/// call to join it. Failures carry CSI's code: unreachable where no agent listens; busy for ABORTED and DEADLINE_EXCEEDED; failed for all
/// else (whether a FAILED_PRECONDITION means that somebody holds the volume is for the caller to know).
namespace ordinald::ctl {

using Timeout = std::chrono::milliseconds;

class CsiClient {
 public:
  /// `unix:///path` or `unix:/path`. Connects at the first call.
  explicit CsiClient(std::string endpoint);
  CsiClient(const CsiClient&) = delete;
  CsiClient& operator=(const CsiClient&) = delete;
  ~CsiClient();

  Result<csi::Volume> create_volume(const csi::CreateVolumeArgs& args, Timeout timeout);
  Result<void> delete_volume(const std::string& volume_id, Timeout timeout);
  /// All of them, page by page.
  Result<std::vector<csi::Volume>> list_volumes(Timeout timeout);
  Result<csi::ExpandResult> expand_volume(const std::string& volume_id, const csi::CapacityRange& capacity,
                                          const std::optional<csi::Capability>& capability, Timeout timeout);
  Result<void> stage(const csi::StageArgs& args, Timeout timeout);
  Result<void> unstage(const csi::UnstageArgs& args, Timeout timeout);
  Result<void> publish(const csi::PublishArgs& args, Timeout timeout);
  Result<void> unpublish(const csi::UnpublishArgs& args, Timeout timeout);
  /// The volume's capacity afterwards.
  Result<std::int64_t> node_expand(const csi::NodeExpandArgs& args, Timeout timeout);
  Result<csi::NodeInfo> node_info(Timeout timeout);

 private:
  struct Stubs;
  template <class Method, class Request, class Answer>
  Result<Answer> call(Method method, const Request& request, Answer answer, Timeout timeout);

  std::string endpoint_;
  std::unique_ptr<Stubs> stubs_;
};

}  // namespace ordinald::ctl
