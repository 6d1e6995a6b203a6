#include "agent/repairs.hpp"

#include <algorithm>
#include <set>

#include "agent/attachment.hpp"
#include "agent/holds.hpp"
#include "agent/reconciler.hpp"
#include "agent/record_recovery.hpp"

namespace ordinald::agent {

void Repairs::round(const std::stop_token& stop) {
  for (const auto part : {&Repairs::finish_deletions, &Repairs::forget_unmade, &Repairs::recover_records, &Repairs::release_forgotten,
                          &Repairs::detach_leftovers}) {
    (this->*part)(stop);
  }
  if (!stop.stop_requested()) {
    core_.repairs.round_ended();
  }
}

void Repairs::finish_deletions(const std::stop_token& stop) {
  for (const auto& record : core_.records->all()) {
    if (!record->deleting || stop.stop_requested()) {
      continue;
    }
    const auto guard = locks_.try_acquire(record->id, "a repair");
    if (!guard) {
      continue;
    }
    if (auto removed = provisioner_.remove(record->id); !removed) {
      core_.log->warn("volume {}: its delete was interrupted and can't be finished yet: {}", record->id, removed.error().message);
    } else {
      core_.repairs.repaired("delete-finished", "volume " + record->id + ": its delete was interrupted, and is finished");
    }
  }
}

/// A create that never was acknowledged and that no call is repeating: nobody knows the id, and nothing was ever written to it.
void Repairs::forget_unmade(const std::stop_token& stop) {
  for (const auto& record : core_.records->all()) {
    if (record->provisioned || record->deleting || stop.stop_requested()) {
      continue;
    }
    const auto by_name = locks_.try_acquire(create_key(record->name), "a repair");
    const auto by_id = locks_.try_acquire(record->id, "a repair");
    const auto now = core_.records->find(record->id);
    if (!by_name || !by_id || now == nullptr || now->provisioned) {
      continue;
    }
    if (auto removed = provisioner_.remove(record->id); !removed) {
      core_.log->warn("volume {}: its create was interrupted and can't be taken back yet: {}", record->id, removed.error().message);
    } else {
      core_.repairs.repaired("create-undone", "volume " + record->id + " (" + record->name +
                                                  "): its create was interrupted and not repeated, and is taken back");
    }
  }
}

void Repairs::recover_records(const std::stop_token& stop) {
  std::set<std::string> lost;
  for (const auto& [id, damaged] : core_.records->damaged()) {
    if (damaged.lost && is_volume_id(id)) {
      lost.insert(id);
    }
  }
  for (const PoolView& view : core_.view_pools()) {
    for (const mount::PoolImage& image : view.usage.images) {
      const std::string path = view.pool->directory + "/" + image.file;
      if (image.file.starts_with('.')) {
        remove_half_made(view, image.file);
        continue;
      }
      if (!is_volume_id(image.volume_id)) {
        std::string message = "pool " + view.pool->name + ": ";
        message.append(path).append(" has no mark of a volume; if nobody needs it: rm ").append(path);
        core_.repairs.reported(message);
      } else if (core_.records->find(image.volume_id) == nullptr && !core_.records->find_damaged(image.volume_id)) {
        lost.insert(image.volume_id);
      }
    }
  }
  for (const std::string& id : lost) {
    if (stop.stop_requested()) {
      return;
    }
    const auto guard = locks_.try_acquire(id, "a repair");
    if (!guard || core_.records->find(id) != nullptr) {
      continue;
    }
    auto kernel = core_.kernels.for_volume(id);
    auto recovered = kernel ? recover_record(core_, *kernel.value(), id) : Result<bool>{kernel.error()};
    if (!recovered) {
      core_.log->warn("volume {}: its record can't be made anew yet: {}", id, recovered.error().message);
    }
  }
}

/// `.<id>.img.new`: never had its name, so never was anybody's. Where there is a record, that volume's create or delete sees to it.
void Repairs::remove_half_made(const PoolView& view, const std::string& file) {
  constexpr std::string_view ending = ".img.new";
  const std::string id = file.substr(1, file.size() - 1 - ending.size());
  const auto guard = locks_.try_acquire(id, "a repair");
  if (!is_volume_id(id) || !guard || core_.records->find(id) != nullptr || core_.records->find_damaged(id)) {
    return;
  }
  const bool has_image = std::ranges::any_of(view.usage.images, [&](const mount::PoolImage& image) { return image.file == id + ".img"; });
  auto kernel = core_.kernels.for_volume(id);
  if (has_image || !kernel) {
    return;
  }
  if (auto removed = core_.pools.at(view.pool->name)->remove(*kernel.value(), mount::PoolVolume{.id = id}); !removed) {
    core_.log->warn("{}", removed.error().message);
  } else {
    core_.repairs.repaired("half-made-removed",
                           "pool " + view.pool->name + ": " + file + ", left by a create that was interrupted, is removed");
  }
}

/// Where the path itself is gone, nobody asks for it any more: such a hold is ended unasked.
void Repairs::release_forgotten(const std::stop_token& stop) {
  for (const auto& [id, known] : core_.ledger->all()) {
    if (!known.device || (known.publications.empty() && known.found.empty()) || stop.stop_requested()) {
      continue;
    }
    const auto guard = locks_.try_acquire(id, "a repair");
    auto kernel = core_.kernels.for_volume(id);
    if (!guard || !kernel) {
      continue;
    }
    VolumeState state = core_.ledger->state(id);
    if (auto released = release_gone_holds(core_, *kernel.value(), id, state, GoneMeans::path_is_gone); !released) {
      core_.log->warn("{}", released.error().message);
    }
  }
}

/// A crash between attach and ledger leaves a loop that no call may ever ask for again.
void Repairs::detach_leftovers(const std::stop_token& stop) {
  auto kernel = core_.kernels.for_volume("node");
  const auto loops = kernel ? kernel.value()->loops() : Result<std::vector<mount::LoopEntry>>{kernel.error()};
  if (!loops) {
    core_.log->warn("loop devices can't be looked at: {}", loops.error().message);
    return;
  }
  for (const mount::LoopEntry& loop : loops.value()) {
    if (stop.stop_requested()) {
      return;
    }
    const std::string id = volume_of(core_, loop);
    if (id.empty()) {
      for (const PoolConfig& pool : core_.config.pools) {
        if (loop.backing.starts_with(pool.directory + "/") && loop.backing.ends_with(".img")) {
          core_.repairs.reported(loop.path + " has " + loop.backing + (loop.deleted ? ", which is deleted" : "") +
                                 ", which is no volume of ours: if nobody uses it, losetup -d " + loop.path);
        }
      }
      continue;
    }
    const auto guard = locks_.try_acquire(id, "a repair");
    if (!guard || core_.ledger->state(id).device || core_.ledger->state(id).in_use()) {
      continue;
    }
    const auto detached = detach_leftover(id);
    if (!detached) {
      core_.log->warn("volume {}: {}, which no call uses, can't be taken away: {}", id, loop.path, detached.error().message);
    } else if (detached.value()) {
      core_.repairs.repaired("loop-detached", "volume " + id + ": " + loop.path + ", which no call uses, is taken away");
    }
  }
}

/// False: it is not ours to take, or in use somewhere.
Result<bool> Repairs::detach_leftover(const std::string& id) {
  TRY(const auto kernel, core_.kernels.for_volume(id));
  TRY(const VolumeState state, known_state(core_, *kernel, id));
  if (!state.device) {
    return false;
  }
  TRY(const auto pins, kernel->pins(*state.device));
  TRY(const auto table, kernel->mount_table());
  bool mounted = !pins.empty();
  for (const mount::MountEntry& entry : table) {
    mounted = mounted || entry.device == state.device->number || entry.source == state.device->path;
  }
  if (!state.device->by_agent || mounted) {
    core_.repairs.reported("volume " + id + " is attached as " + state.device->path + " and was not staged by this agent" +
                           (mounted ? ", but is mounted: umount it, then " : ": if nobody uses it, ") + "losetup -d " + state.device->path);
    return false;
  }
  TRYV(kernel->detach(*state.device));
  return true;
}

}  // namespace ordinald::agent
