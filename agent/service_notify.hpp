#pragma once

#include <chrono>
#include <optional>
#include <string_view>

namespace ordinald::agent {

/// What systemd is told of the service (sd_notify(3)); nothing at all where it didn't start us (no NOTIFY_SOCKET).
///
/// Any thread. Best effort: a message that can't be sent is dropped, since nothing that we could do about it would help a volume.
class ServiceNotify {
 public:
  /// STATUS=: one line for `systemctl status`.
  void status(std::string_view text) const;
  /// READY=1: calls are served.
  void ready(std::string_view text) const;
  /// STOPPING=1; asks for `drain` and a little more before systemd kills us, whatever TimeoutStopSec says.
  void stopping(std::string_view text, std::chrono::seconds drain) const;
  /// WATCHDOG=1: still well.
  void alive() const;
  /// How often `alive` is due: half of WatchdogSec. None: no watchdog, or it isn't meant for this process (sd_watchdog_enabled(3)).
  [[nodiscard]] std::optional<std::chrono::microseconds> watchdog_interval() const;
};

}  // namespace ordinald::agent
