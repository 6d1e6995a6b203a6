#pragma once

#include <chrono>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "agent/call_errors.hpp"
#include "agent/config.hpp"
#include "agent/keyed_digest.hpp"
#include "agent/ledger.hpp"
#include "agent/pool_marks.hpp"
#include "agent/pool_places.hpp"
#include "agent/promises.hpp"
#include "agent/record_store.hpp"
#include "agent/repair_log.hpp"
#include "mount/log.hpp"
#include "mount/pool.hpp"

namespace ordinald::agent {

/// A set of words for several threads, which forgets them all when they have become many: what it spares is only looked up anew.
class SharedSet {
 public:
  void insert(const std::string& word) {
    constexpr std::size_t most = 4096;
    const std::scoped_lock lock{mutex_};
    if (words_.size() >= most) {
      words_.clear();
    }
    words_.insert(word);
  }
  void erase(const std::string& word) {
    const std::scoped_lock lock{mutex_};
    words_.erase(word);
  }
  [[nodiscard]] bool contains(const std::string& word) const {
    const std::scoped_lock lock{mutex_};
    return words_.contains(word);
  }

 private:
  mutable std::mutex mutex_;
  std::set<std::string> words_;
};

/// A volume that went to another holder.
struct HandOver {
  std::string volume;
  std::string to;
};

/// Those of which nobody has told yet. Thread safe.
class HandOvers {
 public:
  void add(HandOver event) {
    {
      const std::scoped_lock lock{mutex_};
      events_.push_back(std::move(event));
    }
    added_.notify_one();
  }
  [[nodiscard]] std::vector<HandOver> take() {
    const std::scoped_lock lock{mutex_};
    return std::exchange(events_, {});
  }
  /// Waits until there is one: true; or until the time has passed, or it is told to stop.
  bool wait(const std::stop_token& stop, std::chrono::steady_clock::time_point until) {
    std::unique_lock lock{mutex_};
    return added_.wait_until(lock, stop, until, [&] { return !events_.empty(); });
  }

 private:
  std::mutex mutex_;
  std::condition_variable_any added_;
  std::vector<HandOver> events_;
};

/// What every operation on a volume works with; owned by VolumeManager, handed to each part by reference. Each member is thread safe or
/// never changes.
struct Core {
  Config config;
  mount::KernelSource& kernels;
  std::shared_ptr<const mount::Log> log;
  std::unique_ptr<RecordStore> records;
  std::unique_ptr<Ledger> ledger;
  KeyedDigest digest;
  std::map<std::string, std::unique_ptr<mount::Pool>> pools;
  /// Whether this process may grow a mounted ext4 (CAP_SYS_RESOURCE).
  bool grows_mounted_ext4 = false;
  PromiseBook promises;
  RepairLog repairs;
  mutable PoolPlaces places;
  mutable PoolMarks marks;
  std::string boot_id;
  /// Pods of this boot whose control group was gone when it was looked for, and that had nothing published since.
  SharedSet gone_holders;
  HandOvers handed_over{};
  /// How calls were refused lately.
  CallErrors errors{};
  /// Those of which volumes were left when the agent started.
  std::vector<PoolConfig> former_pools{};
  /// Former pools of which the log has said that they can't be looked at.
  mutable SharedSet told_once{};

  /// The record. not_found: unknown. failed_precondition: set aside as damaged (naming the file), or being deleted.
  [[nodiscard]] Result<std::shared_ptr<const VolumeRecord>> require(const std::string& id) const;
  /// The record's pool. failed_precondition: it is configured no more.
  [[nodiscard]] Result<const mount::Pool*> pool_of(const VolumeRecord& record) const;
  /// Every pool that answers, as it is now. The ones that don't are left out.
  [[nodiscard]] std::vector<PoolView> view_pools() const;
  /// Those on whose promises this pool's depend: the ones that may be on its file system, former ones too. Any other is not looked at, so
  /// that one that hangs keeps nobody waiting. unavailable: the pool itself can't be looked at. resource_exhausted: for want of descriptors
  /// or processes.
  [[nodiscard]] Result<std::vector<PoolView>> view_pools_beside(const std::string& pool) const;
  [[nodiscard]] const PoolConfig& default_pool() const;
  /// invalid_argument: the path is one that the agent itself stands on, or lies beneath or above one: a mount there would hide records,
  /// ledger or images. By its text; a symlink above it is the caller's.
  [[nodiscard]] Result<void> refuse_own_path(const std::string& path) const;
};

/// A record as its pool wants it.
mount::PoolVolume pool_volume(const VolumeRecord& record);

/// `volume data-db-0-1a2b3c4d` before an error's message.
Error on_volume(const std::string& id, const Error& error);
Error volume_error(ErrorCode code, const std::string& id, const std::string& message);

/// failed_precondition, where the volume can't be had in this mode: 4 and 5 without multiNodeModes=allow.
Result<void> check_mode(const VolumeRecord& record, AccessMode mode);

}  // namespace ordinald::agent
