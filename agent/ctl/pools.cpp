#include "agent/ctl/commands.hpp"
#include "agent/ctl/views.hpp"

/// `ordinalctl pools`: where volumes come from, and the room that is left there.
namespace ordinald::ctl {
namespace {

Result<Exit> pools(Session& session) {
  TRY(const nlohmann::json answer, session.admin().get("/v1/pools"));
  if (session.json()) {
    session.print_json(answer);
  } else {
    print_pools(session.console(), list_at(answer, "pools"));
  }
  return Exit::done;
}

}  // namespace

void add_pools(CLI::App& app, Session& session) {
  CLI::App* command = app.add_subcommand("pools", "The pools: size, used, promised and free space");
  session.run_with(*command, [&session] { return pools(session); });
}

}  // namespace ordinald::ctl
