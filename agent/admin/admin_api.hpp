#pragma once

#include <functional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "agent/admin/node_view.hpp"

namespace ordinald::agent {

struct AdminAnswer {
  unsigned status = 200;  ///< HTTP's
  std::string body{};     ///< JSON
};

/// The admin interface: what a person asks of the agent and has it do by hand, as HTTP paths and JSON (README.md of this folder's parent
/// has the list). An error is `{"error": {"code": "FAILED_PRECONDITION", "message": "…"}}`.
///
/// Threading: thread safe; a call blocks until it is answered: for a second or two where is_quick() says so, else as long as its work.
class AdminApi {
 public:
  AdminApi(VolumeManager& volumes, std::function<std::vector<mount::Hang>()> hangs) : volumes_(volumes), node_(volumes, std::move(hangs)) {}

  /// Whether it is answered soon, whatever the disks do.
  static bool is_quick(bool post, std::string_view target);

  /// Never throws. `method`: GET or POST; others are refused. `stop`: a long work may end early.
  AdminAnswer answer(std::string_view method, std::string_view target, std::string_view body, const std::stop_token& stop);

  /// As answer() refuses.
  static AdminAnswer refusal(const mount::Error& error);
  static AdminAnswer refusal(unsigned status, std::string_view code, const std::string& message);

 private:
  using Segments = std::vector<std::string>;
  Result<AdminAnswer> get(const Segments& path);
  Result<AdminAnswer> post(const Segments& path, std::string_view body, const std::stop_token& stop);
  Result<AdminAnswer> rebind(const std::string& id, std::string_view body);
  Result<AdminAnswer> adopt(std::string_view body);
  Result<AdminAnswer> release(const std::string& id, std::string_view body);

  VolumeManager& volumes_;
  NodeView node_;
};

}  // namespace ordinald::agent
