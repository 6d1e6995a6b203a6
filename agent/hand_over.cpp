#include "agent/hand_over.hpp"

#include <algorithm>
#include <iterator>
#include <set>

namespace ordinald::agent {
namespace {

constexpr std::size_t most_named = 3;

std::string describe_one(const mount::Pin& user) {
  return "process " + std::to_string(user.pid) + " (" + user.command + ", mount namespace " + std::to_string(user.mount_namespace) +
         ") has it at " + user.mount_point;
}

std::string describe_all(const std::vector<mount::Pin>& users) {
  std::string text;
  for (std::size_t i = 0; i < std::min(most_named, users.size()); ++i) {
    text += (i == 0 ? "" : "; ") + describe_one(users[i]);
  }
  return users.size() > most_named ? text + "; and " + std::to_string(users.size() - most_named) + " more" : text;
}

Error still_has_it(const Tenure& before, const mount::CgroupUsers& found) {
  return mount::make_error(ErrorCode::failed_precondition, to_string(before.holder) + " had it at " + before.target + " from " +
                                                               before.from + " to " + before.to + " (" + before.ended +
                                                               "), and its processes still do: " + describe(found) +
                                                               ". Wait for them to end, or end them; then call again");
}

Result<mount::CgroupUsers> processes_in(mount::Kernel& kernel, const VolumeState& state, std::vector<std::string> groups) {
  mount::CgroupQuery query{.names = std::move(groups), .device = *state.device, .filesystem = 0};
  if (state.fs_type == "btrfs" && !state.stages.empty()) {
    TRY(const mount::PathInfo stage, kernel.inspect_path(state.stages.front().path));
    query.filesystem = stage.device;
  }
  return kernel.cgroup_users(query);
}

/// Who had it in this boot, the newest first.
std::vector<Tenure> tenures(const Core& core, const std::string& id, const VolumeState& state) {
  std::vector<Tenure> all;
  if (const auto record = core.records->find(id)) {
    all = record->history;
  }
  all.insert(all.end(), state.past.begin(), state.past.end());
  std::erase_if(all, [&](const Tenure& tenure) { return tenure.boot_id != core.boot_id; });
  std::ranges::reverse(all);
  return all;
}

/// A uid never comes again, so that a pod that is gone is gone for good; a unit is started anew under its name.
std::string lasting_name(const Holder& holder) { return holder.unit.empty() ? holder.pod_uid : std::string{}; }

/// Of those the ones that may be about still: each once, and not the one that asks.
std::vector<Tenure> possible_holders(const Core& core, const std::vector<Tenure>& all, const Holder& next) {
  std::vector<Tenure> possible;
  std::set<std::vector<std::string>> known;
  for (const Tenure& tenure : all) {
    auto names = group_names(tenure.holder);
    if (!names.empty() && !is_same(tenure.holder, next) && !core.gone_holders.contains(lasting_name(tenure.holder)) &&
        known.insert(std::move(names)).second) {
      possible.push_back(tenure);
    }
  }
  return possible;
}

void name_bystanders_of(const Core& core, const HandOver& event) {
  const VolumeState state = core.ledger->state(event.volume);
  const auto kernel = core.kernels.for_volume(event.volume);
  if (!state.device || !kernel) {
    return;
  }
  auto pins = kernel.value()->pins(*state.device);
  if (!pins) {
    core.log->info("volume {}: who else has it mounted can't be told: {}", event.volume, pins.error().message);
    return;
  }
  std::set<std::uint64_t> holders;
  for (const Publication& held : state.publications) {
    if (const auto found = holders_processes(*kernel.value(), state, held.holder)) {
      for (const mount::Pin& user : found.value().users) {
        holders.insert(user.mount_namespace);
      }
    }
  }
  std::erase_if(pins.value(), [&](const mount::Pin& pin) { return holders.contains(pin.mount_namespace); });
  if (!pins.value().empty()) {
    core.log->info("volume {}: it went to {}; others have it in a copy of the mount table, which keeps nobody from it: {}", event.volume,
                   event.to, describe_all(pins.value()));
  }
}

}  // namespace

std::vector<std::string> group_names(const Holder& holder) {
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

std::string describe(const mount::CgroupUsers& found) {
  std::string text = describe_all(found.users);
  if (found.unseen > 0) {
    text += (text.empty() ? "" : "; ") + std::to_string(found.unseen) +
            " of its processes can't be looked into, and count (run the agent with the host's pids, and with CAP_SYS_PTRACE)";
  }
  return text;
}

Result<mount::CgroupUsers> holders_processes(mount::Kernel& kernel, const VolumeState& state, const Holder& holder) {
  auto names = group_names(holder);
  if (names.empty() || !state.device) {
    return mount::CgroupUsers{};
  }
  return processes_in(kernel, state, std::move(names));
}

std::string what_keeps(mount::Kernel& kernel, const std::string& id, const VolumeState& state, const Publication& held) {
  std::string text = ". Now ";
  const auto found = holders_processes(kernel, state, held.holder);
  const auto pins = state.device ? kernel.pins(*state.device) : Result<std::vector<mount::Pin>>{std::vector<mount::Pin>{}};
  if (found && (!found.value().users.empty() || found.value().unseen > 0)) {
    text += describe(found.value());
  } else if (pins && !pins.value().empty()) {
    text += "none of the processes that have it is known to be the holder's: " + describe_all(pins.value());
  } else {
    text += "it is mounted there, and no process has it in a mount namespace of its own";
  }
  const bool named = held.holder.pod_uid.empty() && !held.holder.pod_name.empty();
  const std::string holder = named ? held.holder.pod_namespace + "/" + held.holder.pod_name : held.holder.pod_uid;
  return text + ". When it ends it is unpublished; where nobody does that any more: ordinalctl release " + id +
         (holder.empty() ? std::string{} : " --holder " + holder);
}

Result<bool> check_hand_over(Core& core, mount::Kernel& kernel, const std::string& id, const VolumeState& state, const Holder& next) {
  const std::vector<Tenure> all = tenures(core, id, state);
  const std::vector<Tenure> possible = possible_holders(core, all, next);
  std::vector<std::string> names;
  for (const Tenure& tenure : possible) {
    std::ranges::copy(group_names(tenure.holder), std::back_inserter(names));
  }
  TRY(const mount::CgroupUsers any,
      names.empty() ? Result<mount::CgroupUsers>{mount::CgroupUsers{.visible = true}} : processes_in(kernel, state, std::move(names)));
  if (!any.visible) {
    core.log->warn(
        "volume {}: it goes from {} to {} unchecked: the host's control groups are not at /sys/fs/cgroup, so that processes of the first "
        "that still write can't be found",
        id, to_string(possible.front().holder), to_string(next));
  }
  for (const Tenure& tenure : possible) {
    // One by one only where any of them is about.
    TRY(const mount::CgroupUsers found,
        any.found ? processes_in(kernel, state, group_names(tenure.holder)) : Result<mount::CgroupUsers>{any});
    if (!found.users.empty() || found.unseen > 0) {
      return still_has_it(tenure, found);
    }
    if (const std::string uid = lasting_name(tenure.holder); found.visible && !found.found && !uid.empty()) {
      core.gone_holders.insert(uid);
    }
  }
  return !all.empty() && !group_names(all.front().holder).empty() && !is_same(all.front().holder, next);
}

void name_bystanders(Core& core) {
  for (const HandOver& event : core.handed_over.take()) {
    name_bystanders_of(core, event);
  }
}

}  // namespace ordinald::agent
