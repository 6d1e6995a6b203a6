#pragma once

#include <cstddef>
#include <deque>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/model/model.hpp"
#include "tests/model/world.hpp"

namespace ordinald::testing {

/// Plays steps in a world, and holds every answer and the node itself against the model. Threading: one thread.
class Runner {
 public:
  Runner(World& world, int volumes, std::int64_t pool_size);

  /// Empty, or what is wrong.
  std::string play(const Step& step);

  [[nodiscard]] int volumes() const { return static_cast<int>(states_.size()); }
  /// One of the states that the volume may be in.
  [[nodiscard]] const Volume& volume(int number) const { return states_.at(static_cast<std::size_t>(number)).front(); }
  [[nodiscard]] const std::map<std::string, Obstacle>& obstacles() const { return obstacles_; }
  [[nodiscard]] std::size_t calls() const { return calls_; }
  /// The last steps with what was answered, the oldest first.
  [[nodiscard]] const std::deque<std::string>& journal() const { return journal_; }

 private:
  using States = std::vector<Volume>;
  using Told = std::pair<Call, Answer>;

  Taken taken(const std::string& path, const Call& call, const std::vector<Call>& calls) const;
  void prepare(Call& call, const std::vector<Call>& calls) const;
  std::string play_calls(const Step& step);
  /// The states of a volume that some order of these calls explains.
  std::string digest(int volume, const std::vector<Told>& told);
  void explore(const Volume& from, const std::vector<Told>& told, unsigned done, States& found) const;
  std::string check_list(const Answer& answer);
  std::string come_back(const Step& step, bool reboot);
  std::string write(const Step& step);
  std::string check(const std::set<int>& touched);
  std::string check_data(const Volume& volume);
  void note(std::string text);
  /// The volumes as the node and the agent's files have them, for a person who has only this text.
  std::string both_sides(const std::set<int>& volumes);
  template <class Change>
  void change(int volume, Change change);

  World& world_;
  Environment environment_;
  std::vector<States> states_;
  std::map<std::string, Obstacle> obstacles_;
  std::set<std::string> litter_;
  std::set<std::string> orphans_;  ///< nodes of devices that went away, bound where only a lost ledger knew of it
  std::deque<std::string> journal_;
  std::size_t steps_ = 0;
  int failed_ = -1;  ///< the volume that something is wrong with, where it is one
  std::size_t calls_ = 0;
  std::size_t checks_ = 0;
};

}  // namespace ordinald::testing
