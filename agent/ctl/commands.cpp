#include "agent/ctl/commands.hpp"

namespace ordinald::ctl {

void add_commands(CLI::App& app, Session& session) { add_status(app, session); }

}  // namespace ordinald::ctl
