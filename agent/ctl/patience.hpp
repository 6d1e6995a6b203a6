#pragma once

#include <chrono>
#include <string>

#include "agent/ctl/failure.hpp"
#include "agent/ctl/session.hpp"

/// Waiting for what is busy, up to a deadline, and saying meanwhile for what.
///
/// Progress goes to stderr: on a terminal one line that is written over, elsewhere a line where the reason changes and every 15 s.
/// Single-threaded.
namespace ordinald::ctl {

/// What a refusal means to who waits, besides what always passes: no agent there for the moment, another call at work (ABORTED,
/// UNAVAILABLE, DEADLINE_EXCEEDED).
enum class Waits : std::uint8_t {
  for_calls,    ///< any other refusal stands
  for_holders,  ///< FAILED_PRECONDITION and ALREADY_EXISTS too: somebody has the volume, and may let go
};

class Patience {
 public:
  /// `who` begins each line: `db-0`.
  Patience(Session& session, std::string who, std::chrono::seconds timeout);

  /// Makes the attempt until it succeeds, is refused for good, or time is up: then the last refusal, with status unreachable or busy. The
  /// attempt gets the time that its call may take: a call that takes longer is repeated, which joins it.
  template <class Attempt>
  auto until_done(Waits waits, Attempt attempt) -> decltype(attempt(std::chrono::milliseconds{})) {
    while (true) {
      auto result = attempt(slice());
      if (result) {
        ended();
        return result;
      }
      if (!passes(result.error(), waits)) {
        ended();
        return result;
      }
      if (!wait(result.error().message)) {
        return given_up(result.error());
      }
    }
  }

  /// Says why, and waits a little; false: time is up.
  bool wait(const std::string& reason);
  Failure given_up(const Failure& last);
  /// What was waited for is over.
  void ended();

 private:
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
};

}  // namespace ordinald::ctl
