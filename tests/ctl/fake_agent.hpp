#pragma once

#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

/// A server on a Unix socket that answers as it is told, also what no agent would: for what a client makes of odd answers. A thread of its
/// own serves one connection after the other. Errors: throws std::system_error.
namespace ordinald::testing {

class FakeAgent {
 public:
  explicit FakeAgent(std::string socket_path);
  FakeAgent(const FakeAgent&) = delete;
  FakeAgent& operator=(const FakeAgent&) = delete;
  ~FakeAgent();

  /// What `GET /v1/status` and the like get, with HTTP's head around it.
  void answer(const std::string& request, const nlohmann::json& body, int status = 200);
  /// The very bytes; then the connection ends. Empty: it ends at once.
  void answer_raw(const std::string& request, const std::string& bytes);
  /// It reads the request and never answers.
  void be_silent(const std::string& request);

  /// `POST /v1/adopt {"path":…}`, in order.
  std::vector<std::string> requests() const;
  const std::string& path() const { return path_; }

 private:
  void serve();
  void serve_one(int connection);

  std::string path_;
  int listener_ = -1;
  int stop_ = -1;  ///< an eventfd
  mutable std::mutex mutex_;
  std::map<std::string, std::string> answers_;
  std::vector<std::string> silent_;
  std::vector<std::string> requests_;
  std::thread thread_;
};

}  // namespace ordinald::testing
