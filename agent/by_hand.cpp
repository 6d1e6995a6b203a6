#include "agent/by_hand.hpp"

#include <algorithm>
#include <iterator>
#include <map>
#include <set>

#include "agent/hand_over.hpp"
#include "agent/image_label.hpp"
#include "agent/path_words.hpp"
#include "agent/refuse.hpp"

namespace ordinald::agent {
namespace {

constexpr const char* nobody_known = "unknown";

/// A volume's mounts by the mount table alone: no device is asked.
class VolumeMounts {
 public:
  VolumeMounts(const VolumeState& state, const std::vector<mount::MountEntry>& table) : state_(state) {
    for (const mount::MountEntry& entry : table) {
      topmost_[entry.mount_point] = &entry;
    }
  }

  [[nodiscard]] bool has(const std::string& path, bool block) const {
    const auto found = topmost_.find(path);
    if (found == topmost_.end() || !state_.device) {
      return found != topmost_.end();
    }
    const mount::MountEntry& entry = *found->second;
    return block ? entry.fs_type == "devtmpfs" && file_of(entry.root) == file_of(state_.device->path)
                 : entry.device == state_.device->number || entry.source == state_.device->path;
  }

  /// Nothing: it is not known on what device it is.
  [[nodiscard]] std::optional<mount::CgroupQuery> query() const {
    mount::CgroupQuery query;
    if (state_.device) {
      query.device = *state_.device;
    }
    for (const FoundMount& found : state_.found) {
      if (const auto at = topmost_.find(found.path); !state_.device && at != topmost_.end() && !found.block) {
        query.device.path = at->second->source;
        query.device.number = at->second->device;
      }
    }
    query.btrfs_uuid = state_.fs_type == "btrfs" ? state_.fs_uuid : std::string{};
    return query.device.number == 0 ? std::nullopt : std::optional{query};
  }

 private:
  const VolumeState& state_;
  std::map<std::string, const mount::MountEntry*> topmost_;
};

/// Fills in who of the hold's processes has the volume.
Result<bool> look_at(mount::Kernel& kernel, const mount::CgroupQuery& volume, Hold& hold) {
  mount::CgroupQuery query = volume;
  query.names = group_names(hold.holder);
  query.any = hold.block;
  if (query.names.empty()) {
    return true;
  }
  TRY(mount::CgroupUsers users, kernel.cgroup_users(query));
  hold.processes = std::move(users.users);
  hold.unseen = users.unseen;
  return users.visible;
}

std::string who_has_it(const Hold& hold) {
  std::string text = describe(hold.processes);
  if (hold.unseen > 0) {
    text += text.empty() ? "" : "; ";
    text += std::to_string(hold.unseen) + " of its processes can't be looked into, and count (run the agent with the host's pids)";
  }
  return text;
}

}  // namespace

std::string describe(const std::vector<mount::Pin>& processes) {
  constexpr std::size_t most = 5;
  std::string text;
  for (std::size_t i = 0; i < std::min(most, processes.size()); ++i) {
    const mount::Pin& each = processes[i];
    text += (i == 0 ? "" : "; ") + ("process " + std::to_string(each.pid)) + " (" + each.command + ") has it at " + each.mount_point;
  }
  if (processes.size() > most) {
    text += "; and " + std::to_string(processes.size() - most) + " more";
  }
  return text;
}

bool is_told_apart(const Holds& all, const Hold& hold) {
  return all.unchecked.empty() && !hold.unknown_holder && !group_names(hold.holder).empty();
}

bool is_named(const Holder& holder, const std::string& text) {
  const bool by_name = !holder.pod_name.empty() && text == holder.pod_namespace + "/" + holder.pod_name;
  return by_name || (!holder.pod_uid.empty() && text == holder.pod_uid) || (!holder.unit.empty() && text == holder.unit) ||
         (is_unnamed(holder) && (text == nobody_known || text == "/"));
}

Result<Holds> ByHand::holds(const std::string& id) const {
  const VolumeState state = core_.ledger->state(id);
  TRY(const auto kernel, core_.kernels.for_volume("node"));  // not the volume's: that may hang
  TRY(const auto table, kernel->mount_table());
  const VolumeMounts mounts{state, table};
  Holds answer;
  for (const Publication& held : state.publications) {
    answer.holds.push_back(
        {.holder = held.holder, .target = held.target, .since = held.since, .mounted = mounts.has(held.target, held.block)});
  }
  for (const FoundMount& found : state.found) {
    answer.holds.push_back(
        {.unknown_holder = true, .target = found.path, .since = found.since, .mounted = mounts.has(found.path, found.block)});
  }
  const auto query = mounts.query();
  if (!query) {
    answer.unchecked = state.in_use() || !state.past.empty() ? "on what device it is is not known now" : "";
    return answer;
  }
  std::vector<Tenure> past = state.past;
  if (const auto record = core_.records->find(id)) {
    past.insert(past.end(), record->history.begin(), record->history.end());
  }
  const std::size_t published = answer.holds.size();
  for (const Tenure& tenure : past) {
    const bool known = std::ranges::any_of(answer.holds, [&](const Hold& hold) { return is_same(hold.holder, tenure.holder); });
    if (tenure.boot_id == core_.boot_id && !known && !group_names(tenure.holder).empty()) {
      answer.holds.push_back(
          {.holder = tenure.holder, .target = tenure.target, .since = tenure.from, .ended = tenure.ended, .block = tenure.block});
    }
  }
  std::set<std::int64_t> counted;
  for (Hold& hold : answer.holds) {
    TRY(const bool visible, look_at(*kernel, *query, hold));
    if (!visible) {
      answer.unchecked = "the host's control groups are not at /sys/fs/cgroup";
    }
    for (const mount::Pin& pin : hold.processes) {
      counted.insert(pin.pid);
    }
  }
  const auto over = std::remove_if(answer.holds.begin() + static_cast<std::ptrdiff_t>(published), answer.holds.end(),
                                   [](const Hold& hold) { return hold.processes.empty() && hold.unseen == 0; });
  answer.holds.erase(over, answer.holds.end());
  mount::CgroupQuery everybody = *query;
  everybody.names = {"/"};
  everybody.usual = usual_places(core_, id, state);
  TRY(mount::CgroupUsers users, kernel->cgroup_users(everybody));
  std::ranges::copy_if(users.users, std::back_inserter(answer.others), [&](const mount::Pin& pin) { return !counted.contains(pin.pid); });
  answer.past_lost = state.past_lost;
  return answer;
}

Result<std::vector<Hold>> ByHand::release(const std::string& id, const std::string& holder, const std::string& target) {
  TRY(const Holds held, holds(id));
  const auto is_meant = [&](const Hold& hold) {
    const bool named = hold.unknown_holder ? holder == nobody_known : is_named(hold.holder, holder);
    return hold.ended.empty() && named && (target.empty() || hold.target == target);
  };
  std::vector<Hold> released;
  std::string others;
  for (const Hold& hold : held.holds) {
    if (is_meant(hold)) {
      released.push_back(hold);
    } else {
      others +=
          (others.empty() ? "" : ", ") + (hold.unknown_holder ? std::string{nobody_known} : to_string(hold.holder)) + " at " + hold.target;
    }
  }
  if (released.empty()) {
    return mount::make_error(ErrorCode::not_found, "it is not held by " + holder + (target.empty() ? "" : " at " + target) + "; " +
                                                       (others.empty() ? "nobody holds it" : "held by " + others));
  }
  // All is looked at before anything is ended. A workload that keeps another target of the volume may well go on using that.
  for (const Hold& hold : released) {
    const bool keeps_another = std::ranges::any_of(held.holds, [&](const Hold& other) {
      return other.ended.empty() && !is_meant(other) && !hold.unknown_holder && !other.unknown_holder && is_same(other.holder, hold.holder);
    });
    if (keeps_another) {
      continue;
    }
    std::string who = who_has_it(hold);
    if (who.empty() && !is_told_apart(held, hold)) {
      who = describe(held.others);
    }
    if (!who.empty()) {
      return refuse("the hold of " + (hold.unknown_holder ? std::string{"somebody unknown"} : to_string(hold.holder)) + " at " +
                    hold.target + " can't be ended: " + who + ". End " + (hold.processes.size() == 1 ? "it" : "them") +
                    " first, then release it");
    }
  }
  for (const Hold& hold : released) {
    if (auto ended = publisher_.unpublish({.volume_id = id, .target_path = hold.target}, "released by hand"); !ended) {
      std::string who = describe(held.others);
      if (!who.empty()) {
        who.insert(0, "; ").append(": end that first");
      }
      return mount::Error{ended.error().code, "the hold at " + hold.target + " stays: " + ended.error().message + who,
                          ended.error().sys_errno};
    }
    core_.log->warn("volume {}: the hold of {} at {}, since {}, is ended by hand", id,
                    hold.unknown_holder ? std::string{"somebody unknown"} : to_string(hold.holder), hold.target, hold.since);
  }
  return released;
}

Result<std::string> ByHand::rebind(const std::string& id, const Claim& claim) {
  TRY(const auto known, core_.require(id));
  const VolumeState state = core_.ledger->state(id);
  for (const Publication& held : state.publications) {
    return refuse("it is held by " + to_string(held.holder) + " at " + held.target + " since " + held.since +
                  "; it can go to another claim once that is unpublished");
  }
  for (const FoundMount& found : state.found) {
    return refuse("it is held by somebody unknown at " + found.path + ", found at " + found.since +
                  "; it can go to another claim once that is unpublished");
  }
  for (const auto& other : core_.records->all()) {
    if (other->id != id && !other->deleting && other->claim == claim) {
      return mount::make_error(ErrorCode::already_exists, "volume " + other->id + " has the claim " + claim.name_space + "/" + claim.name +
                                                              "; rebind or delete that one first");
    }
  }
  VolumeRecord record = *known;
  if (record.claim == claim && !record.label_stale) {
    return std::string{};
  }
  // In the order that image_label.hpp draws.
  TRY(const auto kernel, core_.kernels.for_volume(id));
  record.label_stale = true;
  TRYV(core_.records->save(record));
  const Claim before = std::exchange(record.claim, Claim{});
  TRYV(write_label(core_, *kernel, record));
  record.claim = claim;
  TRYV(core_.records->save(record));
  std::string note;
  if (auto settled = settle_label(core_, *kernel, record)) {
    note = std::move(settled.value());
  } else {
    core_.log->warn("volume {}: it has its new claim, and its image is not labelled so yet: {}", id, settled.error().message);
  }
  core_.log->warn("volume {}: bound by hand to claim {}/{}, before to {}", id, claim.name_space, claim.name,
                  before.name.empty() ? std::string{"none"} : before.name_space + "/" + before.name);
  return note;
}

}  // namespace ordinald::agent
