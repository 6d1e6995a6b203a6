#include "agent/hand_over.hpp"

#include <algorithm>
#include <iterator>
#include <set>

#include "agent/access_rules.hpp"

namespace ordinald::agent {
namespace {

constexpr std::size_t most_named = 3;

std::string describe_one(const mount::Pin& user) {
  return "process " + std::to_string(user.pid) + " (" + user.command + ", mount namespace " + std::to_string(user.mount_namespace) +
         (user.mount_point.empty() ? ") runs" : ") has it at " + user.mount_point);
}

std::string describe_all(const std::vector<mount::Pin>& users) {
  std::string text;
  for (std::size_t i = 0; i < std::min(most_named, users.size()); ++i) {
    text += (i == 0 ? "" : "; ") + describe_one(users[i]);
  }
  return users.size() > most_named ? text + "; and " + std::to_string(users.size() - most_named) + " more" : text;
}

Error still_has_it(const Tenure& before, const mount::CgroupUsers& found) {
  const char* still =
      before.block ? "), and its processes still run, and may write to its raw device: " : "), and its processes still do: ";
  return mount::make_error(ErrorCode::failed_precondition, to_string(before.holder) + " had it at " + before.target + " from " +
                                                               before.from + " to " + before.to + " (" + before.ended + still +
                                                               describe(found) + ". Wait for them to end, or end them; then call again");
}

std::string how_it_ends(const std::string& id, const std::string& holder) {
  return ". When it ends it is unpublished; where nobody does that any more: ordinalctl release " + id + " --holder " + holder;
}

Result<mount::CgroupUsers> processes_in(mount::Kernel& kernel, const VolumeState& state, mount::CgroupQuery query) {
  query.device = *state.device;
  query.btrfs_uuid = state.fs_type == "btrfs" ? state.fs_uuid : std::string{};
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

/// Of those the ones that may be about still and keep it from the one that asks: each once, and nobody who has it by right.
std::vector<Tenure> possible_holders(const Core& core, const std::vector<Tenure>& all, const VolumeState& state, const Publication& asked) {
  const bool exclusive = !allows_several_targets(asked.mode);
  std::vector<Tenure> possible;
  for (const Tenure& tenure : all) {
    const auto is_its = [&](const auto& other) { return is_same(other.holder, tenure.holder); };
    if ((!exclusive && !tenure.exclusive) || is_its(asked) || std::ranges::any_of(state.publications, is_its) ||
        group_names(tenure.holder).empty() || core.gone_holders.contains(lasting_name(tenure.holder))) {
      continue;
    }
    if (const auto known = std::ranges::find_if(possible, is_its); known != possible.end()) {
      known->block = known->block || tenure.block;
    } else {
      possible.push_back(tenure);
    }
  }
  return possible;
}

/// With a lost ledger: whoever has it may have had it before.
Result<void> check_unknown_past(Core& core, mount::Kernel& kernel, const std::string& id, const VolumeState& state,
                                const Publication& asked) {
  if (is_unnamed(asked.holder) && core.ledger->state(id).found_at(asked.target) != nullptr) {
    return mount::success();
  }
  TRY(mount::CgroupUsers found, everybodys_processes(core, kernel, id, state, asked.target));
  if (found.unseen > 0) {
    core.log->warn(
        "volume {}: it goes to {}, and who had it before its ledger was lost is not known; not all of the host's processes could be looked "
        "into (run the agent with the host's pids and CAP_SYS_PTRACE), so that one that still writes may be missed",
        id, to_string(asked.holder));
  }
  if (!found.users.empty()) {
    TRY(const mount::CgroupUsers own, holders_processes(kernel, state, asked.holder));
    std::erase_if(found.users,
                  [&](const mount::Pin& user) { return std::ranges::find(own.users, user.pid, &mount::Pin::pid) != own.users.end(); });
  }
  if (found.users.empty()) {
    return mount::success();
  }
  return mount::make_error(ErrorCode::failed_precondition, "who had it before its ledger was lost (found at " + state.past_lost +
                                                               ") is not known, and processes that are not " + to_string(asked.holder) +
                                                               "'s have it: " + describe_all(found.users) +
                                                               ". Wait for them to end, or end them; then call again");
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

Result<mount::CgroupUsers> everybodys_processes(const Core& core, mount::Kernel& kernel, const std::string& id, const VolumeState& state,
                                                const std::string& target) {
  return state.device ? processes_in(kernel, state, {.names = {"/"}, .usual = usual_places(core, id, state, target)})
                      : Result<mount::CgroupUsers>{mount::CgroupUsers{}};
}

std::vector<std::string> usual_places(const Core& core, const std::string& id, const VolumeState& state, const std::string& target) {
  std::vector<std::string> places{target};
  std::ranges::transform(state.stages, std::back_inserter(places), &Stage::path);
  std::ranges::transform(state.publications, std::back_inserter(places), &Publication::target);
  std::ranges::transform(state.found, std::back_inserter(places), &FoundMount::path);
  std::ranges::transform(tenures(core, id, state), std::back_inserter(places), &Tenure::target);
  std::erase(places, std::string{});
  return places;
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
  return processes_in(kernel, state, {.names = std::move(names)});
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
  return text + how_it_ends(id, name_for_release(held.holder));
}

std::string what_keeps_found(const Core& core, mount::Kernel& kernel, const std::string& id, const VolumeState& state) {
  const auto found = everybodys_processes(core, kernel, id, state);
  const bool had = found && !found.value().users.empty();
  return ". Now " + (had ? describe_all(found.value().users) : std::string{"no process is known to have it"}) + how_it_ends(id, "unknown");
}

Result<bool> check_hand_over(Core& core, mount::Kernel& kernel, const std::string& id, const VolumeState& state, const Publication& asked) {
  const Holder& next = asked.holder;
  const std::vector<Tenure> all = tenures(core, id, state);
  const std::vector<Tenure> possible = possible_holders(core, all, state, asked);
  std::vector<std::string> names;
  for (const Tenure& tenure : possible) {
    std::ranges::copy(group_names(tenure.holder), std::back_inserter(names));
  }
  TRY(const mount::CgroupUsers any, names.empty() ? Result<mount::CgroupUsers>{mount::CgroupUsers{.visible = true}}
                                                  : processes_in(kernel, state, {.names = std::move(names)}));
  if (!any.visible) {
    core.log->warn(
        "volume {}: it goes from {} to {} unchecked: the host's control groups are not at /sys/fs/cgroup, so that processes of the first "
        "that still write can't be found",
        id, to_string(possible.front().holder), to_string(next));
  }
  for (const Tenure& tenure : possible) {
    // One by one only where any of them is about.
    TRY(const mount::CgroupUsers found, any.found ? processes_in(kernel, state, {.names = group_names(tenure.holder), .any = tenure.block})
                                                  : Result<mount::CgroupUsers>{any});
    if (!found.users.empty() || found.unseen > 0) {
      return still_has_it(tenure, found);
    }
    if (const std::string uid = lasting_name(tenure.holder); found.visible && !found.found && !uid.empty()) {
      core.gone_holders.insert(uid);
    }
  }
  if (allows_several_targets(asked.mode)) {
    return false;
  }
  if (!state.past_lost.empty()) {
    TRYV(check_unknown_past(core, kernel, id, state, asked));
  }
  return !all.empty() && !group_names(all.front().holder).empty() && !is_same(all.front().holder, next);
}

void name_bystanders(Core& core) {
  for (const HandOver& event : core.handed_over.take()) {
    name_bystanders_of(core, event);
  }
}

}  // namespace ordinald::agent
