#pragma once

#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "csi/volume_ops.hpp"

namespace ordinald::csi {

/// A port that keeps what it was asked and gives the answers that a test has set. Thread safe as far as the tests need it: `hook` and the
/// answers are set before the calls, what was asked is read after them.
class FakeVolumeOps final : public VolumeOps {
 public:
  /// Runs first in each call, with the verb's name; its error is the call's.
  std::function<Result<void>(const std::string& verb)> hook;

  bool ready_answer = true;
  Volume volume{.id = "v-1", .capacity = 1 << 30, .context = {{"pool", "p"}}, .topology = {{"topology.ordinald.io/node", "n1"}}};
  ValidateResult validation{.confirmed = true, .message = {}};
  Page<Volume> volumes;
  CapacityResult capacity;
  ExpandResult expansion{.capacity = 2 << 20, .node_expansion_required = true};
  VolumeHealth health{.volume_id = "v-1", .entries = {}};
  Page<VolumeHealth> unwell;
  VolumeStats usage;
  std::vector<StorageHealthEntry> storage;
  std::int64_t expanded = 0;
  NodeInfo node{.node_id = "n1", .max_volumes = 0, .topology = {{"topology.ordinald.io/node", "n1"}}};

  std::vector<std::string> verbs;  ///< asked so far
  CallContext context;             ///< of the last call
  std::string volume_id;           ///< of the last call that has only that
  CreateVolumeArgs create_args;
  ValidateArgs validate_args;
  PageArgs page_args;
  CapacityArgs capacity_args;
  CapacityRange expand_capacity;
  std::optional<Capability> expand_capability;
  StageArgs stage_args;
  UnstageArgs unstage_args;
  PublishArgs publish_args;
  UnpublishArgs unpublish_args;
  StatsArgs stats_args;
  NodeHealthArgs health_args;
  NodeExpandArgs node_expand_args;

  Result<bool> ready() override {
    TRYV(begin("ready", {}));
    return ready_answer;
  }
  Result<Volume> create_volume(const CallContext& call, const CreateVolumeArgs& args) override {
    return answer("create_volume", call, create_args, args, volume);
  }
  Result<void> delete_volume(const CallContext& call, const std::string& id) override {
    volume_id = id;
    return begin("delete_volume", call);
  }
  Result<ValidateResult> validate_volume(const CallContext& call, const ValidateArgs& args) override {
    return answer("validate_volume", call, validate_args, args, validation);
  }
  Result<Page<Volume>> list_volumes(const CallContext& call, const PageArgs& args) override {
    return answer("list_volumes", call, page_args, args, volumes);
  }
  Result<Volume> get_volume(const CallContext& call, const std::string& id) override {
    return answer("get_volume", call, volume_id, id, volume);
  }
  Result<CapacityResult> get_capacity(const CallContext& call, const CapacityArgs& args) override {
    return answer("get_capacity", call, capacity_args, args, capacity);
  }
  Result<ExpandResult> expand_volume(const CallContext& call, const std::string& id, const CapacityRange& range,
                                     const std::optional<Capability>& capability) override {
    expand_capacity = range;
    expand_capability = capability;
    return answer("expand_volume", call, volume_id, id, expansion);
  }
  Result<VolumeHealth> controller_volume_health(const CallContext& call, const std::string& id) override {
    return answer("controller_volume_health", call, volume_id, id, health);
  }
  Result<Page<VolumeHealth>> list_volume_health(const CallContext& call, const PageArgs& args) override {
    return answer("list_volume_health", call, page_args, args, unwell);
  }
  Result<void> stage(const CallContext& call, const StageArgs& args) override {
    stage_args = args;
    return begin("stage", call);
  }
  Result<void> unstage(const CallContext& call, const UnstageArgs& args) override {
    unstage_args = args;
    return begin("unstage", call);
  }
  Result<void> publish(const CallContext& call, const PublishArgs& args) override {
    publish_args = args;
    return begin("publish", call);
  }
  Result<void> unpublish(const CallContext& call, const UnpublishArgs& args) override {
    unpublish_args = args;
    return begin("unpublish", call);
  }
  Result<VolumeStats> stats(const CallContext& call, const StatsArgs& args) override {
    return answer("stats", call, stats_args, args, usage);
  }
  Result<VolumeHealth> node_volume_health(const CallContext& call, const NodeHealthArgs& args) override {
    return answer("node_volume_health", call, health_args, args, health);
  }
  Result<std::vector<StorageHealthEntry>> storage_health(const CallContext& call) override {
    TRYV(begin("storage_health", call));
    return storage;
  }
  Result<std::int64_t> node_expand(const CallContext& call, const NodeExpandArgs& args) override {
    return answer("node_expand", call, node_expand_args, args, expanded);
  }
  NodeInfo node_info() override { return node; }

 private:
  Result<void> begin(const std::string& verb, const CallContext& call) {
    {
      const std::lock_guard lock{mutex_};
      verbs.push_back(verb);
      context = call;
    }
    return hook ? hook(verb) : mount::success();
  }

  template <class Args, class Answer>
  Result<Answer> answer(const std::string& verb, const CallContext& call, Args& kept, const Args& args, const Answer& result) {
    {
      const std::lock_guard lock{mutex_};
      kept = args;
    }
    TRYV(begin(verb, call));
    return result;
  }

  std::mutex mutex_;
};

}  // namespace ordinald::csi
