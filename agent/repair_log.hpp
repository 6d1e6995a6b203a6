#pragma once

#include <spdlog/logger.h>

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>

namespace ordinald::agent {

/// Each repair is logged and counted; what only a person can decide is reported, once while it
/// lasts, with the command to use. Thread safe.
class RepairLog {
 public:
  explicit RepairLog(std::shared_ptr<spdlog::logger> log) : log_(std::move(log)) {}

  /// Something was put right. `kind` is a word for the count: `hold-released`.
  void repaired(const std::string& kind, const std::string& message);
  /// Something that nobody owns and that is left alone; the message has the command that a person would run.
  void reported(const std::string& message);

  /// A round has looked at everything: findings that it did not make are settled.
  void round_ended();

  /// Repairs since the start, by kind.
  [[nodiscard]] std::map<std::string, std::uint64_t> counts() const;
  [[nodiscard]] std::set<std::string> findings() const;

 private:
  std::shared_ptr<spdlog::logger> log_;
  mutable std::mutex mutex_;
  std::map<std::string, std::uint64_t> counts_;
  std::set<std::string> findings_;
  std::set<std::string> seen_;  ///< in this round
};

}  // namespace ordinald::agent
