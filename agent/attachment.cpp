#include "agent/attachment.hpp"

namespace ordinald::agent {

using mount::Device;
using mount::Kernel;

namespace {

Result<Device> find_or_attach(const Core& core, Kernel& kernel, const mount::Pool& pool, const VolumeRecord& record,
                              const VolumeState& state) {
  if (state.device) {
    // The usual repetition: it is what it was. To look for the image's loop anew would read every loop of the node, for each volume.
    auto known = kernel.inspect_device(*state.device);
    const auto findings = known ? pool.examine(kernel, pool_volume(record), known.value()) : known.error();
    if (findings && findings.value().empty() && known.value().size >= record.size) {
      return known;
    }
  }
  TRY(const Device device, pool.attach(kernel, pool_volume(record)));
  if (!state.device || (state.device->number == device.number && state.device->diskseq == device.diskseq)) {
    return device;
  }
  const auto held = kernel.inspect_device(*state.device);
  if (!held && held.error().code == ErrorCode::not_found) {
    return device;  // taken away behind our back, and so nothing is mounted from it
  }
  if (auto gone = let_go(core, kernel, record.id, device); !gone) {
    core.log->warn("volume {}: {}", record.id, gone.error().message);
  }
  if (!held) {
    return held.error();
  }
  return mount::make_error(
      ErrorCode::failed_precondition,
      "it is in use as " + state.device->path + ", which stands on another file than the one that pool " + pool.name() +
          " has for it now: that was replaced. Nothing was mounted; copy out what is needed, unpublish and unstage the volume, then "
          "stage it again");
}

}  // namespace

Result<Device> attach_device(const Core& core, Kernel& kernel, const mount::Pool& pool, const VolumeRecord& record,
                             const VolumeState& state) {
  TRY(Device device, find_or_attach(core, kernel, pool, record, state));
  if (device.read_only && !state.in_use()) {
    // Nobody's choice: the number's last owner left the flag on, and whoever attached the image died before it was taken away.
    TRYV(kernel.set_device_read_only(device, false));
    device.read_only = false;
  }
  return device;
}

Result<std::optional<Device>> find_device(const Core& core, Kernel& kernel, const std::string& id, const VolumeState& state) {
  if (state.device) {
    return state.device;
  }
  if (const auto record = core.records->find(id)) {
    TRY(const mount::Pool* pool, core.pool_of(*record));
    return pool->find_attached(kernel, pool_volume(*record));
  }
  if (is_volume_id(id) && core.records->find_damaged(id)) {
    for (const auto& [name, pool] : core.pools) {
      auto found = pool->find_attached(kernel, mount::PoolVolume{.id = id});
      if (found && found.value()) {
        return found;
      }
    }
  }
  return std::optional<Device>{};
}

Result<VolumeState> known_state(const Core& core, Kernel& kernel, const std::string& id) {
  VolumeState state = core.ledger->state(id);
  if (state.device) {
    return state;
  }
  TRY(state.device, find_device(core, kernel, id, state));
  if (const auto record = core.records->find(id); record != nullptr && state.fs_type.empty() && record->content != Content::raw) {
    state.fs_type = record->fs_type;
    state.fs_uuid = record->fs_uuid;
  }
  for (const FoundMount& found : state.found) {
    if (!found.block && state.fs_type.empty()) {  // raw, or without a record: what is mounted is what it holds
      TRY(const mount::PathInfo info, kernel.inspect_path(found.path));
      state.fs_type = found.fs_type;
      state.fs_uuid = info.fs_uuid;
    }
  }
  return state;
}

Result<void> let_go(const Core& core, Kernel& kernel, const std::string& id, const Device& device) {
  auto detached = kernel.detach(device);
  if (detached || detached.error().code == ErrorCode::not_found) {
    return mount::success();
  }
  if (detached.error().code != ErrorCode::failed_precondition) {
    return detached.error().with_context("detaching " + device.path);
  }
  std::string who;
  if (const auto pins = kernel.pins(device)) {
    for (const mount::Pin& pin : pins.value()) {
      who += "; process " + std::to_string(pin.pid) + " (" + pin.command + ") has it at " + pin.mount_point;
    }
  }
  core.log->warn("volume {}: {} lives on until whatever has it lets go{}", id, device.path, who);
  return mount::success();
}

}  // namespace ordinald::agent
