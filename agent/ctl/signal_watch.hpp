#pragma once

#include <string>

namespace ordinald::ctl {

/// Keeps SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE and SIGXFSZ from ending the process, and remembers that one came: for what has to be
/// taken back first. Waiting ends then (Patience). One at a time.
class SignalWatch {
 public:
  SignalWatch();
  SignalWatch(const SignalWatch&) = delete;
  SignalWatch& operator=(const SignalWatch&) = delete;
  ~SignalWatch();
  /// `broken off by SIGTERM`; empty: none came.
  static std::string broken_off();
};

}  // namespace ordinald::ctl
