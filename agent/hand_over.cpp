#include "agent/hand_over.hpp"

#include <algorithm>

namespace ordinald::agent {
namespace {

/// The names under which a pod's control group goes.
std::vector<std::string> cgroup_names(const std::string& pod_uid) {
  std::string with_underscores = pod_uid;
  std::ranges::replace(with_underscores, '-', '_');
  return {"pod" + pod_uid, "*-pod" + with_underscores + ".slice"};
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
  for (const Tenure& tenure : before) {
    const std::string& uid = tenure.holder.pod_uid;
    if (uid.empty() || uid == next.pod_uid || tenure.boot_id != core.boot_id || core.gone_holders.contains(uid)) {
      continue;
    }
    mount::CgroupQuery query{.names = cgroup_names(uid), .device = *state.device, .filesystem = 0};
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
    if (!found.found) {
      core.gone_holders.insert(uid);
    }
  }
  return mount::success();
}

}  // namespace ordinald::agent
