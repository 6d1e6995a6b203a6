#include "agent/reconciler.hpp"

#include <map>

#include "agent/clock_text.hpp"
#include "agent/holds.hpp"

namespace ordinald::agent {
namespace {

/// The topmost mount at each path.
using Mounts = std::map<std::string, mount::MountEntry>;

std::string base_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

bool is_filesystem_of(const VolumeState& state, const mount::MountEntry& entry) {
  // The device number of a btrfs is anonymous; its source names the device.
  return entry.device == state.device->number || (entry.fs_type == "btrfs" && entry.source == state.device->path);
}

bool stage_is_there(const VolumeState& state, const Stage& stage, const Mounts& mounts) {
  if (stage.block) {
    return true;  // nothing is mounted; the device is compared when it is used
  }
  const auto found = mounts.find(stage.path);
  return found != mounts.end() && is_filesystem_of(state, found->second);
}

bool publication_is_there(const VolumeState& state, const Publication& publication, const Mounts& mounts) {
  const auto found = mounts.find(publication.target);
  if (found == mounts.end()) {
    return false;
  }
  if (publication.block) {
    // A bound device node shows as a file of devtmpfs. It stays what it is when its device goes, and another is attached at the next stage.
    return base_name(found->second.root) == base_name(state.device->path) || found->second.fs_type == "devtmpfs";
  }
  return is_filesystem_of(state, found->second);
}

/// Of which volume's device a mount is; empty: of none of ours.
class Owners {
 public:
  Owners(const Core& core, const std::vector<mount::LoopEntry>& loops) {
    for (const mount::LoopEntry& loop : loops) {
      if (std::string id = volume_of(core, loop); !id.empty()) {
        by_number_[loop.number] = id;
        by_name_[base_name(loop.path)] = std::move(id);
      }
    }
  }
  [[nodiscard]] bool empty() const { return by_number_.empty(); }

  [[nodiscard]] std::string of(const mount::MountEntry& entry, bool& block) const {
    block = false;
    if (entry.root == "/") {  // else a part of it, that somebody has bound: no stage or publication of ours
      if (const auto found = by_number_.find(entry.device); found != by_number_.end()) {
        return found->second;
      }
      const auto found = by_name_.find(base_name(entry.source));
      return entry.fs_type == "btrfs" && found != by_name_.end() ? found->second : std::string{};
    }
    // A bound device node shows as the file of that name in devtmpfs.
    block = true;
    const auto found = by_name_.find(base_name(entry.root));
    const bool node = entry.fs_type == "devtmpfs" && entry.root == "/" + base_name(entry.root);
    return node && found != by_name_.end() ? found->second : std::string{};
  }

 private:
  std::map<std::uint64_t, std::string> by_number_;
  std::map<std::string, std::string> by_name_;
};

bool is_read_only(const mount::MountEntry& entry) { return ("," + entry.options + ",").find(",ro,") != std::string::npos; }

/// Drops from the ledger what is mounted no more.
Result<void> drop_gone(Core& core, mount::Kernel& kernel, const Mounts& mounts) {
  for (const auto& [id, state] : core.ledger->all()) {
    VolumeState kept = state;
    std::erase_if(kept.found, [&](const FoundMount& found) { return !mounts.contains(found.path); });
    if (!state.device) {
      if (kept.found.size() != state.found.size()) {
        TRYV(core.ledger->save(id, kept));
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
      }
      return gone;
    });
    if (kept.stages.size() != state.stages.size() || kept.publications.size() != state.publications.size() ||
        kept.found.size() != state.found.size()) {
      TRYV(core.ledger->save(id, kept));
    }
  }
  return mount::success();
}

/// Finds what is mounted of volumes of which the ledger knows nothing.
Result<void> find_lost(Core& core, const Owners& owners, const Mounts& mounts) {
  const auto known = core.ledger->all();
  std::map<std::string, VolumeState> found;
  for (const auto& [path, entry] : mounts) {
    bool block = false;
    const std::string id = owners.of(entry, block);
    const auto state = known.find(id);
    // A path that is another volume's has the node of a device that went away, and whose number this volume's has got.
    const std::string owner = core.ledger->owner_of(path);
    if (id.empty() || (!owner.empty() && owner != id) || (state != known.end() && (state->second.device || !state->second.found.empty()))) {
      continue;
    }
    // What else the ledger has of it, such as who had it before, stays.
    VolumeState& entry_of = found.try_emplace(id, state == known.end() ? VolumeState{} : state->second).first->second;
    entry_of.found.push_back(FoundMount{.path = path,
                                        .block = block,
                                        .read_only = is_read_only(entry),
                                        .fs_type = block ? std::string{} : entry.fs_type,
                                        .since = utc_text(std::chrono::system_clock::now())});
    std::string message = "volume " + id + ": it is mounted at ";
    message.append(path).append(
        ", of which the ledger knows nothing; it counts as held until that is unpublished, or staged or published there again");
    core.repairs.repaired("mount-found", message);
  }
  for (const auto& [id, state] : found) {
    TRYV(core.ledger->save(id, state));
  }
  return mount::success();
}

}  // namespace

std::string volume_of(const Core& core, const mount::LoopEntry& loop) {
  constexpr std::string_view ending = ".img";
  std::string name = base_name(loop.backing);
  if (!name.ends_with(ending)) {
    return {};
  }
  name.resize(name.size() - ending.size());
  const bool known = is_volume_id(name) && (core.records->find(name) != nullptr || core.records->find_damaged(name));
  return known ? name : std::string{};
}

Result<void> reconcile(Core& core) {
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
  const Owners owners{core, loops};
  if (core.ledger->all().empty() && owners.empty()) {
    return mount::success();
  }
  TRY(auto table, kernel->mount_table());
  Mounts mounts;
  for (mount::MountEntry& entry : table) {
    mounts[entry.mount_point] = std::move(entry);
  }
  TRYV(drop_gone(core, *kernel, mounts));
  return find_lost(core, owners, mounts);
}

}  // namespace ordinald::agent
