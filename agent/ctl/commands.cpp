#include "agent/ctl/commands.hpp"

namespace ordinald::ctl {

void add_commands(CLI::App& app, Session& session) {
  add_status(app, session);
  add_volumes(app, session);
  add_show(app, session);
  add_explain(app, session);
  add_pools(app, session);
  add_orphans(app, session);
  add_adopt(app, session);
  add_rebind(app, session);
  add_release(app, session);
  add_doctor(app, session);
}

}  // namespace ordinald::ctl
