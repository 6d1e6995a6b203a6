#include <CLI/App.hpp>
#include <CLI/Validators.hpp>
#include <memory>
#include <string>

#include "agent/ctl/claim_file.hpp"
#include "agent/ctl/claim_place.hpp"
#include "agent/ctl/claims.hpp"
#include "agent/ctl/commands.hpp"
#include "agent/ctl/signal_watch.hpp"

/// `ordinalctl claim ORDINAL` and `ordinalctl unclaim ORDINAL`: an ordinal gets its volumes, and gives them back.
namespace ordinald::ctl {
namespace {

struct ClaimOptions {
  std::string ordinal;
  std::string unit;
  std::string by;
  std::int64_t timeout = 60;
};

void add_arguments(CLI::App& command, ClaimOptions& options) {
  command.add_option("ordinal", options.ordinal, "The ordinal, such as db-0")->type_name("ORDINAL")->required();
  command.add_option("--timeout", options.timeout, "For how long to wait for who has it, at most")
      ->type_name("SECONDS")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{86400}))
      ->capture_default_str();
  command.add_option("--by", options.by, "The unit that runs this (%n): what it claimed no other unit takes back")->type_name("UNIT");
}

Result<ClaimSet> set_of(const Session& session, const Member& member) {
  auto set = find_claim_set(session.claims_dir(), member.set);
  if (!set) {
    return failure(Exit::usage, set.error().message);
  }
  return std::move(set).value();
}

Result<Exit> claim(Session& session, const ClaimOptions& options) {
  TRY(const Member member, split_ordinal_name(options.ordinal));
  TRYV(set_of(session, member));
  const SignalWatch signals;  // whoever ends the claim gets back what it has so far
  Patience patience{session, options.ordinal, std::chrono::seconds{options.timeout}};
  Claims claims{session};
  const auto claimed = patience.until_done(Waits::for_holders, [&](std::chrono::milliseconds) -> Result<std::vector<ClaimedVolume>> {
    TRY(const PlaceLock lock, PlaceLock::take(options.ordinal, patience));
    // Read anew: `scale` and `delete` change the file before they look for ordinals that are claimed.
    TRY(const ClaimSet set, set_of(session, member));
    TRYV(refuse_shared_claims(session.claims_dir(), set));
    if (!has_ordinal(set, member.ordinal)) {
      return failure(Exit::usage, "set " + set.name + " has " + std::to_string(set.replicas) + " replicas from ordinal " +
                                      std::to_string(set.start_ordinal) + " on, " + options.ordinal +
                                      " is none of them (ordinalctl scale)");
    }
    return claims.claim(set, member.ordinal, {.unit = options.unit.empty() ? unit_of(set, member.ordinal) : options.unit, .by = options.by},
                        patience);
  });
  if (!claimed) {
    Patience brief{session, options.ordinal, std::chrono::seconds{0}};
    if (const auto lock = PlaceLock::take(options.ordinal, brief); lock) {
      claims.give_back(options.ordinal, brief);
    }
    return claimed.error();
  }
  const std::vector<ClaimedVolume>& volumes = claimed.value();
  nlohmann::json list = nlohmann::json::array();
  for (const ClaimedVolume& volume : volumes) {
    list.push_back({{"template", volume.of}, {"claim", volume.claim}, {"id", volume.id}, {"path", volume.target}});
    if (!session.json()) {
      session.console().line(volume.claim + "  " + volume.target);
    }
  }
  if (session.json()) {
    session.print_json({{"ordinal", options.ordinal}, {"environment", environment_path(options.ordinal)}, {"volumes", std::move(list)}});
  }
  return Exit::done;
}

Result<Exit> unclaim(Session& session, const ClaimOptions& options) {
  TRY(const Member member, split_ordinal_name(options.ordinal));
  Patience patience{session, options.ordinal, std::chrono::seconds{options.timeout}};
  TRY(const PlaceLock lock, PlaceLock::take(options.ordinal, patience));
  Claims claims{session};
  std::vector<ClaimedVolume> expected;
  const auto claimed = load_claimed(options.ordinal);
  if (claimed) {
    TRYV(refuse_other_units(options.ordinal, *claimed, options.by));
  } else {
    TRY(const ClaimSet set, set_of(session, member));
    TRY(expected, claims.places(set, member.ordinal, patience));
    if (!has_ordinal(set, member.ordinal)) {
      session.notes().line(options.ordinal + " is not claimed, and none of the " + std::to_string(set.replicas) + " ordinals of set " +
                           set.name);
    }
  }
  TRYV(claims.unclaim(options.ordinal, expected, patience));
  if (claimed && !claimed->by.empty() && claimed->by != options.by) {
    session.notes().line(options.ordinal + ": taken back from " + claimed->by + ", which had claimed it");
  }
  if (session.json()) {
    session.print_json({{"ordinal", options.ordinal}});
  }
  return Exit::done;
}

}  // namespace

void add_claim(CLI::App& app, Session& session) {
  const auto options = std::make_shared<ClaimOptions>();
  CLI::App* command =
      app.add_subcommand("claim", "Give an ordinal of a claim file its volumes, made where they are missing, and print their paths");
  add_arguments(*command, *options);
  command->add_option("--unit", options->unit, "The unit that has them, in place of the claim file's")->type_name("UNIT");
  session.run_with(*command, [&session, options] { return claim(session, *options); });
}

void add_unclaim(CLI::App& app, Session& session) {
  const auto options = std::make_shared<ClaimOptions>();
  CLI::App* command = app.add_subcommand("unclaim", "Take an ordinal's volumes back; they are kept");
  add_arguments(*command, *options);
  session.run_with(*command, [&session, options] { return unclaim(session, *options); });
}

}  // namespace ordinald::ctl
