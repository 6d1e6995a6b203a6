#include "agent/admin/leftovers.hpp"

#include <nlohmann/json.hpp>

#include "agent/device_copy_name.hpp"
#include "agent/half_made.hpp"
#include "agent/reconciler.hpp"

namespace ordinald::agent {
namespace {

using nlohmann::json;

void of_records(const Core& core, json& list) {
  for (const auto& record : core.records->all()) {
    const std::string volume = "volume " + record->id;
    if (record->deleting) {
      list.push_back(volume + ": its delete was interrupted; a repair finishes it");
    } else if (!record->provisioned) {
      list.push_back(volume + " (" + record->name + "): its create is not finished; a repair takes it back unless a call is at it");
    } else if (record->label_stale) {
      list.push_back(volume + ": its image's label does not say yet whose it is; a repair writes it");
    }
  }
  for (const auto& [id, damaged] : core.records->damaged()) {
    list.push_back("volume " + id + ": its record is set aside as " + damaged.file + ": " + damaged.why +
                   (damaged.lost ? "; a repair makes one from its image's label, if it has one" : "; a repair leaves it alone"));
  }
}

void of_pool(const Core& core, const PoolView& view, json& list) {
  for (const mount::PoolImage& image : view.usage.images) {
    const std::string path = view.pool->directory + "/" + image.file;
    if (!image.trouble.empty()) {
      list.push_back(image.trouble + "; a repair leaves it alone: check the file system below the pool");
    } else if (is_device_copy(image.file)) {
      list.push_back(describe_device_copy(path) + "; a repair leaves it alone");
    } else if (image.file.starts_with('.') && !is_half_made(image)) {
      list.push_back(describe_no_half_made(path, image));
    } else if (image.file.starts_with('.')) {
      list.push_back(path + ": a create was interrupted, or is at it; a repair removes it unless a call is at it");
    } else if (!is_volume_id(image.volume_id)) {
      list.push_back(path + ": it has no mark of a volume, and a repair leaves it alone; ordinalctl adopt looks into it");
    } else if (image.file != image.volume_id + ".img") {
      list.push_back(path + ": it has the mark of volume " + image.volume_id + " under another name, and a repair leaves it alone");
    } else if (core.records->find(image.volume_id) == nullptr && !core.records->find_damaged(image.volume_id)) {
      list.push_back(path + ": volume " + image.volume_id + " has no record; a repair makes one from the image's label, if it has one");
    }
  }
}

void of_loop(const Core& core, const mount::LoopEntry& loop, json& list) {
  const std::string id = volume_of(core, loop);
  if (!id.empty()) {
    const VolumeState state = core.ledger->state(id);
    if (!state.in_use()) {
      list.push_back(loop.path + ": it has the image of volume " + id + ", and no call uses it; a repair takes it away if nobody has it");
    }
    return;
  }
  for (const PoolConfig& pool : core.config.pools) {
    if (loop.backing.starts_with(pool.directory + "/") && loop.backing.ends_with(".img")) {
      list.push_back(loop.path + ": it has " + loop.backing + (loop.deleted ? ", which is deleted" : "") +
                     ", which is no volume of ours; a repair leaves it alone");
    }
  }
}

}  // namespace

json leftovers(VolumeManager& volumes, const std::vector<PoolView>& pools, const std::vector<mount::LoopEntry>& loops) {
  const Core& core = volumes.core();
  json list = json::array();
  of_records(core, list);
  for (const PoolView& view : pools) {
    of_pool(core, view, list);
  }
  for (const mount::LoopEntry& loop : loops) {
    of_loop(core, loop, list);
  }
  return list;
}

}  // namespace ordinald::agent
