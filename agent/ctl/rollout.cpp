#include "agent/ctl/rollout.hpp"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "agent/checksum.hpp"
#include "agent/ctl/unit_files.hpp"
#include "agent/durable_file.hpp"

namespace ordinald::ctl {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t shown_lines = 10;

std::string condition(const UnitState& state) {
  std::string text = state.active + " (" + state.sub + ")";
  if (!state.result.empty() && state.result != "success") {
    text += ", its last run ended with " + state.result;
    if (state.result == "exit-code" || state.result == "signal") {
      text += " " + std::to_string(state.exit_status);
    }
  }
  return text;
}

/// Why, and what it printed last.
Failure fault(ServiceManager& manager, const std::string& unit, const std::string& why) {
  std::string text = unit + ": " + why;
  const auto lines = manager.last_lines(unit, shown_lines);
  text += lines.empty() ? "; its journal is empty" : ". Its last lines:";
  for (const std::string& line : lines) {
    text += "\n    " + line;
  }
  return failure(Exit::failed, text);
}

bool is_over(const UnitState& state) { return state.active == "failed" || state.active == "inactive"; }

/// When a rollout began, and with which files.
struct Beginning {
  std::chrono::microseconds at{0};
  std::string files{};
};

std::optional<Beginning> load(const std::string& memory) {
  const auto text = agent::read_file(memory);
  const auto document = text ? nlohmann::json::parse(text.value(), nullptr, false) : nlohmann::json{};
  if (!document.is_object() || !document.contains("beganMonotonicMicroseconds") || !document.contains("files") ||
      !document["beganMonotonicMicroseconds"].is_number_integer() || !document["files"].is_string()) {
    return std::nullopt;
  }
  return Beginning{.at = std::chrono::microseconds{document["beganMonotonicMicroseconds"].get<std::int64_t>()},
                   .files = document["files"].get<std::string>()};
}

Result<void> save(const std::string& memory, const Beginning& beginning) {
  const std::filesystem::path path{memory};
  const nlohmann::json document{{"beganMonotonicMicroseconds", beginning.at.count()}, {"files", beginning.files}};
  TRYV(agent::write_file(path.parent_path(), path.filename(), document.dump() + "\n", agent::Durability::until_reboot));
  return mount::success();
}

/// Of all that a restart brings into force, as far as it is in files that we know. The generator's own drop-ins follow from the claim
/// file, and change with replicas, which restart nobody.
Result<std::string> files_of(ServiceManager& manager, const ClaimSet& set, const std::string& claim_text) {
  std::set<std::string> paths;
  for (const std::int64_t ordinal : ordinals(set)) {
    TRY(const UnitState state, manager.state(unit_of(set, ordinal)));
    paths.insert(state.fragment);
    paths.insert(state.drop_ins.begin(), state.drop_ins.end());
  }
  TRY(std::string text, with_replicas(claim_text, 1));
  for (const std::string& path : paths) {
    if (path.starts_with("/run/systemd/generator")) {
      continue;
    }
    const auto file = agent::read_file(path);
    text += "\n" + path + "\n" + (file ? file.value() : std::string{});
  }
  return agent::crc32_hex(text);
}

Result<void> run_job(ServiceManager& manager, Job job, const std::string& unit, std::chrono::seconds timeout, const Say& say) {
  auto said = manager.now();
  TRY(const std::string result, manager.run(job, unit, timeout, [&] {
    if (manager.now() - said < 15s) {
      return;
    }
    said = manager.now();
    const auto state = manager.state(unit);
    say(unit + ": " + (state ? condition(state.value()) : state.error().message));
  }));
  if (result == still_running) {
    return failure(Exit::busy, unit + ": not done after " + std::to_string(timeout.count()) +
                                   " s; systemd goes on with it (systemctl status " + unit + ", systemctl list-jobs)");
  }
  if (result == "done" || result == "skipped") {
    return mount::success();
  }
  TRY(const UnitState state, manager.state(unit));
  const std::string why = result == "dependency" ? "what it requires did not start: systemctl list-dependencies " + unit : condition(state);
  return fault(manager, unit, (job == Job::stop ? "it did not stop: " : "it did not start: ") + why);
}

std::string names(const ClaimSet& set, std::int64_t from, std::int64_t down_to) {
  std::string text;
  for (std::int64_t ordinal = from; ordinal >= down_to; --ordinal) {
    text += (text.empty() ? "" : ", ") + ordinal_name(set, ordinal);
  }
  return text;
}

}  // namespace

Result<void> await_ready(ServiceManager& manager, const std::string& unit, std::chrono::seconds min_ready, std::chrono::seconds timeout,
                         Patient patient, const Say& say) {
  const auto deadline = manager.now() + timeout;
  std::optional<std::chrono::microseconds> since;
  std::string said;
  while (true) {
    TRY(const UnitState state, manager.state(unit));
    const bool active = state.active == "active";
    if (active && manager.now() - state.active_since >= min_ready) {
      return mount::success();
    }
    if (patient == Patient::no) {
      if (is_over(state)) {
        return fault(manager, unit, condition(state));
      }
      if (since && (!active || state.active_since != *since)) {
        return fault(manager, unit, "it did not stay up for " + std::to_string(min_ready.count()) + " s: " + condition(state));
      }
    }
    if (active) {
      since = state.active_since;
    }
    const std::string now = active ? "active, waiting " + std::to_string(min_ready.count()) + " s for it to stay so" : condition(state);
    if (now != said) {
      say(unit + ": " + now);
      said = now;
    }
    if (manager.now() >= deadline) {
      return failure(Exit::busy, unit + ": not ready after " + std::to_string(timeout.count()) + " s: " + condition(state));
    }
    const auto left = active ? min_ready - (manager.now() - state.active_since) : std::chrono::microseconds{500ms};
    manager.pause(std::clamp(std::chrono::duration_cast<std::chrono::milliseconds>(left), 10ms, 500ms));
  }
}

Result<RolledOut> roll_out(ServiceManager& manager, const ClaimSet& set, const RolloutOrder& order, const Say& say) {
  TRYV(manager.reload());
  TRY(const std::string files, files_of(manager, set, order.claim_text));
  auto beginning = order.anew ? std::nullopt : load(order.memory);
  if (beginning && beginning->files != files) {
    say(set.name + ": its files were changed since the rollout began, which begins anew");
    beginning.reset();
  }
  if (!beginning || beginning->at > manager.now()) {
    beginning = Beginning{.at = manager.now(), .files = files};
    TRYV(save(order.memory, *beginning));
  }
  RolledOut done;
  const std::int64_t highest = set.start_ordinal + set.replicas - 1;
  const std::int64_t lowest = std::max(set.start_ordinal, order.partition);
  for (std::int64_t ordinal = highest; ordinal >= lowest; --ordinal) {
    const std::string unit = unit_of(set, ordinal);
    const auto step = [&]() -> Result<void> {
      TRY(const UnitState state, manager.state(unit));
      if (state.load != "loaded") {
        return failure(Exit::usage, unit + ": systemd says " + state.load + "; the set's unit is " + set.unit);
      }
      if (state.active == "active" && state.active_since >= beginning->at) {
        say(ordinal_name(set, ordinal) + ": " + unit + " was restarted already");
        done.were_done.push_back(ordinal);
      } else {
        say(ordinal_name(set, ordinal) + ": restarting " + unit);
        TRYV(run_job(manager, Job::restart, unit, order.timeout, say));
        done.restarted.push_back(ordinal);
      }
      return await_ready(manager, unit, set.min_ready, order.timeout, Patient::no, say);
    }();
    if (!step) {
      Failure why = step.error();
      why.message = ordinal_name(set, ordinal) + ": " + why.message + "\nMend it, then run `ordinalctl rollout " + set.name +
                    "` again: it goes on from here" + (ordinal > lowest ? "; not restarted yet: " + names(set, ordinal - 1, lowest) : "");
      return why;
    }
  }
  if (lowest == set.start_ordinal) {
    const std::filesystem::path path{order.memory};
    TRYV(agent::remove_file(path.parent_path(), path.filename(), agent::Durability::until_reboot));
  }
  return done;
}

Result<void> follow(ServiceManager& manager, const ClaimSet& before, const ClaimSet& after, const std::vector<std::int64_t>& claimed,
                    std::chrono::seconds timeout, const Say& say) {
  // What goes, before systemd hears of the new file: until then its unit is bound to its claim.
  std::set<std::int64_t, std::greater<>> gone{claimed.begin(), claimed.end()};
  for (const std::int64_t ordinal : ordinals(before)) {
    gone.insert(ordinal);
  }
  for (const std::int64_t ordinal : gone) {
    const std::string unit = unit_of(before, ordinal);
    if (unit.empty() || (has_ordinal(after, ordinal) && unit == unit_of(after, ordinal))) {
      continue;
    }
    TRY(const UnitState state, manager.state(unit));
    if (!is_over(state)) {
      say(ordinal_name(before, ordinal) + ": stopping " + unit);
      TRYV(run_job(manager, Job::stop, unit, timeout, say));
    }
    TRYV(run_job(manager, Job::stop, claim_unit(before, ordinal), timeout, say));
  }
  TRYV(manager.reload());
  if (after.unit.empty()) {
    return mount::success();
  }
  if (after.replicas == 0) {
    return run_job(manager, Job::stop, target_of(after), timeout, say);
  }
  for (const std::int64_t ordinal : ordinals(after)) {
    const std::string unit = unit_of(after, ordinal);
    TRY(const UnitState state, manager.state(unit));
    if (state.active != "active") {
      say(ordinal_name(after, ordinal) + ": starting " + unit);
      TRYV(run_job(manager, Job::start, unit, timeout, say));
    }
  }
  return run_job(manager, Job::start, target_of(after), timeout, say);
}

}  // namespace ordinald::ctl
