#include <memory>
#include <string>

#include "agent/ctl/commands.hpp"
#include "agent/ctl/text.hpp"
#include "agent/ctl/views.hpp"

/// `ordinalctl rebind VOLUME NAMESPACE/CLAIM`: a kept volume becomes another claim's: after a restore, a rename, a move.
namespace ordinald::ctl {
namespace {

struct RebindOptions {
  std::string volume;
  std::string claim;
  bool yes = false;
};

Result<Exit> rebind(Session& session, const RebindOptions& options) {
  const std::size_t slash = options.claim.find('/');
  if (slash == std::string::npos || slash == 0 || slash + 1 == options.claim.size() ||
      options.claim.find('/', slash + 1) != std::string::npos) {
    return failure(Exit::usage,
                   "a claim is named NAMESPACE/CLAIM, such as prod/data-db-0; of a claim file of this node, host/data-db-0; found '" +
                       options.claim + "'");
  }
  TRY(const nlohmann::json volume, session.admin().get(volume_path(options.volume)));
  const std::string id = text_at(volume, "id");
  const std::string now_of = text_at(volume, "claim");
  const Time now = std::chrono::system_clock::now();
  if (!session.json()) {
    Console& console = session.console();
    console.line({Words{id, Tone::bold}, "  ", size_text(number_at(volume, "size")), " ", text_at(volume, "fsType")});
    console.field("claim now", now_of.empty() ? "none" : now_of);
    console.field("claim then", {options.claim, Tone::bold});
    console.heading("Who has had it (the newest last)");
    print_history(console, volume, now);
    if (!list_at(volume, "publications").empty()) {
      console.heading("Held by");
      print_holds(console, list_at(volume, "publications"), now);
    }
  }
  if (!list_at(volume, "publications").empty()) {
    return Failure{Exit::busy, "FAILED_PRECONDITION",
                   id + " is held by " + holder_text(object_at(list_at(volume, "publications").front(), "holder")) +
                       ": a volume in use stays its claim's. Stop the workload first; see `ordinalctl explain " + id + "`"};
  }
  if (!options.yes) {
    if (session.json()) {
      session.print_json(volume);
    }
    return session.needs_yes();
  }
  auto answer = session.admin().post(volume_path(id) + "/rebind",
                                     {{"namespace", options.claim.substr(0, slash)}, {"claim", options.claim.substr(slash + 1)}});
  if (!answer) {
    // Somebody took it between our look and the call.
    Failure refusal = answer.error();
    const bool held = refusal.code == "FAILED_PRECONDITION" && refusal.message.find("held") != std::string::npos;
    refusal.status = held ? Exit::busy : refusal.status;
    return refusal;
  }
  if (session.json()) {
    session.print_json(answer.value());
  } else {
    session.console().line();
    session.console().line({Words{id, Tone::bold}, " belongs to ", Words{text_at(answer.value(), "claim"), Tone::bold}, " from now on."});
    if (const std::string note = text_at(answer.value(), "note"); !note.empty()) {
      session.console().line({Words{"Note: ", Tone::warning}, note});
    }
  }
  return Exit::done;
}

}  // namespace

void add_rebind(CLI::App& app, Session& session) {
  CLI::App* command = app.add_subcommand("rebind", "Give a kept volume to another claim; shows first who has had it");
  const auto options = std::make_shared<RebindOptions>();
  add_volume_argument(*command, options->volume);
  command->add_option("claim", options->claim, "NAMESPACE/CLAIM that it belongs to from now on")->type_name("CLAIM")->required();
  command->add_flag("--yes", options->yes, "Do it; without it, it is shown what would be done");
  session.run_with(*command, [&session, options] { return rebind(session, *options); });
}

}  // namespace ordinald::ctl
