#pragma once

#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "csi/volume_ops.hpp"

namespace ordinald::agent {

using mount::Result;

/// One call at a time on one volume; volumes never wait for one another.
///
/// A second call waits until a tenth of the remaining time (at least 200 ms) before its caller's deadline, or 60 s where there is none, and
/// then gets aborted, with what has been running since when. It waits no longer than its caller does, and not at all where so many wait
/// already that threads would run out. Thread safe.
class VolumeLocks {
 public:
  using Clock = std::chrono::steady_clock;

  /// `most_waiting`: calls at once; each keeps a thread.
  explicit VolumeLocks(std::size_t most_waiting) : most_waiting_(most_waiting) {}

  class Guard {
   public:
    Guard(VolumeLocks& locks, std::string key) : locks_(&locks), key_(std::move(key)) {}
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;
    Guard(Guard&& other) noexcept : locks_(std::exchange(other.locks_, nullptr)), key_(std::move(other.key_)) {}
    Guard& operator=(Guard&&) = delete;
    ~Guard() {
      if (locks_ != nullptr) {
        locks_->release(key_);
      }
    }

   private:
    VolumeLocks* locks_;
    std::string key_;
  };

  /// `key`: a volume's id, or another name that calls can meet at. `what`: the call's name, for the refusal of others.
  Result<Guard> acquire(const std::string& key, std::string what, const csi::CallContext& call);

  /// The guard, where nobody has it; never waits.
  std::optional<Guard> try_acquire(const std::string& key, std::string what);

  /// `NodeStageVolume has been running since … (75 s)`, where somebody has the key for at least as long; else empty.
  [[nodiscard]] std::string held_for(const std::string& key, Clock::duration at_least);

  struct Running {
    std::string key;
    std::string what;
    std::chrono::system_clock::time_point since;
    Clock::duration lasts;
  };
  [[nodiscard]] std::vector<Running> list();

  /// When a call that comes at `now` gives up waiting.
  static Clock::time_point patience(const csi::CallContext& call, Clock::time_point now);

 private:
  struct Holder {
    std::string what;
    std::chrono::system_clock::time_point since;
    Clock::time_point started;
    [[nodiscard]] std::string text() const;
  };
  void release(const std::string& key);
  /// Waits until the key is free; empty, or why it was given up. `lock` is held before and after.
  std::string wait_for(const std::string& key, const csi::CallContext& call, std::unique_lock<std::mutex>& lock);

  const std::size_t most_waiting_;
  std::mutex mutex_;
  std::condition_variable released_;
  std::map<std::string, Holder> held_;
  std::size_t waiting_ = 0;
};

}  // namespace ordinald::agent
