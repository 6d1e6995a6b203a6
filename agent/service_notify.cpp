#include "agent/service_notify.hpp"

#include <systemd/sd-daemon.h>

#include <cstdint>
#include <string>

namespace ordinald::agent {
namespace {

void send(const std::string& message) { static_cast<void>(::sd_notify(0, message.c_str())); }

/// A status ends where its line does.
std::string status_line(std::string_view text) { return "STATUS=" + std::string{text.substr(0, text.find('\n'))}; }

}  // namespace

void ServiceNotify::status(std::string_view text) const { send(status_line(text)); }

void ServiceNotify::ready(std::string_view text) const { send("READY=1\n" + status_line(text)); }

void ServiceNotify::stopping(std::string_view text, std::chrono::seconds drain) const {
  const auto extend = std::chrono::microseconds{drain + std::chrono::seconds{5}};
  send("STOPPING=1\nEXTEND_TIMEOUT_USEC=" + std::to_string(extend.count()) + "\n" + status_line(text));
}

void ServiceNotify::alive() const { send("WATCHDOG=1"); }

std::optional<std::chrono::microseconds> ServiceNotify::watchdog_interval() const {
  std::uint64_t period = 0;
  if (::sd_watchdog_enabled(0, &period) <= 0 || period < 2) {
    return std::nullopt;
  }
  return std::chrono::microseconds{period / 2};
}

}  // namespace ordinald::agent
