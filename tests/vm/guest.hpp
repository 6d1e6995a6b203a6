#pragma once

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>

/// A running guest from the host's side: questions to its hand (hand.cpp), and the end of its power.
///
/// Threading: ask may be called by any number of threads; run by one, which reads the answers and cuts. Errors: std::runtime_error.
namespace ordinald::testing {

/// The power failed before the answer came: what was asked may have been done, in part or wholly, or not at all.
struct PowerLost {};

struct Answer {
  std::string status;  ///< OK, or what else the verb answers
  std::string text;
  bool ok() const { return status == "OK" || status == "0"; }
};

/// When the power fails: once so many calls were answered, then, if it is named, once such an operation has begun, and so much later.
struct CutPlan {
  std::uint64_t answers = 0;
  std::string operation;
  std::chrono::milliseconds later{0};
};

class Guest {
 public:
  /// `directory` holds hand.in, hand.out and pid, as lib's `boot` made them.
  explicit Guest(const std::filesystem::path& directory);
  Guest(const Guest&) = delete;
  Guest& operator=(const Guest&) = delete;
  ~Guest();

  /// Throws PowerLost.
  Answer ask(const std::string& verb, const std::string& rest);
  Answer shell(const std::string& command) { return ask("sh", command); }

  /// An operation begins now: a CutPlan may wait for it.
  void begins(const std::string& operation);
  /// Counts the answers to the plan from now on.
  void plan(const CutPlan& plan);
  /// Reads answers until `done()` (asked after each answer and each wake) or the power was lost; true in the second case.
  bool run(const std::function<bool()>& done, std::chrono::seconds deadline);
  /// Lets `run` ask again whether it is done.
  void wake();
  std::uint64_t answered() const { return answered_; }

 private:
  using Clock = std::chrono::steady_clock;
  /// False at the end.
  bool read_some();
  void cut();

  int to_ = -1;
  int from_ = -1;
  int wake_ = -1;
  pid_t pid_ = -1;
  std::string unread_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::uint64_t, Answer> answers_;
  std::uint64_t next_tag_ = 1;
  bool lost_ = false;
  std::atomic<std::uint64_t> answered_ = 0;

  bool planned_ = false;
  CutPlan plan_;
  std::uint64_t plan_from_ = 0;
  std::optional<Clock::time_point> cut_at_;
};

}  // namespace ordinald::testing
