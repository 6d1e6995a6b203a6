#include <string>
#include <utility>

#include "agent/ctl/commands.hpp"
#include "agent/ctl/text.hpp"
#include "agent/ctl/views.hpp"

/// `ordinalctl status`: is all well, and where is the room.
namespace ordinald::ctl {
namespace {

void print_calls(Console& console, const nlohmann::json& calls, Tone tone) {
  for (const nlohmann::json& call : calls) {
    const std::string holds = text_at(call, "holds");
    console.line({"  ", Words{text_at(call, "call"), tone}, " of ", text_at(call, "volume"), " for ",
                  duration_text(std::chrono::seconds{number_at(call, "seconds")}), holds.empty() ? "" : ": " + holds});
  }
}

void print_status(Console& console, const nlohmann::json& status) {
  const Time now = std::chrono::system_clock::now();
  const bool healthy = flag_at(status, "healthy");
  console.line({Words{healthy ? "healthy" : "NOT HEALTHY", healthy ? Tone::good : Tone::bad}, "  ordinald ", text_at(status, "version"),
                " on ", Words{text_at(status, "nodeId"), Tone::bold}, ", pid ", std::to_string(number_at(status, "pid")), ", started ",
                when_text(text_at(status, "startedAt"), now)});
  print_problems(console, list_at(status, "problems"), Tone::bad);

  if (const auto& hung = list_at(status, "hung"); !hung.empty()) {
    console.heading("Hung (what they wait for does not answer)");
    print_calls(console, hung, Tone::bad);
  }
  if (const auto& running = list_at(status, "running"); !running.empty()) {
    console.heading("Running");
    print_calls(console, running, Tone::bold);
  }

  const auto& volumes = object_at(status, "volumes");
  console.line();
  const std::int64_t unhealthy = number_at(volumes, "unhealthy");
  console.line({Words{counted(number_at(volumes, "total"), "volume"), Tone::bold}, ": ", std::to_string(number_at(volumes, "published")),
                " published, ", std::to_string(number_at(volumes, "staged")), " staged, ",
                Words{std::to_string(unhealthy) + " unhealthy", unhealthy > 0 ? Tone::bad : Tone::plain}});
  if (const std::int64_t findings = number_at(status, "findings"); findings > 0) {
    console.line({Words{counted(findings, "finding"), Tone::warning},
                  findings == 1 ? " that needs a person: `ordinalctl orphans`" : " that need a person: `ordinalctl orphans`"});
  }
  std::string repairs;
  const nlohmann::json& kinds = object_at(status, "repairs");
  for (const auto& [kind, value] : kinds.items()) {
    if (const std::int64_t number = number_at(kinds, kind); number != 0) {
      repairs += (repairs.empty() ? "" : ", ") + kind + " " + std::to_string(number);
    }
  }
  if (!repairs.empty()) {
    console.line({"Repaired since the start: ", repairs});
  }
  console.line();
  print_pools(console, list_at(status, "pools"));
  console.line();
  for (const auto& [label, key] : {std::pair{"plugin", "pluginName"}, {"endpoint", "endpoint"}, {"state", "stateDir"}, {"run", "runDir"}}) {
    if (const std::string text = text_at(status, key); !text.empty()) {
      console.field(label, text, 8);
    }
  }
}

Result<Exit> status(Session& session) {
  TRY(const nlohmann::json answer, session.admin().get("/v1/status"));
  if (session.json()) {
    session.print_json(answer);
  } else {
    print_status(session.console(), answer);
  }
  return flag_at(answer, "healthy") && list_at(answer, "hung").empty() ? Exit::done : Exit::unhealthy;
}

}  // namespace

void add_status(CLI::App& app, Session& session) {
  CLI::App* command = app.add_subcommand("status", "Is all well: health, pools with their room, calls that run or hang");
  session.run_with(*command, [&session] { return status(session); });
}

}  // namespace ordinald::ctl
