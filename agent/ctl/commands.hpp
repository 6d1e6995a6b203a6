#pragma once

#include <CLI/App.hpp>

#include "agent/ctl/session.hpp"

/// Every command of ordinalctl: each adds its subcommand from a file of its own, named as it is. Add a new one here and in
/// `add_commands`, in the order of `--help`; tests/ctl then asks for it in the manual page.
///
/// An argument's type name says to shell completion what it is: VOLUME, ORDINAL, SET, POOL, HOLDER, FILE, DIR, DEVICE.
namespace ordinald::ctl {

void add_status(CLI::App& app, Session& session);
void add_volumes(CLI::App& app, Session& session);
void add_show(CLI::App& app, Session& session);
void add_explain(CLI::App& app, Session& session);
void add_pools(CLI::App& app, Session& session);
void add_orphans(CLI::App& app, Session& session);
void add_adopt(CLI::App& app, Session& session);
void add_rebind(CLI::App& app, Session& session);
void add_release(CLI::App& app, Session& session);
void add_doctor(CLI::App& app, Session& session);
void add_claim(CLI::App& app, Session& session);
void add_unclaim(CLI::App& app, Session& session);
void add_apply(CLI::App& app, Session& session);
void add_scale(CLI::App& app, Session& session);
void add_delete(CLI::App& app, Session& session);
void add_hosts(CLI::App& app, Session& session);
void add_rollout(CLI::App& app, Session& session);
void add_ready(CLI::App& app, Session& session);

/// All of them.
void add_commands(CLI::App& app, Session& session);

}  // namespace ordinald::ctl
