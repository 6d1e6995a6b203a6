#include "agent/hand_over.hpp"

#include <algorithm>
#include <set>

namespace ordinald::agent {
namespace {

/// The names under which its control group goes.
std::vector<std::string> cgroup_names(const Holder& holder) {
  std::vector<std::string> names;
  if (!holder.pod_uid.empty()) {
    std::string with_underscores = holder.pod_uid;
    std::ranges::replace(with_underscores, '-', '_');
    names.insert(names.end(), {"pod" + holder.pod_uid, "*-pod" + with_underscores + ".slice"});
  }
  if (!holder.unit.empty()) {
    // systemd puts a _ before a name that could be a file of the hierarchy's own, such as memory.service.
    names.insert(names.end(), {holder.unit, "_" + holder.unit});
  }
  return names;
}

std::string describe(const mount::Pin& user) {
  return "process " + std::to_string(user.pid) + " (" + user.command + ") has it at " + user.mount_point;
}

Error still_has_it(const Tenure& before, const mount::CgroupUsers& found) {
  std::string who;
  constexpr std::size_t most = 3;
  for (std::size_t i = 0; i < std::min(most, found.users.size()); ++i) {
    who += (i == 0 ? ": " : "; ") + describe(found.users[i]);
  }
  if (found.users.size() > most) {
    who += "; and " + std::to_string(found.users.size() - most) + " more";
  }
  if (found.unseen > 0) {
    who += "; " + std::to_string(found.unseen) + " of its processes can't be looked into, and count (run the agent with the host's pids)";
  }
  return mount::make_error(ErrorCode::failed_precondition, to_string(before.holder) + " had it at " + before.target + " from " +
                                                               before.from + " to " + before.to + " (" + before.ended +
                                                               "), and its processes still do" + who +
                                                               ". Wait for them to end, or end them; then call again");
}

}  // namespace

Result<void> check_hand_over(Core& core, mount::Kernel& kernel, const std::string& id, VolumeState& state, const Holder& next) {
  std::vector<Tenure> before = state.past;
  if (const auto record = core.records->find(id)) {
    before.insert(before.end(), record->history.begin(), record->history.end());
  }
  std::set<std::vector<std::string>> looked_for;
  for (const Tenure& tenure : before) {
    // A uid never comes again, so that a pod that is gone is gone for good; a unit is started anew under its name.
    const std::string uid = tenure.holder.unit.empty() ? tenure.holder.pod_uid : std::string{};
    mount::CgroupQuery query{.names = cgroup_names(tenure.holder), .device = *state.device, .filesystem = 0};
    if (query.names.empty() || tenure.boot_id != core.boot_id || is_same(tenure.holder, next) || core.gone_holders.contains(uid) ||
        !looked_for.insert(query.names).second) {
      continue;
    }
    if (state.fs_type == "btrfs" && !state.stages.empty()) {
      TRY(const mount::PathInfo stage, kernel.inspect_path(state.stages.front().path));
      query.filesystem = stage.device;
    }
    TRY(const mount::CgroupUsers found, kernel.cgroup_users(query));
    if (!found.visible) {
      core.log->warn(
          "volume {}: it goes from {} to {} unchecked: the host's control groups are not at /sys/fs/cgroup, so that processes of the "
          "first that still write can't be found",
          id, to_string(tenure.holder), to_string(next));
      continue;
    }
    if (!found.users.empty() || found.unseen > 0) {
      return still_has_it(tenure, found);
    }
    if (!found.found && !uid.empty()) {
      core.gone_holders.insert(uid);
    }
  }
  return mount::success();
}

}  // namespace ordinald::agent
