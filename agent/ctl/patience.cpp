#include "agent/ctl/patience.hpp"

#include <poll.h>

#include <algorithm>
#include <utility>

#include "agent/ctl/signal_watch.hpp"
#include "agent/ctl/text.hpp"

namespace ordinald::ctl {

using std::chrono::milliseconds;

namespace {

constexpr milliseconds first_pause{50};
constexpr milliseconds longest_pause{1000};
constexpr milliseconds shortest_slice{1000};
constexpr milliseconds longest_slice{10000};
constexpr std::chrono::seconds between_lines{15};

}  // namespace

Patience::Patience(Session& session, std::string who, std::chrono::seconds timeout)
    : session_(session), who_(std::move(who)), timeout_(timeout) {}

milliseconds Patience::slice() const {
  const auto left = std::chrono::ceil<milliseconds>(begin_ + timeout_ - Clock::now());
  return std::clamp(left, shortest_slice, longest_slice);
}

bool Patience::passes(const Failure& failure, Waits waits) {
  const std::string& code = failure.code;
  if (failure.status == Exit::unreachable || code == "ABORTED" || code == "UNAVAILABLE" || code == "DEADLINE_EXCEEDED") {
    return true;
  }
  return waits == Waits::for_holders && failure.status == Exit::busy;
}

bool Patience::wait(const std::string& reason) {
  const auto left = std::chrono::ceil<milliseconds>(begin_ + timeout_ - Clock::now());
  if (left <= milliseconds{0} || !SignalWatch::broken_off().empty()) {
    return false;
  }
  say(reason);
  pause_ = std::clamp(pause_ * 2, first_pause, longest_pause);
  ::poll(nullptr, 0, static_cast<int>(std::min(pause_, left).count()));  // which a signal ends
  return SignalWatch::broken_off().empty();
}

void Patience::say(const std::string& reason) {
  const auto now = Clock::now();
  const bool terminal = session_.notes().is_terminal();
  if (!terminal && reason == reason_ && now - said_ < between_lines) {
    return;
  }
  reason_ = reason;
  said_ = now;
  const std::string line = who_ + ": waiting (" + duration_text(std::chrono::floor<std::chrono::seconds>(now - begin_)) + " of " +
                           duration_text(timeout_) + "): " + harmless(reason);
  session_.notes().raw(terminal ? "\r\x1b[K" + fitted(line, session_.notes().width() - 1) : line + "\n");
}

void Patience::ended() {
  if (!reason_.empty() && session_.notes().is_terminal()) {
    session_.notes().raw("\r\x1b[K");
  }
  reason_.clear();
  pause_ = milliseconds{0};
}

Failure Patience::given_up(const Failure& last) {
  if (std::exchange(gave_up_, true)) {
    return last;  // an attempt within this one has said so
  }
  std::string lead = who_ + ": ";
  if (const std::string signal = SignalWatch::broken_off(); !signal.empty()) {
    lead += signal + ": ";
  } else if (timeout_ > std::chrono::seconds{0}) {
    lead += "gave up after " + duration_text(timeout_) + ": ";
  }
  return Failure{last.status == Exit::unreachable ? Exit::unreachable : Exit::busy, last.code, lead + last.message};
}

}  // namespace ordinald::ctl
