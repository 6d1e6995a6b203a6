#include "agent/ctl/views.hpp"

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <cstdint>
#include <utility>

#include "agent/ctl/admin_client.hpp"
#include "agent/ctl/session.hpp"

namespace ordinald::ctl {

std::string counted(std::int64_t number, std::string_view noun, std::string_view plural) {
  const std::string many = plural.empty() ? std::string{noun} + "s" : std::string{plural};
  return std::to_string(number) + " " + (number == 1 ? std::string{noun} : many);
}

void print_problems(Console& console, const nlohmann::json& problems, Tone tone) {
  for (const nlohmann::json& problem : problems) {
    const std::string reason = text_at(problem, "reason");
    console.line({"  ", Words{reason.empty() ? "! " : reason + ": ", tone}, text_at(problem, "message")});
  }
}

void print_pools(Console& console, const nlohmann::json& pools) {
  Table table{.columns = {{.title = "POOL", .shrinks = true},
                          {.title = "KIND"},
                          {.title = "VOLUMES", .right = true},
                          {.title = "SIZE", .right = true},
                          {.title = "USED", .right = true},
                          {.title = "PROMISED", .right = true},
                          {.title = "FREE", .right = true},
                          {.title = "HEALTH"},
                          {.title = "WHERE", .shrinks = true}},
              .rows = {}};
  for (const nlohmann::json& pool : pools) {
    const bool healthy = flag_at(pool, "healthy");
    const std::int64_t total = number_at(pool, "total");
    const std::int64_t used = number_at(pool, "used");
    const bool sane = total > 0 && used >= 0 && used <= total;
    const std::string share =
        sane ? " (" + std::to_string(static_cast<int>(100.0 * static_cast<double>(used) / static_cast<double>(total))) + "%)" : "";
    const std::string provisioning = text_at(pool, "provisioning");
    table.rows.push_back({text_at(pool, "name"), text_at(pool, "kind") + (provisioning.empty() ? "" : " " + provisioning),
                          std::to_string(number_at(pool, "volumes")), size_text(total), size_text(used) + share,
                          size_text(number_at(pool, "promised")), size_text(number_at(pool, "available")),
                          healthy ? Words{"ok", Tone::good} : Words{"PROBLEM", Tone::bad}, text_at(pool, "directory")});
  }
  console.table(table);
  for (const nlohmann::json& pool : pools) {
    print_problems(console, list_at(pool, "problems"), flag_at(pool, "healthy") ? Tone::warning : Tone::bad);
  }
}

std::string holder_text(const nlohmann::json& holder) {
  if (const std::string text = text_at(holder, "text"); !text.empty()) {
    return text;
  }
  const std::string name = text_at(holder, "name");
  const std::string uid = text_at(holder, "uid");
  return name.empty() ? "an unnamed workload" : text_at(holder, "namespace") + "/" + name + (uid.empty() ? "" : " (uid " + uid + ")");
}

void print_holds(Console& console, const nlohmann::json& holds, Time now) {
  for (const nlohmann::json& hold : holds) {
    console.line({"  ", Words{holder_text(object_at(hold, "holder")), Tone::bold}, " at ", text_at(hold, "target"), ", since ",
                  when_text(text_at(hold, "since"), now)});
    if (const std::string ended = text_at(hold, "ended"); !ended.empty()) {
      console.line({"    that hold is over (", ended, "), but processes of it still have the volume"});
    } else if (hold.contains("mounted")) {
      console.line({"    ", flag_at(hold, "mounted") ? "still mounted there" : "not mounted there any more"});
    }
    print_processes(console, list_at(hold, "processes"));
    if (const std::int64_t unseen = number_at(hold, "unseen"); unseen > 0) {
      console.line({"    and ", counted(unseen, "process", "processes"), " of it that can't be looked into"});
    }
  }
}

bool is_told_apart(const nlohmann::json& hold) { return !hold.contains("toldApart") || flag_at(hold, "toldApart"); }

void print_processes(Console& console, const nlohmann::json& processes) {
  for (const nlohmann::json& process : processes) {
    const std::string where = text_at(process, "mountPoint");
    console.line({"    process ", Words{std::to_string(number_at(process, "pid")), Tone::bold}, " (", text_at(process, "command"), ")",
                  where.empty() ? "" : ", which has it at " + where,
                  where.empty() || !process.contains("namespaceHost") ? ""
                  : flag_at(process, "namespaceHost")                 ? " (on the host)"
                                                                      : " (in a mount namespace of its own)"});
  }
}

void print_history(Console& console, const nlohmann::json& volume, Time now) {
  const auto& history = list_at(volume, "history");
  if (history.empty()) {
    console.line("  none: nobody has had it yet, or it is older than this memory");
    return;
  }
  Table table{.columns = {{.title = "  HOLDER", .shrinks = true},
                          {.title = "FROM"},
                          {.title = "TO"},
                          {.title = "ENDED"},
                          {.title = "WHERE", .shrinks = true}},
              .rows = {}};
  for (const nlohmann::json& tenure : history) {
    table.rows.push_back({"  " + holder_text(object_at(tenure, "holder")), text_at(tenure, "from"), when_text(text_at(tenure, "to"), now),
                          text_at(tenure, "ended"), text_at(tenure, "target")});
  }
  console.table(table);
}

void print_left(Console& console, const nlohmann::json& answer) {
  const auto& left = list_at(answer, "left");
  if (left.empty()) {
    return;
  }
  console.heading("Left as it is");
  for (const nlohmann::json& entry : left) {
    const std::string place = text_at(entry, "target") + text_at(entry, "path");
    if (entry.is_string()) {
      console.item(entry.get<std::string>());
    } else if (entry.contains("holder")) {
      console.item(holder_text(object_at(entry, "holder")) + " at " + place);
    } else {
      console.item(place);
    }
  }
}

void add_volume_argument(CLI::App& command, std::string& volume) {
  command.add_option("volume", volume, "The volume's id, its name, or its claim as NAMESPACE/CLAIM")->type_name("VOLUME")->required();
}

std::string volume_path(const std::string& volume) { return "/v1/volumes/" + percent_encoded(volume); }

}  // namespace ordinald::ctl
