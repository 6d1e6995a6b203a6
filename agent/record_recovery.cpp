#include "agent/record_recovery.hpp"

#include <algorithm>

#include "agent/adoption_words.hpp"
#include "agent/image_label.hpp"

namespace ordinald::agent {

Result<bool> recover_record(Core& core, mount::Kernel& kernel, const std::string& id) {
  const mount::Pool* where = nullptr;
  mount::PoolBacking backing;
  const auto give_up = [&](const std::string& why) {
    core.repairs.reported("volume " + id + " has no record, and none can be made: " + why);
    return false;
  };
  for (const auto& [name, pool] : core.pools) {
    TRYV(require_own_pool(core, kernel, *pool));
    auto found = pool->backing(kernel, mount::PoolVolume{.id = id});
    if (!found) {
      if (found.error().code == ErrorCode::not_found) {
        continue;
      }
      return found.error();
    }
    if (where != nullptr) {
      return give_up("pools " + where->name() + " and " + name + " both have its image; remove the one that is a copy, by hand");
    }
    where = pool.get();
    backing = std::move(found.value());
  }
  if (where == nullptr && !core.records->find_damaged(id)) {
    return false;  // deleted since it was seen in a pool
  }
  if (where == nullptr) {
    return give_up("no pool has its image; put the image back, or remove the record's damaged file");
  }
  auto made_as = parse_record(backing.label);
  if (!made_as || made_as.value().id != id) {
    return give_up("its image in pool " + where->name() +
                   " has no label that says what it was made as; copy what it holds elsewhere (losetup --find --show --read-only " +
                   quoted(where->lasting_path({.id = id})) + "), then remove the image");
  }
  VolumeRecord record = std::move(made_as.value());
  const std::string before = claim_before(record);
  if (core.records->find_by_name(record.name) != nullptr) {
    return give_up("its name " + record.name + " is another volume's by now");
  }
  record.pool = where->name();
  record.size = std::max(record.size, backing.size);
  record.provisioned = true;
  if (record.content == Content::formatted) {
    // The label of a file that was moved here and had no record yet (adoption.hpp): nobody has written to it since.
    record.label_stale = true;
    TRYV(core.records->save(record));
    TRYV(settle_label(core, kernel, record));
    core.repairs.repaired("adoption-finished",
                          "volume " + id + ": its adoption from " + record.adopted_from + " was interrupted, and is finished");
    return true;
  }
  record.content = Content::raw;
  record.fs_uuid.clear();
  record.fs_grown_for = 0;
  TRYV(core.records->save(record));
  core.repairs.repaired("record-recovered",
                        "volume " + id + " (" + record.name + "): its record was lost, and is made anew from its image in pool " +
                            record.pool + "; what it holds is served, and nothing will ever format it" +
                            (before.empty() ? std::string{}
                                            : ". It was on its way from claim " + before +
                                                  " to another and is nobody's now: ordinalctl rebind " + id + " NAMESPACE/CLAIM"));
  return true;
}

Result<std::shared_ptr<const VolumeRecord>> recover_named(Core& core, VolumeLocks& locks, const csi::CallContext& call,
                                                          const std::string& name, const std::vector<PoolView>& pools) {
  for (const PoolView& view : pools) {
    for (const mount::PoolImage& image : view.usage.images) {
      // Without its mark too, as after a copy that left out the attributes: nothing is made anew of it then, and nothing blank in its
      // place.
      const std::string id = image.volume_id.empty() ? image.file.substr(0, image.file.rfind('.')) : image.volume_id;
      const auto pool = core.pools.find(view.pool->name);
      if (pool == core.pools.end() || !is_id_for(id, name) || image.file != id + ".img" || core.records->find(id) != nullptr) {
        continue;
      }
      TRY(const auto guard, locks.acquire(id, "CreateVolume", call));
      TRY(const auto kernel, core.kernels.for_volume(id));
      const std::string what =
          "volume " + name + ": its record is lost, and its image is in pool " + view.pool->name + " (" + image.file + ")";
      if (core.records->find(id) == nullptr) {
        if (const auto made = recover_record(core, *kernel, id); !made) {
          return mount::make_error(mount::ErrorCode::unavailable, what + ", and it can't be made anew yet: " + made.error().message);
        }
      }
      const auto record = core.records->find(id);
      if (record != nullptr && record->name == name) {
        return record;
      }
      if (record == nullptr && pool->second->backing(*kernel, mount::PoolVolume{.id = id})) {
        return mount::make_error(
            mount::ErrorCode::failed_precondition,
            what + ", and none can be made of that (ordinalctl orphans says why); nothing is made in its place until it is moved away");
      }
    }
  }
  return std::shared_ptr<const VolumeRecord>{};
}

}  // namespace ordinald::agent
