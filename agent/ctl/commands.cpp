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
  add_claim(app, session);
  add_unclaim(app, session);
  add_apply(app, session);
  add_scale(app, session);
  add_delete(app, session);
  add_hosts(app, session);
  add_rollout(app, session);
  add_ready(app, session);
}

}  // namespace ordinald::ctl
