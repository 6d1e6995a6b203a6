#pragma once

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

/// The daemon that claims are tested against; apart from the rest, so that gRPC's headers are in one file. As AgentProcess.
namespace ordinald::testing {

class AgentHandle {
 public:
  /// Started.
  AgentHandle(const std::filesystem::path& root, const nlohmann::json& settings);
  ~AgentHandle();

  void start();
  void kill();
  std::string endpoint() const;
  std::filesystem::path admin_socket() const;

 private:
  struct Process;
  std::unique_ptr<Process> process_;
};

}  // namespace ordinald::testing
