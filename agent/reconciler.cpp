#include "agent/reconciler.hpp"

#include <algorithm>
#include <map>
#include <set>

#include "agent/clock_text.hpp"
#include "agent/former_pools.hpp"
#include "agent/holds.hpp"
#include "agent/path_words.hpp"

namespace ordinald::agent {
namespace {

/// The topmost mount at each path.
using TopMounts = std::map<std::string, mount::MountEntry>;

bool is_filesystem_of(const VolumeState& state, const mount::MountEntry& entry) {
  // The device number of a btrfs is anonymous; its source names the device.
  return entry.device == state.device->number || (entry.fs_type == "btrfs" && entry.source == state.device->path);
}

bool stage_is_there(const VolumeState& state, const Stage& stage, const TopMounts& mounts) {
  if (stage.block) {
    return true;  // nothing is mounted; the device is compared when it is used
  }
  const auto found = mounts.find(stage.path);
  return found != mounts.end() && is_filesystem_of(state, found->second);
}

bool publication_is_there(const VolumeState& state, const Publication& publication, const TopMounts& mounts) {
  const auto found = mounts.find(publication.target);
  if (found == mounts.end()) {
    return false;
  }
  if (publication.block) {
    // A bound device node shows as a file of devtmpfs. It stays what it is when its device goes, and another is attached at the next stage.
    return file_of(found->second.root) == file_of(state.device->path) || found->second.fs_type == "devtmpfs";
  }
  return is_filesystem_of(state, found->second);
}

/// Of which volume's device a mount is; empty: of none of ours.
class LoopVolumes {
 public:
  LoopVolumes(const Core& core, const std::vector<mount::LoopEntry>& loops) {
    for (const mount::LoopEntry& loop : loops) {
      if (std::string id = volume_of(core, loop); !id.empty()) {
        const auto is_here = [&](const PoolConfig& pool) { return loop.backing == pool.directory + "/" + id + ".img"; };
        if (std::ranges::any_of(core.config.pools, is_here)) {
          attached_.insert(id);
        }
        by_number_[loop.number] = id;
        by_name_[file_of(loop.path)] = std::move(id);
      }
    }
  }
  [[nodiscard]] bool empty() const { return by_number_.empty(); }
  [[nodiscard]] bool has(const std::string& id) const { return attached_.contains(id); }
  /// The volumes whose image in a pool, and not a copy elsewhere, has a device.
  [[nodiscard]] const std::set<std::string>& attached() const { return attached_; }

  [[nodiscard]] std::string of(const mount::MountEntry& entry, bool& block) const {
    block = false;
    if (entry.root == "/") {  // else a part of it, that somebody has bound: no stage or publication of ours
      if (const auto found = by_number_.find(entry.device); found != by_number_.end()) {
        return found->second;
      }
      const auto found = by_name_.find(file_of(entry.source));
      return entry.fs_type == "btrfs" && found != by_name_.end() ? found->second : std::string{};
    }
    // A bound device node shows as the file of that name in devtmpfs.
    block = true;
    const auto found = by_name_.find(file_of(entry.root));
    const bool node = entry.fs_type == "devtmpfs" && entry.root == "/" + file_of(entry.root);
    return node && found != by_name_.end() ? found->second : std::string{};
  }

 private:
  std::map<std::uint64_t, std::string> by_number_;
  std::map<std::string, std::string> by_name_;
  std::set<std::string> attached_;
};

bool is_read_only(const mount::MountEntry& entry) { return ("," + entry.options + ",").find(",ro,") != std::string::npos; }

/// A full run directory must not keep the agent from starting.
void keep(Core& core, const std::string& id, const VolumeState& state) {
  if (const auto kept = core.ledger->keep(id, state); !kept) {
    core.log->warn("{}; what was found holds all the same, and is written with the volume's next change; make room in {}",
                   kept.error().message, core.config.run_dir);
  }
}

/// Drops from the ledger what is mounted no more.
void drop_gone(Core& core, mount::Kernel& kernel, const LoopVolumes& owners, const TopMounts& mounts) {
  for (const auto& [id, state] : core.ledger->all()) {
    VolumeState kept = state;
    std::erase_if(kept.found, [&](const FoundMount& found) { return !mounts.contains(found.path); });
    if (!owners.has(id)) {
      kept.forget_ready();
    }
    if (!state.device) {
      if (!kept.in_use() && !owners.has(id)) {
        kept.past_lost.clear();  // nobody can have it any more
      }
      if (kept.found.size() != state.found.size() || kept.stages.size() != state.stages.size() || kept.past_lost != state.past_lost) {
        keep(core, id, kept);
      }
      continue;
    }
    for (const Publication& publication : state.publications) {
      if (!publication_is_there(state, publication, mounts) && !holder_has_it(kernel, state, publication.holder)) {
        end_publication(kept, publication.target, "target gone", core.boot_id);
        core.repairs.repaired("hold-released", "volume " + id + ": its publication to " + to_string(publication.holder) + " at " +
                                                   publication.target + " is not mounted any more, and is dropped");
      }
    }
    std::erase_if(kept.stages, [&](const Stage& stage) {
      const bool gone = !stage_is_there(state, stage, mounts);
      if (gone) {
        core.repairs.repaired("stage-dropped", "volume " + id + ": it is not mounted at its staging path " + stage.path +
                                                   " any more; staging it again puts it back");
        kept.alive_options = stage.options_digest.empty() ? kept.alive_options : stage.options_digest;
      }
      return gone;
    });
    if (kept.stages.size() != state.stages.size() || kept.publications.size() != state.publications.size() ||
        kept.found.size() != state.found.size()) {
      keep(core, id, kept);
    }
  }
}

/// Finds what is mounted of volumes of which the ledger knows nothing. `told`: those of which it knew something at first.
void find_lost(Core& core, const LoopVolumes& owners, const TopMounts& mounts, const std::map<std::string, VolumeState>& told) {
  const auto known = core.ledger->all();
  const std::string now = utc_text(std::chrono::system_clock::now());
  std::map<std::string, VolumeState> found;
  for (const auto& [path, entry] : mounts) {
    bool block = false;
    const std::string id = owners.of(entry, block);
    const auto state = known.find(id);
    // A path that is another volume's has the node of a device that went away, and whose number this volume's has got.
    const std::string owner = core.ledger->owner_of(path, id, block ? Ledger::Owns::also_found : Ledger::Owns::by_a_call);
    if (id.empty() || !owner.empty() || (state != known.end() && (state->second.device || !state->second.found.empty()))) {
      continue;
    }
    // What else the ledger has of it, such as who had it before, stays.
    VolumeState& entry_of = found.try_emplace(id, state == known.end() ? VolumeState{} : state->second).first->second;
    entry_of.found.push_back(FoundMount{
        .path = path, .block = block, .read_only = is_read_only(entry), .fs_type = block ? std::string{} : entry.fs_type, .since = now});
    entry_of.past_lost = now;
    std::string message = "volume " + id + ": it is mounted at ";
    message.append(path).append(
        ", of which the ledger knows nothing; it counts as held until that is unpublished, or staged or published there again");
    core.repairs.repaired("mount-found", message);
  }
  // That a raw block device is staged shows by its loop alone, whether it is published or not. A crash amid a stage can have left that,
  // too: it is staged anew then, or unstaged, and until then nobody else's.
  for (const std::string& id : owners.attached()) {
    const auto record = core.records->find(id);
    const auto mounted = found.find(id);
    const bool as_filesystem =
        mounted != found.end() && std::ranges::any_of(mounted->second.found, [](const FoundMount& each) { return !each.block; });
    if (!told.contains(id)) {
      found[id].past_lost = now;  // somebody may have it where our mount table doesn't tell
    }
    if (told.contains(id) || as_filesystem || record == nullptr || record->content != Content::raw || record->deleting) {
      continue;
    }
    found[id].stages.push_back(Stage{.path = std::string{unknown_path},
                                     .block = true,
                                     .mode = AccessMode::single_node_writer,
                                     .fs_type = {},
                                     .flags_digest = {},
                                     .options_digest = {},
                                     .read_only = false,
                                     .since = now});
    core.repairs.repaired("device-found", "volume " + id +
                                              ": it is attached, of which the ledger knows nothing; it counts as staged as a raw block "
                                              "device until it is published, staged or unstaged again");
  }
  for (const auto& [id, state] : found) {
    keep(core, id, state);
  }
}

}  // namespace

std::string volume_of(const Core& core, const mount::LoopEntry& loop) {
  constexpr std::string_view ending = ".img";
  std::string name = file_of(loop.backing);
  if (!name.ends_with(ending)) {
    return {};
  }
  name.resize(name.size() - ending.size());
  const bool known = is_volume_id(name) && (core.records->find(name) != nullptr || core.records->find_damaged(name));
  return known ? name : std::string{};
}

Result<void> reconcile(Core& core) {
  core.former_pools = find_former_pools(core);
  for (const std::string& file : core.ledger->unreadable()) {
    core.log->error("the ledger's {}; what is mounted counts as held by somebody unknown", file);
  }
  TRY(const auto kernel, core.kernels.for_volume("node"));
  if (const auto groups = kernel->cgroup_users({}); !groups || !groups.value().visible) {
    core.log->warn(
        "the host's control groups are not at /sys/fs/cgroup: whether a deleted pod's processes still have a volume can't be told{}",
        groups ? "" : ": " + groups.error().message);
  } else if (groups.value().unseen > 0) {
    core.log->warn(
        "not all of the host's processes can be looked into (run the agent with the host's pids and CAP_SYS_PTRACE): those of a deleted "
        "pod "
        "that can't hold its volume until its control group is gone");
  }
  TRY(const auto loops, kernel->loops());
  const LoopVolumes owners{core, loops};
  if (core.ledger->all().empty() && owners.empty()) {
    return mount::success();
  }
  TRY(auto table, kernel->mount_table());
  TopMounts mounts;
  for (mount::MountEntry& entry : table) {
    mounts[entry.mount_point] = std::move(entry);
  }
  const auto told = core.ledger->all();
  drop_gone(core, *kernel, owners, mounts);
  find_lost(core, owners, mounts, told);
  return mount::success();
}

}  // namespace ordinald::agent
