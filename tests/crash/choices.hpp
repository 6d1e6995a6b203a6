#pragma once

#include <cstddef>
#include <optional>
#include <vector>

namespace ordinald::testing {

/// What nobody can know beforehand (which un-fsynced act a power loss undoes), tried in every combination: a run asks `choose` at each
/// fork, and is repeated until `next` has no further way.
///
///   Choices choices;
///   do { run(choices); } while (choices.next());
///
/// Threading: one thread.
class Choices {
 public:
  Choices() = default;
  /// All forks, if there are any, go the way of a single one of `one`: to the first or to the last. `one` must outlive it.
  static Choices alike(Choices& one) {
    Choices choices;
    choices.one_ = &one;
    return choices;
  }

  /// A number below `count`; 0 the first time.
  std::size_t choose(std::size_t count) {
    if (one_ != nullptr) {
      if (!last_) {
        last_ = one_->yes();
      }
      return *last_ ? count - 1 : 0;
    }
    if (at_ == taken_.size()) {
      taken_.push_back({.chosen = 0, .count = count});
    }
    return taken_[at_++].chosen;
  }
  bool yes() { return choose(2) == 1; }

  /// To the next combination, from its beginning; false when all were tried.
  bool next() {
    at_ = 0;
    while (!taken_.empty()) {
      if (++taken_.back().chosen < taken_.back().count) {
        return true;
      }
      taken_.pop_back();
    }
    return false;
  }

 private:
  struct Fork {
    std::size_t chosen = 0;
    std::size_t count = 0;
  };
  Choices* one_ = nullptr;
  std::optional<bool> last_;
  std::vector<Fork> taken_;
  std::size_t at_ = 0;
};

}  // namespace ordinald::testing
