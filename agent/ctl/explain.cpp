#include <algorithm>
#include <memory>
#include <string>

#include "agent/ctl/commands.hpp"
#include "agent/ctl/text.hpp"
#include "agent/ctl/views.hpp"

/// `ordinalctl explain VOLUME`: why the last call was refused, and what would let it through.
namespace ordinald::ctl {
namespace {

void print_explanation(Console& console, const nlohmann::json& answer) {
  const Time now = std::chrono::system_clock::now();
  const auto& refusal = object_at(answer, "refusal");
  console.line({Words{text_at(answer, "volume"), Tone::bold}});
  if (refusal.empty()) {
    console.line("  No call on it has been refused since the agent started.");
  } else {
    console.line({"  ", Words{text_at(refusal, "call"), Tone::bold}, " was refused ", ago_text(text_at(refusal, "time"), now), " with ",
                  Words{text_at(refusal, "code"), Tone::bad}, ":"});
    console.line({"  ", text_at(refusal, "message")});
  }
  const auto& holds = list_at(answer, "holds");
  if (holds.empty()) {
    console.line("  Nobody holds it.");
  } else {
    console.heading("Held by");
    print_holds(console, holds, now);
  }
  if (const auto& others = list_at(answer, "others"); !others.empty()) {
    console.heading(std::ranges::all_of(holds, is_told_apart)
                        ? "Seen by others, which blocks nothing"
                        : "Seen by these, among them the holder's own: which those are can't be told");
    print_processes(console, others);
  }
  if (const std::string unchecked = text_at(answer, "unchecked"); !unchecked.empty()) {
    console.line();
    console.line({Words{"not checked: ", Tone::warning}, unchecked});
  }
  if (const auto& remedies = list_at(answer, "remedies"); !remedies.empty()) {
    console.heading("What to do");
    for (const nlohmann::json& remedy : remedies) {
      if (remedy.is_string()) {
        console.item(remedy.get<std::string>());
      }
    }
  }
}

Result<Exit> explain(Session& session, const std::string& volume) {
  TRY(const nlohmann::json answer, session.admin().get(volume_path(volume) + "/explain"));
  if (session.json()) {
    session.print_json(answer);
  } else {
    print_explanation(session.console(), answer);
  }
  return Exit::done;
}

}  // namespace

void add_explain(CLI::App& app, Session& session) {
  CLI::App* command = app.add_subcommand("explain", "Why the last call on a volume was refused, who holds it, and what to do");
  const auto volume = std::make_shared<std::string>();
  add_volume_argument(*command, *volume);
  session.run_with(*command, [&session, volume] { return explain(session, *volume); });
}

}  // namespace ordinald::ctl
