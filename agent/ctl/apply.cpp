#include <unistd.h>

#include <CLI/App.hpp>
#include <CLI/Validators.hpp>
#include <algorithm>
#include <filesystem>
#include <functional>
#include <iostream>
#include <memory>
#include <string>

#include "agent/ctl/claim_file.hpp"
#include "agent/ctl/claim_place.hpp"
#include "agent/ctl/claims.hpp"
#include "agent/ctl/commands.hpp"
#include "agent/ctl/hosts.hpp"
#include "agent/ctl/set_change.hpp"
#include "agent/ctl/set_units.hpp"
#include "agent/ctl/text_file.hpp"
#include "agent/durable_file.hpp"
#include "mount/files.hpp"

/// `ordinalctl apply FILE`, `scale SET N` and `delete SET`: a set as a whole. Each shows what it would do, first, and can be repeated
/// from wherever it stopped: the claim file is changed before the volumes. That of a set that is deleted has another name before the first
/// of them goes, by which neither a claim nor systemd's generator finds it, and is removed after the last.
namespace ordinald::ctl {
namespace {

struct SetOptions {
  std::string what;  ///< a file or a set
  std::int64_t replicas = 0;
  bool yes = false;
  std::int64_t timeout = 60;
};

/// Whether to go on: --yes, or a person at a terminal says so.
bool confirmed(Session& session, bool yes) {
  if (yes || session.json() || ::isatty(STDIN_FILENO) == 0 || !session.notes().is_terminal()) {
    return yes;
  }
  session.notes().raw("Do this? [y/N] ");
  std::string answer;
  std::getline(std::cin, answer);
  return answer == "y" || answer == "Y" || answer == "yes";
}

class Worker {
 public:
  Worker(Session& session, std::int64_t timeout) : session_(session), timeout_(timeout), claims_(session) {}

  /// Waiting begins anew for each thing that is waited for.
  Patience patience(const std::string& who) { return Patience{session_, who, std::chrono::seconds{timeout_}}; }

  Result<std::map<std::string, KnownVolume>> volumes(const ClaimSet& set) {
    Patience waits = patience(set.name);
    return claims_.volumes(waits);
  }

  Result<void> make(const ClaimSet& set, const Step& step) {
    const std::string ordinal = ordinal_name(set, step.ordinal);
    Patience waits = patience(ordinal);
    TRY(const PlaceLock lock, PlaceLock::take(ordinal, waits));
    const auto of = std::ranges::find(set.templates, step.of, &ClaimTemplate::name);
    if (step.act == Act::create) {
      TRY(const auto known, claims_.volumes(waits));  // a claim may have been faster
      if (!known.contains(step.claim)) {
        TRYV(claims_.create(*of, step.claim, waits));
      }
      return mount::success();
    }
    std::string target;
    for (const ClaimedVolume& volume : load_claimed(ordinal).value_or(Claimed{}).volumes) {
      target = volume.id == step.volume.id ? volume.target : target;
    }
    return claims_.grow(*of, step.volume, target, waits);
  }

  Result<void> remove(const ClaimSet& set, const Step& step) {
    const std::string ordinal = ordinal_name(set, step.ordinal);
    Patience waits = patience(ordinal);
    TRY(const PlaceLock lock, PlaceLock::take(ordinal, waits));
    TRYV(refuse_claimed(set, step.ordinal));
    TRY(const auto known, claims_.volumes(waits));  // since it was planned a person may have bound it to another claim
    const auto now = known.find(step.claim);
    if (now == known.end() || now->second.id != step.volume.id) {
      return failure(Exit::failed, "the claim host/" + step.claim + " does not have volume " + step.volume.id +
                                       " any more, as it had when this was planned: it is left as it is; look at " +
                                       "`ordinalctl volumes`, and do this again");
    }
    TRYV(refuse_twins(step.claim, now->second));
    return claims_.remove(step.volume, waits);
  }

  Result<void> refuse_claimed(const ClaimSet& set, std::int64_t ordinal) {
    const std::string name = ordinal_name(set, ordinal);
    const auto claimed = load_claimed(name);
    if (!claimed) {
      return mount::success();
    }
    const std::string unit = claimed->unit.empty() ? unit_of(set, ordinal) : claimed->unit;
    return failure(Exit::busy, name + " is claimed: stop what uses it" + (unit.empty() ? "" : " (systemctl stop " + unit + ")") +
                                   ", then `ordinalctl unclaim " + name + "`, and do this again");
  }

  Result<void> refresh_hosts(const ClaimSet& set, HostsChange change) {
    Patience waits = patience(set.name);
    TRY(const bool changed, change_hosts(hosts_path(), set, change, waits));
    if (changed) {
      session_.notes().line(hosts_path() + ": changed");
    }
    return mount::success();
  }

  /// Of the ordinals that are claimed: their units find the new REPLICAS and PEERS when they start again. The volumes stay where they are.
  Result<void> refresh_environments(const ClaimSet& set) {
    for (const std::int64_t ordinal : claimed_ordinals(set.name)) {
      if (!has_ordinal(set, ordinal)) {
        continue;
      }
      const std::string name = ordinal_name(set, ordinal);
      Patience waits = patience(name);
      TRY(const PlaceLock lock, PlaceLock::take(name, waits));
      const auto claimed = load_claimed(name);
      if (claimed && std::filesystem::exists(environment_path(name))) {  // else a claim is yet to write it
        TRYV(write_environment(set, ordinal, claimed->volumes));
      }
    }
    return mount::success();
  }

 private:
  Session& session_;
  std::int64_t timeout_;
  Claims claims_;
};

/// Writes the file, makes and grows, has systemd follow, deletes.
Result<void> carry_out(Session& session, Worker& worker, const SetChange& plan, const ClaimSet& before) {
  if (!plan.file_act.empty()) {
    TRYV(mount::make_directories(std::filesystem::path{plan.file}.parent_path()));
    TRYV(replace_text_file(plan.file, plan.text));
    TRYV(remove_text_file(deleting_path(plan.file)));  // a deletion that stopped midway is not wanted any more
  }
  for (const Step& step : plan.steps) {
    if (step.act == Act::create || step.act == Act::grow) {
      TRYV(worker.make(plan.set, step));
    }
  }
  TRYV(worker.refresh_hosts(plan.set, HostsChange::refresh));
  TRYV(worker.refresh_environments(plan.set));
  TRYV(follow_set(session, before, plan.set));
  for (auto step = plan.steps.rbegin(); step != plan.steps.rend(); ++step) {
    if (step->act == Act::remove) {
      TRYV(worker.remove(plan.set, *step));
    }
  }
  for (const std::int64_t ordinal : claimed_ordinals(plan.set.name)) {
    if (!has_ordinal(plan.set, ordinal)) {
      session.notes().line({Words{ordinal_name(plan.set, ordinal) + " is still claimed", Tone::warning},
                            ": stop what uses it, then `ordinalctl unclaim " + ordinal_name(plan.set, ordinal) + "`"});
    }
  }
  return mount::success();
}

/// Shows the plan, asks where `asks`, does it.
Result<Exit> show_and_do(Session& session, const SetChange& plan, bool yes, bool asks, const std::function<Result<void>()>& work) {
  if (is_done(plan)) {
    if (!session.json()) {
      print_plan(session, plan);
      session.notes().line(plan.set.name + ": nothing to do");
    }
    TRYV(work());  // what an earlier run that was killed may have left undone, and nobody has to be asked for
    if (session.json()) {
      session.print_json(json_of(plan, true));
    }
    return Exit::done;
  }
  if (!session.json()) {
    print_plan(session, plan);
  }
  if (asks && !confirmed(session, yes)) {
    if (session.json()) {
      session.print_json(json_of(plan, false));
    }
    return session.needs_yes();
  }
  for (const Step& step : plan.steps) {
    TRYV(refuse_twins(step.claim, step.volume));
  }
  TRYV(work());
  if (session.json()) {
    session.print_json(json_of(plan, true));
  } else {
    session.notes().line({Words{plan.set.name + ": done", Tone::good}});
  }
  return Exit::done;
}

std::string place_of(const Session& session, const std::string& set) { return session.claims_dir() + "/" + set + ".json"; }

Result<Exit> apply(Session& session, const SetOptions& options) {
  SetChange plan;
  auto text = agent::read_file(options.what);
  if (!text) {
    return failure(Exit::usage, text.error().message);
  }
  plan.text = text.value();
  TRY(plan.set, parse_claim_set(plan.text, options.what));
  plan.file = place_of(session, plan.set.name);
  TRYV(refuse_shared_claims(session.claims_dir(), plan.set));
  TRYV(look_up_access(plan.set));
  Worker worker{session, options.timeout};
  Patience waits = worker.patience(plan.set.name);
  TRY(const PlaceLock lock, PlaceLock::take("set." + plan.set.name, waits));
  const auto there = agent::read_file(plan.file);
  const auto installed = there ? parse_claim_set(there.value(), plan.file) : mount::Result<ClaimSet>{there.error()};
  ClaimSet before = plan.set;
  if (!there || there.value() != plan.text) {
    plan.file_act = "write";
    if (installed) {
      before = installed.value();
    } else {
      before.replicas = 0;
    }
  }
  TRY(const auto volumes, worker.volumes(plan.set));
  plan.steps = plan_set(plan.set, volumes);
  plan.remarks = late_changes(before, plan.set, volumes);
  std::string shrunk;
  for (const Step& step : plan.steps) {
    if (step.act == Act::shrink) {
      shrunk += (shrunk.empty() ? "" : ", ") + step.claim + " has " + size_of(step);
    }
  }
  if (!shrunk.empty()) {
    return failure(Exit::usage,
                   plan.set.name + ": volumes are never shrunk: " + shrunk + "; give the template the larger size. Nothing was done");
  }
  TRY(plan.units, units_to_follow(before, plan.set));
  return show_and_do(session, plan, options.yes, true, [&] { return carry_out(session, worker, plan, before); });
}

Result<Exit> scale(Session& session, const SetOptions& options) {
  Worker worker{session, options.timeout};
  Patience waits = worker.patience(options.what);
  const auto known = find_claim_set(session.claims_dir(), options.what);
  if (!known) {
    return failure(Exit::usage, known.error().message);
  }
  TRY(const PlaceLock lock, PlaceLock::take("set." + options.what, waits));
  SetChange plan;
  plan.file = place_of(session, options.what);
  TRY(const std::string text, agent::read_file(plan.file));
  TRY(const ClaimSet before, parse_claim_set(text, plan.file));
  TRY(plan.text, with_replicas(text, options.replicas));
  TRY(plan.set, parse_claim_set(plan.text, plan.file));
  plan.file_act = before.replicas == options.replicas ? "" : "write";
  if (options.replicas > before.replicas) {  // those that are added may be the first to meet another set's
    TRYV(refuse_shared_claims(session.claims_dir(), plan.set));
  }
  TRY(const auto volumes, worker.volumes(plan.set));
  plan.steps = plan_set(plan.set, volumes);
  std::erase_if(plan.steps, [](const Step& step) { return step.act == Act::grow || step.act == Act::shrink; });  // that is `apply`'s
  TRY(plan.units, units_to_follow(before, plan.set));
  const bool deletes = std::ranges::any_of(plan.steps, [](const Step& step) { return step.act == Act::remove; });
  const bool asks = deletes || !plan.units.stop.empty();
  return show_and_do(session, plan, options.yes, asks, [&] { return carry_out(session, worker, plan, before); });
}

/// The set that is to be deleted, by its file or by what an earlier run that stopped has left of it.
Result<ClaimSet> find_doomed(const Session& session, const std::string& name) {
  auto set = find_claim_set(session.claims_dir(), name);
  if (!set && set.error().code == mount::ErrorCode::not_found) {
    if (auto left = load_claim_set(deleting_path(place_of(session, name))); left || left.error().code != mount::ErrorCode::not_found) {
      set = std::move(left);
    }
  }
  if (!set) {
    return failure(Exit::usage, set.error().message);
  }
  if (set.value().name != name) {
    return failure(Exit::usage,
                   deleting_path(place_of(session, name)) + " is of the set " + set.value().name + ", not " + name + ": rename it");
  }
  return std::move(set).value();
}

Result<Exit> delete_set(Session& session, const SetOptions& options) {
  Worker worker{session, options.timeout};
  Patience waits = worker.patience(options.what);
  TRYV(find_doomed(session, options.what));
  TRY(const PlaceLock lock, PlaceLock::take("set." + options.what, waits));
  SetChange plan;
  TRY(plan.set, find_doomed(session, options.what));
  plan.file = place_of(session, options.what);
  plan.file_act = "remove";
  TRY(const auto volumes, worker.volumes(plan.set));
  plan.steps = plan_deletion(plan.set, volumes);
  ClaimSet none = plan.set;
  none.replicas = 0;
  TRY(plan.units, units_to_follow(plan.set, none));
  return show_and_do(session, plan, options.yes, true, [&]() -> Result<void> {
    const auto refuse_claimed = [&]() -> Result<void> {
      for (const std::int64_t ordinal : claimed_ordinals(plan.set.name)) {
        TRYV(worker.refuse_claimed(plan.set, ordinal));
      }
      return mount::success();
    };
    TRYV(follow_set(session, plan.set, none));
    TRYV(refuse_claimed());
    TRYV(rename_text_file(plan.file, deleting_path(plan.file)));
    TRYV(reload_for(plan.set));
    TRYV(refuse_claimed());  // a claim may have been faster
    for (const Step& step : plan.steps) {
      if (step.act == Act::remove) {
        TRYV(worker.remove(plan.set, step));
      }
    }
    TRYV(worker.refresh_hosts(plan.set, HostsChange::remove));
    TRYV(remove_text_file(deleting_path(plan.file)));
    return mount::success();
  });
}

void add_common(CLI::App& command, SetOptions& options) {
  command.add_flag("--yes", options.yes, "Do it without asking");
  command.add_option("--timeout", options.timeout, "For how long to wait for what is busy, each time at most")
      ->type_name("SECONDS")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{86400}))
      ->capture_default_str();
}

}  // namespace

void add_apply(CLI::App& app, Session& session) {
  const auto options = std::make_shared<SetOptions>();
  CLI::App* command =
      app.add_subcommand("apply", "Make a set as a claim file says: shows what it would create, grow, retain and delete, and does it");
  command->add_option("file", options->what, "The claim file; another place than --claims-dir is copied there")
      ->type_name("FILE")
      ->required();
  add_common(*command, *options);
  session.run_with(*command, [&session, options] { return apply(session, *options); });
}

void add_scale(CLI::App& app, Session& session) {
  const auto options = std::make_shared<SetOptions>();
  CLI::App* command = app.add_subcommand("scale", "Change a set's replicas; volumes beyond are kept or deleted as its whenScaled says");
  command->add_option("set", options->what, "The set, such as db")->type_name("SET")->required();
  command->add_option("replicas", options->replicas, "How many")->type_name("N")->required();
  add_common(*command, *options);
  session.run_with(*command, [&session, options] { return scale(session, *options); });
}

void add_delete(CLI::App& app, Session& session) {
  const auto options = std::make_shared<SetOptions>();
  CLI::App* command = app.add_subcommand("delete", "Delete a set; its volumes are kept or deleted as its whenDeleted says");
  command->add_option("set", options->what, "The set, such as db")->type_name("SET")->required();
  add_common(*command, *options);
  session.run_with(*command, [&session, options] { return delete_set(session, *options); });
}

}  // namespace ordinald::ctl
