#include "agent/deletion.hpp"

#include "agent/attachment.hpp"
#include "agent/holds.hpp"
#include "agent/undo_file.hpp"

namespace ordinald::agent {
namespace {

/// Takes its device away too, where nothing has it any more.
Result<void> refuse_if_used(Core& core, const std::string& id, mount::Kernel& kernel, const mount::Pool& pool, const VolumeRecord& record) {
  VolumeState state = core.ledger->state(id);
  if (state.in_use()) {
    TRY(state, known_state(core, kernel, id));
    TRYV(release_gone_holds(core, kernel, id, state));
  }
  const auto in_use = [&](const std::string& message) { return volume_error(ErrorCode::failed_precondition, id, message); };
  if (!state.publications.empty()) {
    const Publication& held = state.publications.front();
    return in_use("it is published to " + to_string(held.holder) + " at " + held.target + " since " + held.since + "; unpublish it first");
  }
  if (!state.stages.empty()) {
    return in_use("it is staged at " + state.stages.front().path + " since " + state.stages.front().since + "; unstage it first");
  }
  if (!state.found.empty()) {
    return in_use("it is mounted at " + state.found.front().path + " for somebody unknown, found at " + state.found.front().since +
                  "; unpublish or unmount that first");
  }
  TRY(const auto device, pool.find_attached(kernel, pool_volume(record)));
  if (!device) {
    return mount::success();
  }
  TRY(const auto pins, kernel.pins(*device));
  if (!pins.empty()) {
    return in_use("its filesystem lives on in another mount namespace, where process " + std::to_string(pins.front().pid) + " (" +
                  pins.front().command + ") has it at " + pins.front().mount_point + "; end that process first");
  }
  auto detached = kernel.detach(*device);
  if (!detached && detached.error().code != ErrorCode::not_found) {
    return in_use("its device " + device->path + " can't be taken away: " + detached.error().message);
  }
  return core.ledger->save(id, VolumeState{});
}

}  // namespace

Result<void> delete_volume(Core& core, const std::string& id) {
  const auto found = core.records->find(id);
  if (found == nullptr) {
    if (core.records->find_damaged(id)) {
      return core.require(id).error();
    }
    return mount::success();
  }
  VolumeRecord record = *found;
  TRY(const mount::Pool* pool, core.pool_of(record));
  TRY(const auto kernel, core.kernels.for_volume(id));
  TRYV(refuse_if_used(core, id, *kernel, *pool, record));
  // Where it isn't, the volume's image would count as gone already.
  TRYV(require_own_pool(core, *kernel, *pool));
  if (!record.deleting) {
    record.deleting = true;
    auto saved = core.records->save(record);
    if (!saved && saved.error().code != ErrorCode::resource_exhausted) {
      return saved.error();
    }
    if (!saved) {
      // A delete is what makes room. Unmarked, a crash in its middle leaves a volume whose file is missing, until the delete is repeated.
      core.log->warn("{}; it is deleted all the same", saved.error().message);
    }
  }
  TRYV(pool->remove(*kernel, pool_volume(record)));
  TRYV(forget_undo(core, id));
  // Why its last stage was refused, for one, is remembered there without any device.
  TRYV(core.ledger->save(id, VolumeState{}));
  return core.records->remove(id);
}

}  // namespace ordinald::agent
