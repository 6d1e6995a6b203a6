#pragma once

#include <atomic>
#include <cstddef>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "mount/error.hpp"

namespace ordinald::agent {

/// How calls on each volume were refused or failed lately, for a person who asks why. In memory and bounded: the last few of the volumes
/// that had any most lately. Messages have no secrets (rule 6). Thread safe; a call that goes well pays one look at a number.
class CallErrors {
 public:
  static constexpr std::size_t most_volumes = 256;
  static constexpr std::size_t most_errors = 8;

  struct Entry {
    std::string time;  ///< UTC, ISO 8601
    std::string call;
    mount::ErrorCode code = mount::ErrorCode::internal;
    std::string message;
    bool settled = false;  ///< the same call has gone well since
  };

  void failed(const std::string& id, const std::string& call, const mount::Error& error);
  void went_well(const std::string& id, const std::string& call);
  void forget(const std::string& id);

  /// The newest at the end.
  [[nodiscard]] std::vector<Entry> of(const std::string& id) const;
  /// The newest that no call has settled since.
  [[nodiscard]] std::optional<Entry> refusal(const std::string& id) const;

 private:
  struct Volume {
    std::vector<Entry> entries;
    std::uint64_t used = 0;  ///< by count of errors: the oldest volume makes room
  };
  std::atomic<std::size_t> size_ = 0;
  mutable std::mutex mutex_;
  std::map<std::string, Volume> volumes_;
  std::uint64_t count_ = 0;
};

}  // namespace ordinald::agent
