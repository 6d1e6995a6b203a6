#include "agent/attachment.hpp"

namespace ordinald::agent {

using mount::Device;
using mount::Kernel;

namespace {

void refuse_discard(const Core& core, Kernel& kernel, const std::string& id, const Device& device) {
  if (const auto refused = kernel.refuse_discard(device); !refused) {
    core.log->warn("volume {}: {} takes discards, by which this thick volume can lose blocks until it is staged again: {}", id, device.path,
                   refused.error().message);
  }
}

Result<Device> find_or_attach(const Core& core, Kernel& kernel, const mount::Pool& pool, const VolumeRecord& record,
                              const VolumeState& state) {
  if (state.device) {
    // The usual repetition: it is what it was. To look for the image's loop anew would read every loop of the node, for each volume.
    auto known = kernel.inspect_device(*state.device);
    const auto findings = known ? pool.examine(kernel, pool_volume(record), known.value()) : known.error();
    if (findings && findings.value().empty() && known.value().size >= record.size) {
      keep_thick(core, kernel, pool, record, known.value());
      return known;
    }
  }
  const auto attached = pool.attach(kernel, pool_volume(record));
  if (!attached) {
    const bool may_be_the_pool = attached.error().code == ErrorCode::failed_precondition;
    if (const auto own = may_be_the_pool ? require_own_pool(core, kernel, pool) : mount::success(); !own) {
      return mount::make_error(ErrorCode::unavailable, own.error().message);  // its disk may come yet: whoever waits goes on waiting
    }
    return attached.error();
  }
  const Device& device = attached.value();
  if (pool.thick()) {
    refuse_discard(core, kernel, record.id, device);
  }
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

/// Who had it goes from the ledger into the record. False: it could not be written, and the ledger keeps it; nobody is kept waiting for
/// that.
bool keep_history(const Core& core, const std::string& id, const std::vector<Tenure>& past) {
  const auto known = core.records->find(id);
  if (known == nullptr || past.empty()) {
    return true;
  }
  VolumeRecord record = *known;
  for (const Tenure& tenure : past) {
    remember(record.history, tenure);
  }
  auto saved = core.records->save(record);
  if (!saved) {
    core.log->warn("who had it until now is not in its record yet: {}", saved.error().message);
  }
  return saved.has_value();
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

void keep_thick(const Core& core, Kernel& kernel, const mount::Pool& pool, const VolumeRecord& record, const Device& device) {
  if (!pool.thick()) {
    return;
  }
  refuse_discard(core, kernel, record.id, device);
  if (const auto filled = pool.grow(kernel, pool_volume(record)); !filled) {
    core.log->warn("volume {}: what its image has lost of its blocks since is not allocated again: {}", record.id, filled.error().message);
  }
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
  const bool ask_mounts = state.fs_type.empty();  // raw, or without a record: what is mounted is what it holds
  for (const FoundMount& found : state.found) {
    if (ask_mounts && !found.block && state.fs_uuid.empty()) {
      TRY(const mount::PathInfo info, kernel.inspect_path(found.path));
      state.fs_type = found.fs_type;
      state.fs_uuid = info.mount_root ? info.fs_uuid : std::string{};  // else somebody has unmounted it
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

bool lives_on(Kernel& kernel, const Device& device) {
  const auto there = kernel.inspect_device(device);
  return there || there.error().code != ErrorCode::not_found;
}

Result<void> save_what_is_left(Core& core, Kernel& kernel, const std::string& id, VolumeState state) {
  if (!state.in_use()) {
    TRY(auto device, find_device(core, kernel, id, state));
    if (state.device) {
      if (const auto there = kernel.inspect_device(*state.device); !there && there.error().code == ErrorCode::not_found) {
        // Taken away behind our back; a stage that a crash cut off may have attached another, of which the ledger does not know.
        TRY(device, find_device(core, kernel, id, VolumeState{}));
        device = device && device->by_agent ? device : std::nullopt;
      }
    }
    if (device) {
      TRYV(let_go(core, kernel, id, *device));
    }
    VolumeState after;
    after.no_growth = std::move(state.no_growth);
    if (!keep_history(core, id, state.past)) {
      after.past = std::move(state.past);
    }
    if ((!state.past_lost.empty() || !state.alive_options.empty()) && device && lives_on(kernel, *device)) {
      after.past_lost = std::move(state.past_lost);
      after.alive_options = std::move(state.alive_options);
    }
    state = std::move(after);
  }
  return core.ledger->save(id, state);
}

}  // namespace ordinald::agent
