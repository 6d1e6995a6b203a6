#include "agent/ctl/views.hpp"

#include <cstdint>
#include <utility>

#include "agent/ctl/session.hpp"
#include "agent/ctl/text.hpp"

namespace ordinald::ctl {

std::string counted(std::int64_t number, std::string_view noun) {
  return std::to_string(number) + " " + std::string{noun} + (number == 1 ? "" : "s");
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
    const std::string share = total > 0 ? " (" + std::to_string(used * 100 / total) + "%)" : "";
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

}  // namespace ordinald::ctl
