#pragma once

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "agent/ctl/service_manager.hpp"

/// A service manager with a clock of its own. A unit does what its plan says the next time that it is started; without one it becomes
/// active after a second. What was asked is in `jobs`, in order.
namespace ordinald::testing {

class FakeManager : public ctl::ServiceManager {
 public:
  enum class Plan { well, fails_to_start, falls_over, never_ready, comes_up_late };
  using Clock = ctl::ServiceManager::Clock;

  std::map<std::string, ctl::UnitState> units;
  std::map<std::string, Plan> plans;
  std::map<std::string, std::string> job_results;  ///< instead of `done`
  std::vector<std::string> jobs;
  Clock time{1'000'000'000};
  int reloads = 0;

  void add(const std::string& unit, bool active = true) {
    ctl::UnitState state;
    state.load = "loaded";
    state.active = active ? "active" : "inactive";
    state.sub = active ? "running" : "dead";
    state.result = "success";
    state.active_since = active ? time - std::chrono::minutes{15} : Clock{0};
    units[unit] = state;
  }

  mount::Result<void> reload() override {
    ++reloads;
    jobs.emplace_back("reload");
    return mount::success();
  }
  mount::Result<ctl::UnitState> state(const std::string& unit) override {
    advance();
    if (const auto found = units.find(unit); found != units.end()) return found->second;
    ctl::UnitState none;
    none.load = "not-found";
    none.active = "inactive";
    none.sub = "dead";
    return none;
  }
  mount::Result<std::string> run(ctl::Job job, const std::string& unit, std::chrono::seconds timeout, const Progress& progress) override {
    const char* word = job == ctl::Job::start ? "start " : job == ctl::Job::stop ? "stop " : "restart ";
    jobs.push_back(word + unit);
    if (progress) progress();
    time += std::chrono::seconds{1};
    if (const auto result = job_results.find(unit); result != job_results.end()) {
      if (result->second == ctl::still_running) time += timeout;
      return result->second;
    }
    if (!units.contains(unit)) add(unit, false);
    ctl::UnitState& state = units[unit];
    if (job == ctl::Job::stop) {
      state.active = "inactive";
      state.sub = "dead";
      return std::string{"done"};
    }
    const Plan plan = plans.contains(unit) ? plans[unit] : Plan::well;
    if (plan == Plan::fails_to_start) {
      state.active = "failed";
      state.sub = "failed";
      state.result = "exit-code";
      state.exit_status = 1;
      return std::string{"failed"};
    }
    state.active = "active";
    state.sub = "running";
    state.active_since = time;
    if (plan == Plan::falls_over) events.emplace_back(time + std::chrono::seconds{2}, unit);
    return std::string{"done"};
  }
  std::vector<std::string> last_lines(const std::string& unit, std::size_t count) override {
    std::vector<std::string> lines{"first of " + unit, "FATAL: no room for " + unit};
    if (lines.size() > count) lines.resize(count);
    return lines;
  }
  [[nodiscard]] Clock now() const override { return time; }
  void pause(std::chrono::milliseconds wait) override { time += wait; }

  /// At that time the unit fails.
  std::vector<std::pair<Clock, std::string>> events;

 private:
  void advance() {
    for (const auto& [when, unit] : events) {
      if (when <= time) {
        units[unit].active = "failed";
        units[unit].sub = "failed";
        units[unit].result = "signal";
        units[unit].exit_status = 11;
      }
    }
    std::erase_if(events, [&](const auto& event) { return event.first <= time; });
  }
};

}  // namespace ordinald::testing
