#include "agent/repairs.hpp"

#include <algorithm>
#include <set>

#include "agent/adoption_words.hpp"
#include "agent/attachment.hpp"
#include "agent/deletion.hpp"
#include "agent/device_copy_name.hpp"
#include "agent/half_made.hpp"
#include "agent/holds.hpp"
#include "agent/image_label.hpp"
#include "agent/provisioner.hpp"
#include "agent/reconciler.hpp"
#include "agent/record_recovery.hpp"
#include "agent/stray_staging.hpp"
#include "agent/strays.hpp"

namespace ordinald::agent {

void Repairs::round(const std::stop_token& stop) {
  for (const auto part :
       {&Repairs::finish_deletions, &Repairs::forget_unmade, &Repairs::recover_records, &Repairs::settle_labels,
        &Repairs::release_forgotten, &Repairs::report_stray_mounts, &Repairs::report_stray_staging, &Repairs::detach_leftovers}) {
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
    if (auto removed = delete_volume(core_, record->id); !removed) {
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
    if (auto removed = delete_volume(core_, record->id); !removed) {
      core_.log->warn("volume {}: its create was interrupted and can't be taken back yet: {}", record->id, removed.error().message);
    } else {
      core_.repairs.repaired("create-undone", "volume " + record->id + " (" + record->name +
                                                  "): its create was interrupted and not repeated, and is taken back");
    }
  }
}

/// A copy of an image has its volume's mark as well; and so has the image itself, where somebody has renamed it.
void Repairs::report_misnamed(const PoolView& view, const mount::PoolImage& image) {
  const std::string path = view.pool->directory + "/" + image.file;
  const std::string own = image.volume_id + ".img";
  const std::string take_mark_off = "setfattr -x trusted.ordinald.volume " + quoted(path);
  const std::string what = "pool " + view.pool->name + ": " + path + " has the mark of volume " + image.volume_id;
  const auto record = core_.records->find(image.volume_id);
  const bool elsewhere = record != nullptr && record->pool != view.pool->name;
  if (elsewhere || std::ranges::any_of(view.usage.images, [&](const mount::PoolImage& other) { return other.file == own; })) {
    core_.repairs.reported(what + ", whose image is " + own + (elsewhere ? " of pool " + record->pool : ", which is there") +
                               ": this is a copy, and must not have the mark",
                           take_mark_off);
  } else if (record != nullptr || core_.records->find_damaged(image.volume_id)) {
    core_.repairs.reported(what + ", whose image is " + own + ", which is not there; where this is a copy: " + take_mark_off +
                               "; where it is the image, it has to have its name back",
                           "mv --no-clobber " + quoted(path) + " " + quoted(view.pool->directory + "/" + own));
  } else {
    core_.repairs.reported(what + ", which this node does not have; where it is nobody's image any more", take_mark_off);
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
      if (!image.trouble.empty()) {
        core_.repairs.reported("pool " + view.pool->name + ": " + image.trouble +
                               "; it is left alone: check the file system below the pool");
        continue;
      }
      if (is_device_copy(image.file)) {
        core_.repairs.reported("pool " + view.pool->name + ": " + describe_device_copy(path) + "; if nobody does", "rm " + quoted(path));
        continue;
      }
      if (image.file.starts_with('.')) {
        remove_half_made(view, image);
        continue;
      }
      if (!is_volume_id(image.volume_id)) {
        core_.repairs.reported(
            "pool " + view.pool->name + ": " + path +
                " has no mark of a volume; ordinalctl adopt makes one of it, if it holds a filesystem; if nobody needs it",
            "rm " + quoted(path));
      } else if (image.file != image.volume_id + ".img") {
        report_misnamed(view, image);
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

/// It never had its name, so never was anybody's. Where there is a record, that volume's create or delete sees to it.
void Repairs::remove_half_made(const PoolView& view, const mount::PoolImage& half_made) {
  if (!is_half_made(half_made)) {
    const std::string path = view.pool->directory + "/" + half_made.file;
    core_.repairs.reported("pool " + view.pool->name + ": " + describe_no_half_made(path, half_made) + "; if nobody does",
                           "rm " + quoted(path));
    return;
  }
  const std::string id = half_made_volume(half_made.file);
  const auto guard = locks_.try_acquire(id, "a repair");
  if (!guard || core_.records->find(id) != nullptr || core_.records->find_damaged(id)) {
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
                           "pool " + view.pool->name + ": " + half_made.file + ", left by a create that was interrupted, is removed");
  }
}

/// A claim that changed, and a crash before the image was told.
void Repairs::settle_labels(const std::stop_token& stop) {
  for (const auto& record : core_.records->all()) {
    if (!record->label_stale || record->deleting || stop.stop_requested()) {
      continue;
    }
    const auto guard = locks_.try_acquire(record->id, "a repair");
    const auto now = core_.records->find(record->id);
    if (!guard || now == nullptr || !now->label_stale || now->deleting) {
      continue;
    }
    const auto kernel = core_.kernels.for_volume(now->id);
    const auto settled = kernel ? settle_label(core_, *kernel.value(), *now) : Result<std::string>{kernel.error()};
    if (!settled) {
      core_.log->warn("volume {}: its image can't be labelled yet: {}", now->id, settled.error().message);
    } else if (settled.value().empty()) {
      core_.repairs.repaired("label-renewed", "volume " + now->id + ": its image's label says again whose it is");
    }
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

/// Nothing of them is provably ours and unused: a person's bind may be anybody's only way to what it shows.
void Repairs::report_stray_mounts(const std::stop_token& stop) {
  auto kernel = core_.kernels.for_volume("node");
  const auto look = [&] { return kernel ? find_stray_mounts(core_, *kernel.value()) : Result<std::vector<Stray>>{kernel.error()}; };
  const auto seen = look();
  if (!seen) {
    core_.log->warn("stray mounts can't be looked for: {}", seen.error().message);
    return;
  }
  std::set<std::string> volumes;
  for (const Stray& stray : seen.value()) {
    volumes.insert(stray.volume);
  }
  for (const std::string& id : volumes) {
    const auto guard = locks_.try_acquire(id, "a repair");
    if (!guard || stop.stop_requested()) {
      continue;
    }
    // Between ledger and table a call may have come to its end.
    const auto now = look();
    for (const Stray& stray : now ? now.value() : std::vector<Stray>{}) {
      if (stray.volume == id) {
        core_.repairs.reported(stray.what, stray.command);
      }
    }
  }
}

/// The agent makes at most a staging path's last directory, and what is there may have become kubelet's since: none is removed.
void Repairs::report_stray_staging(const std::stop_token& stop) {
  if (stop.stop_requested()) {
    return;
  }
  const auto found = find_stray_staging(core_, idle_staging_);
  if (!found) {
    core_.log->warn("staging directories can't be looked at: {}", found.error().message);
    return;
  }
  for (const Stray& stray : found.value()) {
    if (locks_.try_acquire(stray.volume, "a repair")) {  // else a call is at it
      core_.repairs.reported(stray.what, stray.command);
    }
  }
}

/// A crash between attach and ledger leaves a loop that no call may ever ask for again, and so does who unmounts all of a volume by hand.
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
      if (is_in_pool(core_, loop)) {
        core_.repairs.reported(loop.path + " has " + loop.backing + (loop.deleted ? ", which is deleted" : "") +
                                   ", which is no volume of ours; if nobody uses it",
                               "losetup -d " + loop.path);
      }
      continue;
    }
    const auto guard = locks_.try_acquire(id, "a repair");
    if (!guard || core_.ledger->state(id).in_use()) {
      continue;
    }
    const auto detached = detach_leftover(id, is_in_pool(core_, loop));
    if (!detached) {
      core_.log->warn("volume {}: {}, which no call uses, can't be taken away: {}", id, loop.path, detached.error().message);
    } else if (detached.value()) {
      core_.repairs.repaired("loop-detached", "volume " + id + ": " + loop.path + ", which no call uses, is taken away");
    }
  }
}

/// False: it is not ours to take, or in use somewhere. `told`: the look for stray mounts has told of its mounts.
Result<bool> Repairs::detach_leftover(const std::string& id, bool told) {
  TRY(const auto kernel, core_.kernels.for_volume(id));
  // Whose it is tells the kernel, and not the ledger.
  TRY(const auto device, find_device(core_, *kernel, id, VolumeState{}));
  if (!device) {
    return false;
  }
  const std::string who = "volume " + id;
  TRY(const auto table, kernel->mount_table());
  bool mounted = false;
  for (const mount::MountEntry& entry : table) {
    if (entry.device == device->number || entry.source == device->path) {
      mounted = true;
      if (!told) {
        const Stray stray = stray_mount(id, who, entry);
        core_.repairs.reported(stray.what, stray.command);
      }
    }
  }
  if (mounted) {
    return false;
  }
  TRY(const auto pins, kernel->pins(*device));
  if (!pins.empty()) {
    const mount::Pin& pin = pins.front();
    core_.repairs.reported(who + " is staged nowhere, and its " + device->path + " is mounted in another mount namespace, where process " +
                               std::to_string(pin.pid) + " (" + pin.command + ") has it at " + pin.mount_point +
                               "; once that process has ended" + (device->by_agent ? " it is taken away" : ""),
                           device->by_agent ? "" : "losetup -d " + device->path);
    return false;
  }
  if (!device->by_agent) {
    core_.repairs.reported(who + " is attached as " + device->path + " and was not staged by this agent; if nobody uses it",
                           "losetup -d " + device->path);
    return false;
  }
  TRYV(kernel->detach(*device));
  if (const VolumeState known = core_.ledger->state(id); known.device || !known.past_lost.empty()) {
    TRYV(save_what_is_left(core_, *kernel, id, core_.ledger->state(id)));  // who had it goes into the record, as an unstage would see to
  }
  return true;
}

}  // namespace ordinald::agent
