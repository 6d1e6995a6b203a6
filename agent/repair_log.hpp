#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "mount/log.hpp"

namespace ordinald::agent {

/// Each repair is logged and counted; what only a person can decide is reported, once while it
/// lasts, with the command to use. Thread safe.
class RepairLog {
 public:
  explicit RepairLog(std::shared_ptr<const mount::Log> log) : log_(std::move(log)) {}

  /// Something was put right. `kind` is a word for the count: `hold-released`.
  void repaired(const std::string& kind, const std::string& message);
  /// Something that nobody owns and that is left alone, with the one command that a person would run, which ends it; empty: there is none,
  /// or it is not the only thing to do.
  void reported(const std::string& what, const std::string& command = {});

  /// A round has looked at everything: findings that it did not make are settled.
  void round_ended();

  /// Repairs since the start, by kind.
  [[nodiscard]] std::map<std::string, std::uint64_t> counts() const;
  /// What was reported, as it was logged (`what: command`), and its command.
  [[nodiscard]] std::map<std::string, std::string> findings() const;

 private:
  std::shared_ptr<const mount::Log> log_;
  mutable std::mutex mutex_;
  std::map<std::string, std::uint64_t> counts_;
  std::map<std::string, std::string> findings_;
  std::map<std::string, std::string> seen_;  ///< in this round
};

}  // namespace ordinald::agent
