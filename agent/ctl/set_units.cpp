#include "agent/ctl/set_units.hpp"

#include <systemd/sd-daemon.h>
#include <CLI/App.hpp>
#include <CLI/Validators.hpp>
#include <algorithm>
#include <memory>

#include "agent/ctl/claim_place.hpp"
#include "agent/ctl/commands.hpp"
#include "agent/ctl/rollout.hpp"
#include "agent/ctl/service_manager.hpp"
#include "agent/durable_file.hpp"
#include "mount/files.hpp"

/// `ordinalctl rollout SET` and `ready ORDINAL`: a set as systemd runs it.
namespace ordinald::ctl {
namespace {

/// As long as a database may take to stop, or to copy its primary.
constexpr std::chrono::seconds follow_timeout{1800};

struct RolloutOptions {
  std::string set;
  std::int64_t partition = 0;
  std::int64_t timeout = 600;
  bool anew = false;
};

ClaimedUnits claimed_units(const std::string& set) {
  ClaimedUnits claimed;
  for (const std::int64_t ordinal : claimed_ordinals(set)) {
    claimed[ordinal] = load_claimed(set + "-" + std::to_string(ordinal)).value_or(Claimed{}).unit;
  }
  return claimed;
}

bool concerns_systemd(const ClaimSet& before, const ClaimSet& after, const ClaimedUnits& claimed) {
  const auto has_unit = [](const auto& each) { return !each.second.empty(); };
  return (!before.unit.empty() || !after.unit.empty() || std::ranges::any_of(claimed, has_unit)) && has_systemd();
}

Say say_to(Session& session) {
  return [&session](const std::string& text) { session.notes().line(text); };
}

Result<Exit> rollout(Session& session, const RolloutOptions& options) {
  const auto known = find_claim_set(session.claims_dir(), options.set);
  if (!known) {
    return failure(Exit::usage, known.error().message);
  }
  const ClaimSet& set = known.value();
  const std::string file = session.claims_dir() + "/" + set.name + ".json";
  if (set.unit.empty()) {
    return failure(Exit::usage, file + " names no unit: there is nothing that systemd runs");
  }
  TRYV(refuse_shared_claims(session.claims_dir(), set));  // another's services are not ours to restart
  RolledOut done;
  if (set.update == Update::on_delete) {
    session.notes().line(set.name + ": updateStrategy is OnDelete, so nothing is restarted; by hand: systemctl restart " +
                         unit_of(set, set.start_ordinal));
  } else {
    Patience waits{session, set.name, std::chrono::seconds{60}};
    TRY(const PlaceLock lock, PlaceLock::take("rollout." + set.name, waits));
    TRY(const std::string text, agent::read_file(file));
    TRY(const auto manager, connect_service_manager());
    const RolloutOrder order{.partition = options.partition,
                             .timeout = std::chrono::seconds{options.timeout},
                             .anew = options.anew,
                             .claim_text = text,
                             .memory = claims_run_dir() + "/" + set.name + ".rollout",
                             .claimed = claimed_units(set.name)};
    TRY(done, roll_out(*manager, set, order, say_to(session)));
    session.notes().line({Words{set.name + ": done", Tone::good}});
  }
  if (session.json()) {
    session.print_json({{"set", set.name}, {"restarted", done.restarted}, {"restartedBefore", done.were_done}});
  }
  return Exit::done;
}

struct ReadyOptions {
  std::string ordinal;
  std::int64_t timeout = 0;
};

/// The gate ordinald-ready@ is this; `systemctl status` shows what it waits for.
Result<Exit> ready(Session& session, const ReadyOptions& options) {
  TRY(const Member member, split_ordinal_name(options.ordinal));
  const auto known = find_claim_set(session.claims_dir(), member.set);
  if (!known) {
    return failure(Exit::usage, known.error().message);
  }
  const ClaimSet& set = known.value();
  if (set.unit.empty()) {
    return failure(Exit::usage, session.claims_dir() + "/" + set.name + ".json names no unit: there is nothing that systemd runs");
  }
  TRY(const auto manager, connect_service_manager());
  const auto timeout = options.timeout == 0 ? std::chrono::seconds{std::chrono::years{10}} : std::chrono::seconds{options.timeout};
  TRYV(await_ready(*manager, unit_of(set, member.ordinal), set.min_ready, timeout, Patient::yes, [&session](const std::string& text) {
    session.notes().line(text);
    static_cast<void>(::sd_notify(0, ("STATUS=" + text).c_str()));
  }));
  if (session.json()) {
    session.print_json({{"ordinal", options.ordinal}, {"ready", true}});
  }
  return Exit::done;
}

}  // namespace

Result<UnitChanges> units_to_follow(const ClaimSet& before, const ClaimSet& after) {
  const ClaimedUnits claimed = claimed_units(after.name);
  if (!concerns_systemd(before, after, claimed)) {
    return UnitChanges{};
  }
  TRY(const auto manager, connect_service_manager());
  return unit_changes(*manager, before, after, claimed);
}

Result<void> follow_set(Session& session, const ClaimSet& before, const ClaimSet& after) {
  const ClaimedUnits claimed = claimed_units(after.name);
  if (!concerns_systemd(before, after, claimed)) {
    return mount::success();
  }
  TRY(const auto manager, connect_service_manager());
  return follow(*manager, before, after, claimed, follow_timeout, say_to(session));
}

Result<void> reload_for(const ClaimSet& set) {
  if (!concerns_systemd(set, set, {})) {
    return mount::success();
  }
  TRY(const auto manager, connect_service_manager());
  TRYV(manager->reload());
  return mount::success();
}

void add_rollout(CLI::App& app, Session& session) {
  const auto options = std::make_shared<RolloutOptions>();
  CLI::App* command = app.add_subcommand("rollout", "Restart a set's units, the highest ordinal first, each when the one before is ready");
  command->add_option("set", options->set, "The set, such as db")->type_name("SET")->required();
  command->add_option("--partition", options->partition, "The lowest ordinal that is restarted")
      ->type_name("N")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--timeout", options->timeout, "For how long to wait for each ordinal")
      ->type_name("SECONDS")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{86400}))
      ->capture_default_str();
  command->add_flag("--anew", options->anew, "Also those that a rollout that stopped has restarted already");
  session.run_with(*command, [&session, options] { return rollout(session, *options); });
}

void add_ready(CLI::App& app, Session& session) {
  const auto options = std::make_shared<ReadyOptions>();
  CLI::App* command = app.add_subcommand("ready", "Wait until an ordinal's unit has been active for the set's minReadySeconds");
  command->add_option("ordinal", options->ordinal, "The ordinal, such as db-0")->type_name("ORDINAL")->required();
  command->add_option("--timeout", options->timeout, "For how long to wait; 0: as long as it takes")
      ->type_name("SECONDS")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{86400}))
      ->capture_default_str();
  session.run_with(*command, [&session, options] { return ready(session, *options); });
}

}  // namespace ordinald::ctl
