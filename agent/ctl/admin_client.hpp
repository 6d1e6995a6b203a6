#pragma once

#include <chrono>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "agent/ctl/failure.hpp"

/// HTTP over the agent's admin socket: one connection a request, which blocks its thread.
///
/// Failures: unreachable where no agent listens, we may not ask it, or it doesn't answer in time, each with what to do; busy where the
/// agent says ABORTED; failed for its other refusals, with its code and its words.
namespace ordinald::ctl {

class AdminClient {
 public:
  /// Connects at each request. `timeout` bounds the whole of one.
  explicit AdminClient(std::string socket_path, std::chrono::milliseconds timeout = std::chrono::seconds{60})
      : path_(std::move(socket_path)), timeout_(timeout) {}

  /// `target` such as `/v1/status`; parts that come from elsewhere go through percent_encoded.
  Result<nlohmann::json> get(const std::string& target) const;
  Result<nlohmann::json> post(const std::string& target, const nlohmann::json& body) const;

 private:
  Result<nlohmann::json> request(bool is_post, const std::string& target, const std::string& body) const;

  std::string path_;
  std::chrono::milliseconds timeout_;
};

/// One segment of a path: all but letters, digits and `-._~` as %XX (RFC 3986).
std::string percent_encoded(std::string_view segment);

/// Why a Unix socket of the agent can't be connected to: nobody there, not running, no permission; each with what to do. Status
/// unreachable.
Failure unreachable(const std::string& socket_path, int sys_errno);

}  // namespace ordinald::ctl
