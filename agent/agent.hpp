#pragma once

#include <memory>
#include <stop_token>

#include "agent/config.hpp"
#include "mount/log.hpp"
#include "mount/result.hpp"
#include "mount/zygote.hpp"

namespace ordinald::agent {

/// The daemon as a whole: owns every part, starts them in order, waits for the end, and stops them in the opposite order.
///
///     locks ─▶ left behind ─▶ workers ─▶ volumes (reconciled) ─▶ admin, server ─▶ READY ─▶ serving
///                                                                                      │ SIGTERM, SIGINT
///     ended ◀─ all let go ◀─────────── calls have ended ◀──────────────── draining ◀───┘
///       ▲                                                                     │ a call still runs at the deadline
///       └──── _exit: what it waits for is abandoned, and named in the log ◀───┘
///
/// Threading: start and run on the main thread, which runs the io loop and never blocks; a helper thread waits for the drain. gRPC has its
/// own. Mounts stay whichever way it ends.
class Agent {
 public:
  /// Everything up to READY. `zygote` was forked before any thread, lock or socket. failed_precondition: another agent has one of our
  /// directories or our socket.
  static mount::Result<std::unique_ptr<Agent>> start(const Config& config, mount::Zygote zygote, std::shared_ptr<const mount::Log> log);

  Agent(const Agent&) = delete;
  Agent& operator=(const Agent&) = delete;
  ~Agent();

  /// Serves until SIGTERM or SIGINT, and drains: 0. 1: the zygote ended, without which no device can be worked on. Doesn't return when the
  /// drain's deadline passes: the process ends then and there, with the same status.
  int run();

 private:
  struct Parts;
  explicit Agent(std::unique_ptr<Parts> parts);
  void repair_at_intervals(const std::stop_token& stop);

  std::unique_ptr<Parts> parts_;
};

}  // namespace ordinald::agent
