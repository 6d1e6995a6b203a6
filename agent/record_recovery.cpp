#include "agent/record_recovery.hpp"

#include <algorithm>

namespace ordinald::agent {

Result<bool> recover_record(Core& core, mount::Kernel& kernel, const std::string& id) {
  const mount::Pool* where = nullptr;
  mount::PoolBacking backing;
  const auto give_up = [&](const std::string& why) {
    core.repairs.reported("volume " + id + " has no record, and none can be made: " + why);
    return false;
  };
  for (const auto& [name, pool] : core.pools) {
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
                   " has no label that says what it was made as; copy what it holds elsewhere (losetup " +
                   "--find --show --read-only), then remove the image");
  }
  VolumeRecord record = std::move(made_as.value());
  if (core.records->find_by_name(record.name) != nullptr) {
    return give_up("its name " + record.name + " is another volume's by now");
  }
  record.pool = where->name();
  record.size = std::max(record.size, backing.size);
  record.content = Content::raw;
  record.fs_uuid.clear();
  record.fs_grown_for = 0;
  record.provisioned = true;
  TRYV(core.records->save(record));
  core.repairs.repaired("record-recovered", "volume " + id + " (" + record.name +
                                                "): its record was lost, and is made anew from its image in pool " + record.pool +
                                                "; what it holds is served, and nothing will ever format it");
  return true;
}

}  // namespace ordinald::agent
