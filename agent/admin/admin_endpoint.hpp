#pragma once

#include <memory>
#include <string>

#include "agent/admin/admin_api.hpp"
#include "mount/log.hpp"
#include "mount/result.hpp"

namespace ordinald::agent {

/// HTTP/1.1 for AdminApi on a Unix socket of mode 0600 (csi/listener.hpp: a stale file is replaced, a live one refused). One request a
/// connection.
///
/// Bounds, so that no client can do harm: 16 KiB of header and 64 KiB of body, 20 s for a request to be there and for its answer to be
/// taken, 64 connections (others wait until one of these ends), 16 long works at once (others are told so).
///
/// Threading: a thread of its own for the sockets; answers are worked out on two pools, so that what is answered soon never waits for what
/// may take long. The daemon's loop has no part in it.
class AdminEndpoint {
 public:
  /// failed_precondition: somebody listens there, or it is no socket. invalid_argument: no path for a socket. `api` must outlive it.
  static mount::Result<std::unique_ptr<AdminEndpoint>> start(const std::string& path, AdminApi& api, std::shared_ptr<const mount::Log> log);

  AdminEndpoint(const AdminEndpoint&) = delete;
  AdminEndpoint& operator=(const AdminEndpoint&) = delete;
  /// Waits for what is being worked on.
  ~AdminEndpoint();

  /// Takes no more requests and lets go of clients that have not asked; who has asked gets an answer. Doesn't wait.
  void stop();

 private:
  class Server;
  explicit AdminEndpoint(std::unique_ptr<Server> server);
  std::unique_ptr<Server> server_;
};

}  // namespace ordinald::agent
