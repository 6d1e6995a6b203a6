#include "agent/reconciler.hpp"

#include <map>

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
  // A bound device node shows as the file of that name in devtmpfs.
  return publication.block ? base_name(found->second.root) == base_name(state.device->path) : is_filesystem_of(state, found->second);
}

}  // namespace

Result<void> reconcile(Core& core) {
  for (const std::string& file : core.ledger->unreadable()) {
    core.log->error("the ledger's {}; what is mounted is found again when it is asked for", file);
  }
  const auto states = core.ledger->all();
  if (states.empty()) {
    return mount::success();
  }
  TRY(const auto kernel, core.kernels.for_volume("node"));
  TRY(auto table, kernel->mount_table());
  Mounts mounts;
  for (mount::MountEntry& entry : table) {
    mounts[entry.mount_point] = std::move(entry);
  }
  for (const auto& [id, state] : states) {
    if (!state.device) {
      continue;
    }
    VolumeState kept = state;
    std::erase_if(kept.publications, [&](const Publication& publication) {
      const bool gone = !publication_is_there(state, publication, mounts);
      if (gone) {
        core.log->warn("volume {}: its publication to {} at {} is not mounted any more, and is dropped", id, to_string(publication.holder),
                       publication.target);
      }
      return gone;
    });
    std::erase_if(kept.stages, [&](const Stage& stage) {
      const bool gone = !stage_is_there(state, stage, mounts);
      if (gone) {
        core.log->warn("volume {}: it is not mounted at its staging path {} any more; staging it again puts it back", id, stage.path);
      }
      return gone;
    });
    if (kept.stages.size() != state.stages.size() || kept.publications.size() != state.publications.size()) {
      TRYV(core.ledger->save(id, kept));
    }
  }
  return mount::success();
}

}  // namespace ordinald::agent
