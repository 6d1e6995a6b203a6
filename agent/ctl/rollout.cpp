#include "agent/ctl/rollout.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <filesystem>
#include <map>
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

/// When a rollout began, with which files, and how far down it was asked to go and has been.
struct Beginning {
  std::chrono::microseconds at{0};
  std::string files{};
  std::optional<std::int64_t> done_down_to{};
};

std::optional<Beginning> load(const std::string& memory) {
  const auto text = agent::read_file(memory);
  const auto document = text ? nlohmann::json::parse(text.value(), nullptr, false) : nlohmann::json{};
  if (!document.is_object() || !document.contains("beganMonotonicMicroseconds") || !document.contains("files") ||
      !document["beganMonotonicMicroseconds"].is_number_integer() || !document["files"].is_string()) {
    return std::nullopt;
  }
  Beginning beginning{.at = std::chrono::microseconds{document["beganMonotonicMicroseconds"].get<std::int64_t>()},
                      .files = document["files"].get<std::string>()};
  if (const auto down_to = document.find("doneDownTo"); down_to != document.end() && down_to->is_number_integer()) {
    beginning.done_down_to = down_to->get<std::int64_t>();
  }
  return beginning;
}

Result<void> save(const std::string& memory, const Beginning& beginning) {
  const std::filesystem::path path{memory};
  nlohmann::json document{{"beganMonotonicMicroseconds", beginning.at.count()}, {"files", beginning.files}};
  if (beginning.done_down_to) {
    document["doneDownTo"] = *beginning.done_down_to;
  }
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

/// What is to be stopped of an ordinal.
struct Leaver {
  std::int64_t ordinal = 0;
  std::string unit{};
};

/// Of the ordinals of `before`, and of those that are claimed, each unit that `after` has not; highest first.
Result<std::vector<Leaver>> leaving(ServiceManager& manager, const ClaimSet& before, const ClaimSet& after, const ClaimedUnits& claimed) {
  std::map<std::int64_t, std::string, std::greater<>> all{claimed.begin(), claimed.end()};
  for (const std::int64_t ordinal : ordinals(before)) {
    all.try_emplace(ordinal);
  }
  std::vector<Leaver> gone;
  for (const auto& [ordinal, held] : all) {
    const std::string was = unit_of(before, ordinal);
    const std::string is = has_ordinal(after, ordinal) ? unit_of(after, ordinal) : std::string{};
    if (!held.empty() && held != was && held != is) {
      TRY(const UnitState state, manager.state(held));
      if (!is_over(state)) {  // else the claim may be its successor's by now
        gone.push_back({ordinal, held});
      }
    }
    if (!was.empty() && was != is) {
      gone.push_back({ordinal, was});
    }
  }
  return gone;
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
    const std::string now = active ? fmt::format("active, waiting {} s for it to stay so", min_ready.count()) : condition(state);
    if (now != said) {
      say(fmt::format("{}: {}", unit, now));
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
  TRY(const UnitChanges late, unit_changes(manager, set, set, order.claimed));
  if (!late.stop.empty()) {  // restarted beside it, another would have the same volume
    return failure(Exit::failed, late.stop.front() + " runs, which the claim file of " + set.name +
                                     " names no more: `ordinalctl apply` of that file stops it and starts what is named by now");
  }
  TRYV(manager.reload());
  TRY(const std::string files, files_of(manager, set, order.claim_text));
  const std::int64_t lowest = std::max(set.start_ordinal, order.partition);
  auto beginning = order.anew ? std::nullopt : load(order.memory);
  if (beginning && beginning->done_down_to && lowest >= *beginning->done_down_to) {
    beginning.reset();  // it was done: this is another one
  }
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
      const std::string partition = lowest > set.start_ordinal ? " --partition " + std::to_string(lowest) : "";
      why.message = ordinal_name(set, ordinal) + ": " + why.message + "\nMend it, then run `ordinalctl rollout " + set.name + partition +
                    "` again: it goes on from here" + (ordinal > lowest ? "; not restarted yet: " + names(set, ordinal - 1, lowest) : "");
      return why;
    }
  }
  if (lowest == set.start_ordinal) {
    const std::filesystem::path path{order.memory};
    TRYV(agent::remove_file(path.parent_path(), path.filename(), agent::Durability::until_reboot));
  } else {
    beginning->done_down_to = lowest;
    TRYV(save(order.memory, *beginning));
  }
  return done;
}

Result<UnitChanges> unit_changes(ServiceManager& manager, const ClaimSet& before, const ClaimSet& after, const ClaimedUnits& claimed) {
  UnitChanges changes;
  TRY(const auto gone, leaving(manager, before, after, claimed));
  for (const auto& [ordinal, unit] : gone) {
    TRY(const UnitState state, manager.state(unit));
    if (!is_over(state)) {
      changes.stop.push_back(unit);
    }
  }
  if (!after.unit.empty()) {
    for (const std::int64_t ordinal : ordinals(after)) {
      TRY(const UnitState state, manager.state(unit_of(after, ordinal)));
      if (state.active != "active") {
        changes.start.push_back(unit_of(after, ordinal));
      }
    }
  }
  return changes;
}

Result<void> follow(ServiceManager& manager, const ClaimSet& before, const ClaimSet& after, const ClaimedUnits& claimed,
                    std::chrono::seconds timeout, const Say& say) {
  // Before systemd hears of the new file: until then a unit is bound to its claim.
  TRY(const auto gone, leaving(manager, before, after, claimed));
  for (const auto& [ordinal, unit] : gone) {
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
    TRY(const UnitState target, manager.state(target_of(after)));  // of a deletion that goes on, systemd may have none any more
    return is_over(target) ? mount::success() : run_job(manager, Job::stop, target_of(after), timeout, say);
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
