#include <memory>
#include <string>

#include "agent/ctl/commands.hpp"
#include "agent/ctl/text.hpp"
#include "agent/ctl/views.hpp"

/// `ordinalctl orphans`: what nobody owns, and what the agent leaves to a person.
namespace ordinald::ctl {
namespace {

struct OrphansOptions {
  bool repair = false;
  bool yes = false;
};

void print_findings(Console& console, const nlohmann::json& findings) {
  if (findings.empty()) {
    console.line({Words{"nothing", Tone::good}, " is left that needs a person"});
    return;
  }
  console.line(
      {Words{counted(static_cast<std::int64_t>(findings.size()), "finding"), Tone::warning}, ", which the agent leaves to a person:"});
  for (const nlohmann::json& finding : findings) {
    console.item(text_at(finding, "message"));
    if (const std::string command = text_at(finding, "command"); !command.empty()) {
      console.line({"      ", Words{command, Tone::bold}});
    }
  }
}

/// A leftover is a text, or an object whose members say what it is.
void print_leftovers(Console& console, const nlohmann::json& leftovers) {
  if (leftovers.empty()) {
    return;
  }
  console.heading("Left behind, each with what a repair does about it");
  for (const nlohmann::json& leftover : leftovers) {
    if (leftover.is_string()) {
      console.item(leftover.get<std::string>());
      continue;
    }
    const std::string message = text_at(leftover, "message");
    console.item(message.empty() ? leftover.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) : message);
  }
}

void print_repaired(Console& console, const nlohmann::json& answer) {
  std::string repaired;
  const nlohmann::json& kinds = object_at(answer, "repaired");
  for (const auto& [kind, value] : kinds.items()) {
    if (const std::int64_t number = number_at(kinds, kind); number != 0) {
      repaired += (repaired.empty() ? "" : ", ") + kind + " " + std::to_string(number);
    }
  }
  console.line({"repaired: ", Words{repaired.empty() ? "there was nothing to repair" : repaired, Tone::bold}});
  print_findings(console, list_at(answer, "findings"));
}

Result<Exit> orphans(Session& session, const OrphansOptions& options) {
  if (options.repair && options.yes) {
    TRY(const nlohmann::json answer, session.admin().post("/v1/orphans/repair", nlohmann::json::object()));
    if (session.json()) {
      session.print_json(answer);
    } else {
      print_repaired(session.console(), answer);
    }
    return Exit::done;
  }
  TRY(const nlohmann::json answer, session.admin().get("/v1/orphans"));
  if (session.json()) {
    session.print_json(answer);
  } else {
    print_findings(session.console(), list_at(answer, "findings"));
    print_leftovers(session.console(), list_at(answer, "leftovers"));
  }
  return options.repair ? session.needs_yes() : Exit::done;
}

}  // namespace

void add_orphans(CLI::App& app, Session& session) {
  CLI::App* command = app.add_subcommand("orphans", "What nobody owns: leftovers of crashes, and what needs a person");
  const auto options = std::make_shared<OrphansOptions>();
  command->add_flag("--repair", options->repair,
                    "Look and repair now what is safe to repair, in place of waiting for the agent's next round");
  command->add_flag("--yes", options->yes, "Do it; without it --repair shows what there is");
  session.run_with(*command, [&session, options] { return orphans(session, *options); });
}

}  // namespace ordinald::ctl
