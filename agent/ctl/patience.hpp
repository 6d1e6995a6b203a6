#pragma once

#include <chrono>
#include <string>

#include "agent/ctl/failure.hpp"
#include "agent/ctl/session.hpp"

/// Waiting for what is busy, up to a deadline, and saying meanwhile for what.
///
/// A signal that is watched for (SignalWatch) ends the waiting as its deadline does.
///
/// Progress goes to stderr: on a terminal one line that is written over, elsewhere a line where the reason changes and every 15 s.
/// Single-threaded.
namespace ordinald::ctl {

/// What is waited for. Besides that: no agent there for the moment, and another call at work (ABORTED, UNAVAILABLE, DEADLINE_EXCEEDED),
/// which always pass.
enum class Waits : std::uint8_t {
  for_calls,    ///< any other refusal stands
  for_holders,  ///< those of status busy too: somebody has the volume, and may let go
};

class Patience {
 public:
  /// `who` begins each line: `db-0`.
  Patience(Session& session, std::string who, std::chrono::seconds timeout);

  /// Makes the attempt until it succeeds, is refused for good, or time is up: then the last refusal, with status unreachable or busy. The
  /// attempt gets the time that its call may take: a call that takes longer is repeated, which joins it. An attempt may wait itself, with
  /// the same patience.
  template <class Attempt>
  auto until_done(Waits waits, Attempt attempt) -> decltype(attempt(std::chrono::milliseconds{})) {
    ++depth_;
    auto result = attempt(slice());
    while (!result && passes(result.error(), waits) && wait(result.error().message)) {
      result = attempt(slice());
    }
    if (--depth_ == 0) {
      ended();
    }
    if (!result && passes(result.error(), waits)) {
      return given_up(result.error());
    }
    return result;
  }

 private:
  /// Says why, and waits a little; false: time is up.
  bool wait(const std::string& reason);
  Failure given_up(const Failure& last);
  /// What was waited for is over: takes the line away.
  void ended();
  [[nodiscard]] std::chrono::milliseconds slice() const;
  static bool passes(const Failure& failure, Waits waits);
  void say(const std::string& reason);

  using Clock = std::chrono::steady_clock;
  Session& session_;
  std::string who_;
  std::chrono::seconds timeout_;
  Clock::time_point begin_ = Clock::now();
  Clock::time_point said_{};
  std::string reason_;
  std::chrono::milliseconds pause_{0};
  int depth_ = 0;
  bool gave_up_ = false;
};

}  // namespace ordinald::ctl
