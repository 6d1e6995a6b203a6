#include "agent/ctl/set_units.hpp"

namespace ordinald::ctl {

Result<void> follow_set(Session& /*session*/, const ClaimSet& /*before*/, const ClaimSet& /*after*/) { return mount::success(); }

}  // namespace ordinald::ctl
