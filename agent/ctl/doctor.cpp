#include <algorithm>
#include <iterator>
#include <string>
#include <vector>

#include "agent/config.hpp"
#include "agent/ctl/claim_file.hpp"
#include "agent/ctl/commands.hpp"
#include "agent/ctl/local_checks.hpp"
#include "agent/ctl/views.hpp"

/// `ordinalctl doctor`: is this node fit for the agent, each with a verdict and a remedy.
namespace ordinald::ctl {
namespace {

Verdict verdict_of(const std::string& text) { return text == "ok" ? Verdict::ok : text == "warning" ? Verdict::warning : Verdict::failed; }

Check check_claims(const std::string& directory) {
  const auto sets = load_claim_sets(directory);
  if (!sets) {
    return {.name = "claim files",
            .verdict = Verdict::failed,
            .detail = sets.error().message,
            .remedy = "mend the file; its claims don't start until then"};
  }
  return {.name = "claim files",
          .verdict = Verdict::ok,
          .detail = counted(static_cast<std::int64_t>(sets.value().size()), "set") + " in " + directory,
          .remedy = {}};
}

/// The worst first. Where the agent and we looked at the same, what it sees counts.
std::vector<Check> all_checks(Session& session) {
  std::vector<Check> checks{check_socket("agent", session.admin_socket()),
                            check_socket("CSI socket", agent::endpoint_path(session.endpoint()))};
  if (const auto answer = session.admin().get("/v1/doctor"); answer) {
    for (const nlohmann::json& check : list_at(answer.value(), "checks")) {
      checks.push_back({.name = text_at(check, "name"),
                        .verdict = verdict_of(text_at(check, "verdict")),
                        .detail = text_at(check, "detail"),
                        .remedy = text_at(check, "remedy")});
    }
  } else if (checks.front().verdict == Verdict::ok) {  // it listens, and no more
    checks.front() = {.name = "agent",
                      .verdict = Verdict::failed,
                      .detail = answer.error().message,
                      .remedy = "see `journalctl -u ordinald`, and `systemctl restart ordinald` (mounts go on serving)"};
  }
  for (Check& check : local_checks(this_node())) {
    const bool has_it = std::ranges::any_of(checks, [&](const Check& other) { return other.name == check.name; });
    if (!has_it) {
      checks.push_back(std::move(check));
    }
  }
  checks.push_back(check_claims(session.claims_dir()));
  std::vector<Check> sorted;
  for (const Verdict verdict : {Verdict::failed, Verdict::warning, Verdict::ok}) {
    std::ranges::copy_if(checks, std::back_inserter(sorted), [&](const Check& check) { return check.verdict == verdict; });
  }
  return sorted;
}

void print_checks(Console& console, const std::vector<Check>& checks) {
  const auto number = [&](Verdict verdict) { return std::ranges::count(checks, verdict, &Check::verdict); };
  if (number(Verdict::failed) > 0) {
    console.line(
        {Words{counted(number(Verdict::failed), "check") + " failed", Tone::bad}, ", ", counted(number(Verdict::warning), "warning")});
  } else if (number(Verdict::warning) > 0) {
    console.line({Words{counted(number(Verdict::warning), "warning"), Tone::warning}, ", nothing failed"});
  } else {
    console.line({Words{"all is well", Tone::good}});
  }
  console.line();
  for (const Check& check : checks) {
    const Words mark = check.verdict == Verdict::ok        ? Words{"ok       ", Tone::good}
                       : check.verdict == Verdict::warning ? Words{"warning  ", Tone::warning}
                                                           : Words{"FAILED   ", Tone::bad};
    console.line({mark, Words{check.name, Tone::bold}});
    console.under(check.detail, 9);
    if (!check.remedy.empty()) {
      console.under("→ " + check.remedy, 9);
    }
  }
}

Result<Exit> doctor(Session& session) {
  const std::vector<Check> checks = all_checks(session);
  const bool failed = std::ranges::count(checks, Verdict::failed, &Check::verdict) > 0;
  if (session.json()) {
    nlohmann::json list = nlohmann::json::array();
    for (const Check& check : checks) {
      list.push_back({{"name", check.name}, {"verdict", to_string(check.verdict)}, {"detail", check.detail}, {"remedy", check.remedy}});
    }
    session.print_json({{"healthy", !failed}, {"checks", list}});
  } else {
    print_checks(session.console(), checks);
  }
  return failed ? Exit::unhealthy : Exit::done;
}

}  // namespace

void add_doctor(CLI::App& app, Session& session) {
  CLI::App* command =
      app.add_subcommand("doctor", "Is this node fit for the agent: kernel, tools, permissions, mounts, clock, with remedies");
  session.run_with(*command, [&session] { return doctor(session); });
}

}  // namespace ordinald::ctl
