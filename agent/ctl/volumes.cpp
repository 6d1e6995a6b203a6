#include <algorithm>
#include <memory>
#include <string>
#include <thread>

#include "agent/ctl/commands.hpp"
#include "agent/ctl/text.hpp"
#include "agent/ctl/views.hpp"

/// `ordinalctl volumes`: every volume, who has it and where.
namespace ordinald::ctl {
namespace {

struct VolumesOptions {
  bool watch = false;
  double interval = 2;  // seconds
};

std::string joined(const nlohmann::json& list, const std::function<std::string(const nlohmann::json&)>& part) {
  std::string text;
  for (const nlohmann::json& entry : list) {
    const std::string one = part(entry);
    if (!one.empty()) {
      text += (text.empty() ? "" : ", ") + one;
    }
  }
  return text.empty() ? "-" : text;
}

Words state_words(const std::string& state) {
  const bool wrong = state == "damaged" || state == "forgotten";
  return {state, wrong ? Tone::bad : state == "published" ? Tone::good : Tone::plain};
}

Words health_words(const nlohmann::json& health) {
  if (health.empty()) {
    return {"ok", Tone::good};
  }
  return {joined(health, [](const nlohmann::json& entry) { return text_at(entry, "reason"); }), Tone::bad};
}

/// The volumes of the answer, and beneath the table what is wrong with which.
void print_volumes(Console& console, const nlohmann::json& volumes) {
  if (volumes.empty()) {
    console.line("no volumes");
    return;
  }
  Table table{.columns = {{.title = "ID", .shrinks = !console.is_terminal()},
                          {.title = "CLAIM", .shrinks = true},
                          {.title = "SIZE", .right = true},
                          {.title = "FS"},
                          {.title = "STATE"},
                          {.title = "HOLDER", .shrinks = true},
                          {.title = "WHERE", .shrinks = true},
                          {.title = "HEALTH", .shrinks = true}},
              .rows = {}};
  for (const nlohmann::json& volume : volumes) {
    const std::string claim = text_at(volume, "claim");
    const std::string fs_type = text_at(volume, "fsType");
    const auto& publications = list_at(volume, "publications");
    const auto& found = list_at(volume, "found");
    table.rows.push_back({text_at(volume, "id"), claim.empty() ? "-" : claim, size_text(number_at(volume, "size")),
                          fs_type.empty() ? "block" : fs_type, state_words(text_at(volume, "state")),
                          publications.empty() && !found.empty()
                              ? "unknown"
                              : joined(publications, [](const nlohmann::json& entry) { return holder_text(object_at(entry, "holder")); }),
                          !publications.empty() ? joined(publications, [](const nlohmann::json& entry) { return text_at(entry, "target"); })
                                                : joined(found.empty() ? list_at(volume, "stages") : found,
                                                         [](const nlohmann::json& entry) { return text_at(entry, "path"); }),
                          health_words(list_at(volume, "health"))});
  }
  console.table(table);
  for (const nlohmann::json& volume : volumes) {
    if (const auto& health = list_at(volume, "health"); !health.empty()) {
      console.line();
      console.line({Words{text_at(volume, "id"), Tone::bold}, ":"});
      print_problems(console, health, Tone::bad);
    }
  }
}

void show(Session& session, const nlohmann::json& answer) {
  if (session.json()) {
    session.print_json(answer);
  } else {
    print_volumes(session.console(), list_at(answer, "volumes"));
  }
}

/// Until it is interrupted. On a terminal the screen is written anew; elsewhere what changed is appended. An agent that restarts is waited
/// for.
[[noreturn]] void watch(Session& session, std::chrono::duration<double> interval) {
  Console& console = session.console();
  const bool redraw = console.is_terminal() && !session.json();
  std::string last;
  while (true) {
    const auto answer = session.admin().get("/v1/volumes");
    const std::string shown =
        answer ? answer.value().dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) : answer.error().message;
    if (redraw) {
      console.clear();
      console.line({Words{"every " + std::to_string(static_cast<int>(interval.count())) + " s; Ctrl-C ends it", Tone::faint}});
    }
    if (redraw || shown != last) {
      if (answer) {
        show(session, answer.value());
      } else {
        session.notes().line({Words{"ordinalctl: ", Tone::bad}, answer.error().message});
      }
      console.flush();
    }
    last = shown;
    std::this_thread::sleep_for(interval);
  }
}

Result<Exit> volumes(Session& session, const VolumesOptions& options) {
  if (options.watch) {
    watch(session, std::chrono::duration<double>{options.interval});
  }
  TRY(const nlohmann::json answer, session.admin().get("/v1/volumes"));
  show(session, answer);
  return Exit::done;
}

}  // namespace

void add_volumes(CLI::App& app, Session& session) {
  CLI::App* command = app.add_subcommand("volumes", "Every volume: whose it is, who has it and where");
  const auto options = std::make_shared<VolumesOptions>();
  command->add_flag("--watch", options->watch, "Show it again and again, until Ctrl-C");
  command->add_option("--interval", options->interval, "Seconds between two looks of --watch")
      ->type_name("SECONDS")
      ->check(CLI::Range(0.1, 3600.0))
      ->capture_default_str();
  session.run_with(*command, [&session, options] { return volumes(session, *options); });
}

}  // namespace ordinald::ctl
