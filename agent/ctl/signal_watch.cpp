#include "agent/ctl/signal_watch.hpp"

#include <array>
#include <csignal>
#include <cstring>

namespace ordinald::ctl {
namespace {

volatile std::sig_atomic_t signal_that_came = 0;
void remember_signal(int signal) { signal_that_came = signal; }

constexpr std::array watched{SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE, SIGXFSZ};
std::array<struct sigaction, watched.size()> actions_before{};

}  // namespace

SignalWatch::SignalWatch() {
  signal_that_came = 0;
  struct sigaction action{};
  action.sa_handler = remember_signal;
  for (std::size_t i = 0; i < watched.size(); ++i) {
    ::sigaction(watched[i], &action, &actions_before[i]);
    if (actions_before[i].sa_handler == SIG_IGN) {
      ::sigaction(watched[i], &actions_before[i], nullptr);  // nohup(1)
    }
  }
}

SignalWatch::~SignalWatch() {
  for (std::size_t i = 0; i < watched.size(); ++i) {
    ::sigaction(watched[i], &actions_before[i], nullptr);
  }
}

std::string SignalWatch::broken_off() {
  const int signal = signal_that_came;
  return signal == 0 ? std::string{} : std::string{"broken off by SIG"} + ::sigabbrev_np(signal);
}

}  // namespace ordinald::ctl
