#include "agent/repair_log.hpp"

#include <utility>

namespace ordinald::agent {

void RepairLog::repaired(const std::string& kind, const std::string& message) {
  {
    const std::scoped_lock lock{mutex_};
    ++counts_[kind];
  }
  log_->warn("repair {}: {}", kind, message);
}

void RepairLog::reported(const std::string& what, const std::string& command) {
  const std::string message = command.empty() ? what : what + ": " + command;
  {
    const std::scoped_lock lock{mutex_};
    seen_.emplace(message, command);
    if (!findings_.emplace(message, command).second) {
      return;
    }
  }
  log_->warn("nobody owns this, and it is left alone: {}", message);
}

void RepairLog::round_ended() {
  const std::scoped_lock lock{mutex_};
  findings_ = std::exchange(seen_, {});
}

std::map<std::string, std::uint64_t> RepairLog::counts() const {
  const std::scoped_lock lock{mutex_};
  return counts_;
}

std::map<std::string, std::string> RepairLog::findings() const {
  const std::scoped_lock lock{mutex_};
  return findings_;
}

}  // namespace ordinald::agent
