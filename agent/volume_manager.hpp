#pragma once

#include <algorithm>
#include <chrono>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>

#include "agent/adoption.hpp"
#include "agent/by_hand.hpp"
#include "agent/core.hpp"
#include "agent/health.hpp"
#include "agent/provisioner.hpp"
#include "agent/publisher.hpp"
#include "agent/repairs.hpp"
#include "agent/stager.hpp"
#include "agent/volume_locks.hpp"

namespace ordinald::agent {

/// What the host and this process are: handed in, so that a test can reboot.
struct Environment {
  std::string boot_id;
  bool grows_mounted_ext4 = false;  ///< CAP_SYS_RESOURCE is in effect

  /// Of this process: /proc/sys/kernel/random/boot_id and /proc/self/status.
  static Result<Environment> current();
};

/// Implements the port that csi/ calls: takes the volume's lock, hands the call to the part that does it, and names the volume in every
/// error.
class VolumeManager final : public csi::VolumeOps {
 public:
  /// Reads records and ledger, and holds the ledger against the mount table (reconciler.hpp): touches no device. The directories exist.
  static Result<std::unique_ptr<VolumeManager>> open(const Config& config, mount::KernelSource& kernels,
                                                     const std::shared_ptr<const mount::Log>& log, const Environment& environment);
  static Result<std::unique_ptr<VolumeManager>> open(const Config& config, mount::KernelSource& kernels,
                                                     const std::shared_ptr<const mount::Log>& log);

  /// One round of repairs (repairs.hpp). Touches devices: to be called after the socket is open, by one thread that may block.
  /// Two at once follow each other.
  void repair(const std::stop_token& stop = {}) {
    const std::scoped_lock lock{repairing_};
    repairs_.round(stop);
  }
  /// Until then, or until it is told to stop: names who else has the volumes that are handed over (hand_over.hpp), as they are. By the
  /// same thread.
  void watch_hand_overs(const std::stop_token& stop, std::chrono::steady_clock::time_point until);
  /// For the admin interface, which looks at all and changes nothing of it but by what follows.
  [[nodiscard]] Core& core() { return *core_; }
  [[nodiscard]] VolumeLocks& locks() { return locks_; }
  [[nodiscard]] const Health& health() const { return health_; }
  [[nodiscard]] Result<Holds> holds(const std::string& id) const { return by_hand_.holds(id); }
  Result<std::vector<Hold>> release(const csi::CallContext& call, const std::string& id, const std::string& holder,
                                    const std::string& target);
  Result<std::string> rebind(const csi::CallContext& call, const std::string& id, const Claim& claim);
  /// Nothing is changed where it is only planned (adoption.hpp).
  Result<AdoptionPlan> adopt(const csi::CallContext& call, const AdoptionRequest& request, bool only_plan) {
    return only_plan ? adoption_.plan(request) : adoption_.adopt(call, request);
  }
  /// Repairs since the start, by kind.
  [[nodiscard]] std::map<std::string, std::uint64_t> repair_counts() const { return core_->repairs.counts(); }
  /// What nobody owns and a person has to decide, with the command to use.
  [[nodiscard]] std::map<std::string, std::string> findings() const { return core_->repairs.findings(); }

  Result<bool> ready() override;
  Result<csi::Volume> create_volume(const csi::CallContext& call, const csi::CreateVolumeArgs& args) override;
  Result<void> delete_volume(const csi::CallContext& call, const std::string& volume_id) override;
  Result<csi::ValidateResult> validate_volume(const csi::CallContext& call, const csi::ValidateArgs& args) override;
  Result<csi::Page<csi::Volume>> list_volumes(const csi::CallContext& call, const csi::PageArgs& args) override;
  Result<csi::Volume> get_volume(const csi::CallContext& call, const std::string& volume_id) override;
  Result<csi::CapacityResult> get_capacity(const csi::CallContext& call, const csi::CapacityArgs& args) override;
  Result<csi::ExpandResult> expand_volume(const csi::CallContext& call, const std::string& volume_id, const csi::CapacityRange& capacity,
                                          const std::optional<csi::Capability>& capability) override;
  Result<csi::VolumeHealth> controller_volume_health(const csi::CallContext& call, const std::string& volume_id) override;
  Result<csi::Page<csi::VolumeHealth>> list_volume_health(const csi::CallContext& call, const csi::PageArgs& args) override;
  Result<void> stage(const csi::CallContext& call, const csi::StageArgs& args) override;
  Result<void> unstage(const csi::CallContext& call, const csi::UnstageArgs& args) override;
  Result<void> publish(const csi::CallContext& call, const csi::PublishArgs& args) override;
  Result<void> unpublish(const csi::CallContext& call, const csi::UnpublishArgs& args) override;
  Result<csi::VolumeStats> stats(const csi::CallContext& call, const csi::StatsArgs& args) override;
  Result<csi::VolumeHealth> node_volume_health(const csi::CallContext& call, const csi::NodeHealthArgs& args) override;
  Result<std::vector<csi::StorageHealthEntry>> storage_health(const csi::CallContext& call) override;
  Result<std::int64_t> node_expand(const csi::CallContext& call, const csi::NodeExpandArgs& args) override;
  csi::NodeInfo node_info() override;

 private:
  VolumeManager(std::unique_ptr<Core> core, std::vector<std::future<Result<void>>> claiming)
      : core_(std::move(core)),
        locks_(static_cast<std::size_t>(std::max(1, core_->config.max_threads / 2))),
        claiming_(std::move(claiming)) {}
  /// Runs `work` under the volume's lock.
  template <class Work>
  auto locked(const csi::CallContext& call, const std::string& volume_id, const char* what, Work work) -> decltype(work());
  /// Ids in order, those of damaged records too; from after the token's.
  Result<std::vector<std::string>> ids_after(const std::string& token) const;
  [[nodiscard]] std::string token_for(const std::string& id) const;

  std::unique_ptr<Core> core_;
  VolumeLocks locks_;
  Provisioner provisioner_{*core_, locks_};
  Stager stager_{*core_};
  Publisher publisher_{*core_};
  ByHand by_hand_{*core_, publisher_};
  Adoption adoption_{*core_, locks_};
  Health health_{*core_};
  std::mutex repairing_;
  std::vector<std::future<Result<void>>> claiming_;  ///< pools that did not answer at the start
  Repairs repairs_{*core_, locks_};
};

}  // namespace ordinald::agent
