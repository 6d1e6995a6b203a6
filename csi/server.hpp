#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "csi/answer_watch.hpp"
#include "csi/connections.hpp"
#include "csi/plugin_info.hpp"
#include "csi/volume_ops.hpp"
#include "mount/log.hpp"
#include "mount/result.hpp"

namespace ordinald::csi {

struct ServerOptions {
  std::string endpoint;  ///< `unix:///path` or `unix:/path`
  PluginInfo plugin;
  int max_threads = 256;  ///< the most calls served at once; one more is answered RESOURCE_EXHAUSTED. Of one connection: half of them
  Connections::Limits connections{};
  AnswerWatch::Options answers{};
};

/// The CSI services on a Unix socket: owns the socket file, the thread that accepts and the gRPC server with its threads.
///
/// The socket is bound by us, not by gRPC: mode 0600 holds from the moment that the file exists (fchmod(2) before bind(2), unix(7)),
/// the process's umask is left alone, no other file is made beside it, and only our own file is ever removed. What is accepted is
/// handed to gRPC descriptor by descriptor.
///
/// Threading: start and shutdown from one thread; the port is called from many (it must outlive this object).
class Server {
 public:
  /// Binds, starts serving and returns. invalid_argument: an endpoint that can't be used. failed_precondition: another process listens
  /// there, or the path is something other than a socket. A stale socket (nobody listens) is replaced.
  static mount::Result<std::unique_ptr<Server>> start(const ServerOptions& options, VolumeOps& ops, std::shared_ptr<const mount::Log> log);

  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  /// Shuts down without a grace, and waits for calls that still run.
  ~Server();

  /// Removes the socket file, takes no new calls, waits for the running ones up to `drain`, then cancels them (which a caller sees; the
  /// work goes on) and waits for at most half a second more. True: every call has ended. False: some still run; end the process without
  /// destroying this object, which would wait for them.
  [[nodiscard]] bool shutdown(std::chrono::milliseconds drain);

  /// The calls that are being worked on, for people: `NodeStageVolume volume="…" for 12.3 s`. From any thread.
  [[nodiscard]] std::vector<std::string> working() const;

  /// The path of the socket.
  [[nodiscard]] const std::string& path() const;

 private:
  struct State;
  explicit Server(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace ordinald::csi
