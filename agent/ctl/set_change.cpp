#include "agent/ctl/set_change.hpp"

#include <algorithm>

#include "agent/ctl/text.hpp"

namespace ordinald::ctl {
namespace {

const char* word_of(Act act) {
  switch (act) {
    case Act::create:
      return "create";
    case Act::grow:
      return "grow";
    case Act::shrink:
      return "shrink";
    case Act::retain:
      return "retain";
    case Act::remove:
      return "delete";
  }
  return "";
}

}  // namespace

std::string size_of(const Step& step) {
  const std::string now = size_text(static_cast<std::int64_t>(step.volume.size));
  const std::string then = size_text(static_cast<std::int64_t>(step.size));
  return step.act == Act::grow || step.act == Act::shrink ? now + " -> " + then : step.act == Act::create ? then : now;
}

nlohmann::json json_of(const SetChange& plan, bool done) {
  nlohmann::json steps = nlohmann::json::array();
  if (!plan.file_act.empty()) {
    steps.push_back({{"do", plan.file_act}, {"file", plan.file}});
  }
  for (const Step& step : plan.steps) {
    steps.push_back(
        {{"do", word_of(step.act)}, {"claim", step.claim}, {"id", step.volume.id}, {"from", step.volume.size}, {"to", step.size}});
  }
  for (const std::string& unit : plan.units.stop) {
    steps.push_back({{"do", "stop"}, {"unit", unit}});
  }
  for (const std::string& unit : plan.units.start) {
    steps.push_back({{"do", "start"}, {"unit", unit}});
  }
  return {{"set", plan.set.name}, {"steps", std::move(steps)}, {"remarks", plan.remarks}, {"done", done}};
}

void print_plan(Session& session, const SetChange& plan) {
  Table table{.columns = {{.title = ""}, {.title = ""}, {.title = ""}}, .rows = {}};
  if (!plan.file_act.empty()) {
    table.rows.push_back({Words{plan.file_act, Tone::bold}, plan.file, ""});
  }
  for (const Step& step : plan.steps) {
    const Tone tone = step.act == Act::remove ? Tone::bad : step.act == Act::retain ? Tone::faint : Tone::bold;
    table.rows.push_back({Words{word_of(step.act), tone}, step.claim, size_of(step)});
  }
  for (const std::string& unit : plan.units.stop) {
    table.rows.push_back({Words{"stop", Tone::bold}, unit, ""});
  }
  for (const std::string& unit : plan.units.start) {
    table.rows.push_back({Words{"start", Tone::bold}, unit, ""});
  }
  for (const auto& row : table.rows) {
    std::string pad(8 - std::min<std::size_t>(row[0].text.size(), 7), ' ');
    session.notes().line({"  ", row[0], pad, row[1], "  ", row[2]});
  }
  for (const std::string& remark : plan.remarks) {
    session.notes().line({Words{"note: ", Tone::warning}, remark});
  }
}

bool is_done(const SetChange& plan) {
  return plan.file_act.empty() && !changes_anything(plan.steps) && plan.units.stop.empty() && plan.units.start.empty();
}

}  // namespace ordinald::ctl
