#include "agent/image_label.hpp"

namespace ordinald::agent {

std::string label_of(const VolumeRecord& record) {
  VolumeRecord label = record;
  label.content = Content::raw;
  label.fs_uuid.clear();
  label.fs_grown_for = 0;
  label.provisioned = true;
  label.deleting = false;
  label.label_stale = false;
  label.history.clear();  // it grows, and there is little room
  return to_json(label);
}

Result<void> write_label(const Core& core, mount::Kernel& kernel, const VolumeRecord& record) {
  TRY(const mount::Pool* pool, core.pool_of(record));
  mount::PoolVolume volume = pool_volume(record);
  volume.label = label_of(record);
  return pool->relabel(kernel, volume);
}

Result<std::string> settle_label(Core& core, mount::Kernel& kernel, VolumeRecord record) {
  TRYV(write_label(core, kernel, record));
  TRY(const mount::Pool* pool, core.pool_of(record));
  TRY(const mount::PoolBacking backing, pool->backing(kernel, pool_volume(record)));
  record.label_stale = false;
  TRYV(core.records->save(record));
  if (!backing.label.empty()) {
    return std::string{};
  }
  std::string note =
      "its image has no label, for want of room beside the file: if the volume's record is lost, none can be made anew; take " +
      std::string{"other attributes off the file (getfattr -d -m - "} + pool->lasting_path(pool_volume(record)) +
      "), and copy its record elsewhere";
  core.log->warn("volume {}: {}", record.id, note);
  return note;
}

std::string claim_before(const VolumeRecord& label) {
  const Claim made_for = read_claim(label.metadata);
  return label.claim.name.empty() && !made_for.name.empty() ? made_for.name_space + "/" + made_for.name : std::string{};
}

}  // namespace ordinald::agent
