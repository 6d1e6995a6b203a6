#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

/// A client of the admin socket that can also behave badly. Blocking, with a deadline of 20 s; throws std::runtime_error.
namespace ordinald::testing {

/// A connection: for what is no orderly request.
class RawClient {
 public:
  explicit RawClient(const std::filesystem::path& socket);
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;
  ~RawClient();

  /// False: the other side has gone.
  bool send(const std::string& bytes);
  /// All until the other side ends the connection; what has come by then when it does not within 20 s fails the test.
  std::string read_all();

 private:
  int fd_;
};

struct AdminReply {
  int status = 0;  ///< 0: no answer
  nlohmann::json body;
  [[nodiscard]] std::string code() const { return body.contains("error") ? body["error"]["code"].get<std::string>() : ""; }
  [[nodiscard]] std::string message() const { return body.contains("error") ? body["error"]["message"].get<std::string>() : ""; }
};

AdminReply parse_reply(const std::string& text);
AdminReply admin_get(const std::filesystem::path& socket, const std::string& target);
AdminReply admin_post(const std::filesystem::path& socket, const std::string& target, const nlohmann::json& body);

}  // namespace ordinald::testing
