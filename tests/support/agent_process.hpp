#pragma once

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "tests/support/csi_client.hpp"

/// The agent's program run from outside, as systemd would: started, waited for by its READY=1, killed, ended, started again.
///
/// Threading: one object, one thread. Errors: throws std::runtime_error with the end of the agent's log.
namespace ordinald::testing {

/// How a process ended.
struct Ending {
  bool exited = false;
  int status = -1;  ///< exit status, or the signal that ended it
};

class AgentProcess {
 public:
  /// Everything of it is beneath `root`: `state/`, `run/`, `pool/` (one thin pool, the default), `csi.sock`, `agent.json`, `agent.log`.
  /// `settings` are laid over that configuration (RFC 7386: null takes a key away). Doesn't start it.
  AgentProcess(std::filesystem::path program, std::filesystem::path root, const nlohmann::json& settings = nlohmann::json::object());
  AgentProcess(const AgentProcess&) = delete;
  AgentProcess& operator=(const AgentProcess&) = delete;
  /// SIGTERM, and after 30 s SIGKILL. Mounts stay.
  ~AgentProcess();

  /// Starts it and waits for READY=1. Answers how long that took.
  std::chrono::microseconds start(const std::vector<std::string>& arguments = {},
                                  const std::map<std::string, std::string>& environment = {});
  /// Starts it where it is expected to refuse: waits for its end.
  Ending run_to_end(const std::vector<std::string>& arguments = {}, const std::map<std::string, std::string>& environment = {});
  /// SIGTERM, and waits for its end.
  Ending stop(std::chrono::seconds deadline = std::chrono::seconds(60));
  /// SIGKILL, and waits for its end.
  void kill();

  bool running() const { return pid_ > 0; }
  pid_t pid() const { return pid_; }
  std::filesystem::path root() const { return root_; }
  std::filesystem::path pool() const { return root_ / "pool"; }
  std::filesystem::path socket() const { return root_ / "csi.sock"; }
  std::string endpoint() const { return "unix://" + socket().string(); }
  /// All that it has logged since the first start.
  std::string log() const;
  /// The configuration, as it is written at each start.
  nlohmann::json& configuration() { return configuration_; }

  /// A connection to it; a new one after each start.
  CsiClient& client();

 private:
  pid_t spawn(const std::vector<std::string>& arguments, const std::map<std::string, std::string>& environment, int notify_socket);
  Ending wait_for_end(std::chrono::milliseconds deadline);
  [[noreturn]] void fail(const std::string& what) const;

  std::filesystem::path program_;
  std::filesystem::path root_;
  nlohmann::json configuration_;
  std::unique_ptr<CsiClient> client_;
  pid_t pid_ = -1;
  int pidfd_ = -1;
};

}  // namespace ordinald::testing
