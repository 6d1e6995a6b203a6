#include "agent/stager.hpp"

#include <algorithm>
#include <array>
#include <cerrno>

#include "agent/access_rules.hpp"
#include "agent/attachment.hpp"
#include "agent/clock_text.hpp"
#include "agent/content_guard.hpp"
#include "agent/holds.hpp"
#include "agent/refuse.hpp"
#include "agent/undo_file.hpp"
#include "mount/mount_flags.hpp"

namespace ordinald::agent {
namespace {

using mount::Device;
using mount::Kernel;

/// A publication outlives its staging path, when somebody unmounts that.
Result<void> refuse_other_kind(const VolumeState& state, bool block) {
  for (const Publication& held : state.publications) {
    if (held.block != block) {
      return refuse(std::string{"it is published as a "} + (held.block ? "raw block device" : "filesystem") + " to " +
                    to_string(held.holder) + " at " + held.target + " since " + held.since + ", and can't be the other at the same time");
    }
  }
  for (const FoundMount& found : state.found) {
    if (found.block != block) {
      return refuse(std::string{"it is in use as a "} + (found.block ? "raw block device" : "filesystem") + " at " + found.path +
                    ", and can't be the other at the same time");
    }
  }
  return mount::success();
}

/// Takes back what a failed stage has done so far, unless it may still be going on.
class Undo {
 public:
  /// Before the ledger was changed: what it has also of a device that was found held ready is what there was before.
  Undo(const Core& core, Kernel& kernel, const std::string& id, const Device& device)
      : core_(core), kernel_(kernel), id_(id), device_(device), before_(core.ledger->state(id)) {}

  /// A refusal for what is on the device is remembered, and so is a mkfs that failed: the volume's health tells it. (Not what was only for
  /// want of room: that is over when there is some.)
  Result<void> with(const Error& error, bool format_failed = false) {
    if (error.code == ErrorCode::unavailable) {
      return error;
    }
    if (error.code == ErrorCode::failed_precondition || (format_failed && error.code == ErrorCode::internal)) {
      before_.refusal = error.message;
    }
    if (!before_.in_use()) {
      if (auto gone = let_go(core_, kernel_, id_, device_); !gone) {
        core_.log->warn("volume {}: after a failed stage: {}", id_, gone.error().message);
      }
      before_.device.reset();
      if (!before_.past_lost.empty() && !lives_on(kernel_, device_)) {
        before_.past_lost.clear();
      }
    }
    if (auto saved = core_.ledger->save(id_, before_); !saved) {
      core_.log->warn("{}", saved.error().message);
    }
    return error;
  }

 private:
  const Core& core_;
  Kernel& kernel_;
  const std::string& id_;
  const Device& device_;
  VolumeState before_;
};

}  // namespace

struct Stager::Request {
  VolumeRecord record;
  const mount::Pool* pool = nullptr;
  const mount::Filesystem* filesystem = nullptr;  ///< null: block
  mount::MountFlags flags;
  Stage stage;
};

Result<Stager::Request> Stager::read(const csi::StageArgs& args) const {
  TRY(const auto record, core_.require(args.volume_id));
  TRYV(check_mode(*record, args.capability.mode));
  TRYV(core_.refuse_own_path(args.staging_path));
  Request request;
  request.record = *record;
  TRY(request.pool, core_.pool_of(*record));
  const csi::Capability& capability = args.capability;
  Stage& stage = request.stage;
  stage.path = args.staging_path;
  stage.block = capability.block;
  stage.mode = capability.mode;
  stage.since = utc_text(std::chrono::system_clock::now());
  if (capability.block) {
    stage.read_only = is_reader_only(capability.mode);
    return request;
  }
  const std::string& fs_type = wanted_fs_type(*record, capability);
  request.filesystem = mount::find_filesystem(fs_type);
  request.flags = mount::split_mount_flags(capability.mount_flags);
  stage.fs_type = fs_type;
  stage.flags_digest = core_.digest.of(capability.mount_flags);
  stage.options_digest = core_.digest.of(request.flags.options);
  stage.read_only = request.flags.attributes.read_only || is_reader_only(capability.mode);
  request.flags.attributes.read_only = stage.read_only;
  return request;
}

Result<void> Stager::stage(const csi::StageArgs& args) {
  TRY(Request request, read(args));
  TRY(const auto kernel, core_.kernels.for_volume(args.volume_id));
  VolumeState state = core_.ledger->state(args.volume_id);
  const auto counts = [&](const FoundMount& found) { return found.block != request.stage.block || found.path == request.stage.path; };
  if (state.found_ready() != nullptr || std::ranges::any_of(state.found, counts)) {
    // It stands in this stage's way, or is what this stage asks for, if it is there still.
    TRY(state, known_state(core_, *kernel, args.volume_id));
    TRYV(release_gone_holds(core_, *kernel, args.volume_id, state));
  }
  state.forget_ready();
  TRY(const bool done, repeated(request, *kernel, state));
  if (done) {
    keep_thick(core_, *kernel, *request.pool, request.record, *state.device);
    return grow_if_pending(request, *kernel, state);
  }
  if (const std::string owner = core_.ledger->owner_of(args.staging_path, args.volume_id, Ledger::Owns::by_a_call); !owner.empty()) {
    return refuse(args.staging_path + " is in use by volume " + owner);
  }
  return request.stage.block ? stage_block(request, *kernel, state) : stage_mount(request, *kernel, state);
}

/// Of xfs and btrfs the mount is the check (rule 7).
Error Stager::with_repair(Error error, const Request& request) {
  static constexpr std::array damage{EUCLEAN, EBADMSG, EIO, EINVAL};
  if (error.code == ErrorCode::failed_precondition && std::ranges::find(damage, error.sys_errno) != damage.end()) {
    error.message += "; to repair it by hand: " + request.filesystem->repair_hint(request.pool->lasting_path(pool_volume(request.record)));
  }
  return error;
}

/// True: staged there with the same arguments, and the kernel agrees.
Result<bool> Stager::repeated(const Request& request, Kernel& kernel, VolumeState& state) {
  const Stage* held = state.stage_at(request.stage.path);
  if (held == nullptr) {
    return false;
  }
  const Stage& asked = request.stage;
  const char* what = held->block != asked.block                                                         ? "access type"
                     : held->mode != asked.mode                                                         ? "access mode"
                     : held->fs_type != asked.fs_type                                                   ? "fs_type"
                     : held->flags_digest != unknown_digest && held->flags_digest != asked.flags_digest ? "mount flags"
                                                                                                        : nullptr;
  if (what != nullptr) {
    return mount::make_error(ErrorCode::already_exists,
                             "it is staged at " + asked.path + " since " + held->since + " with another " + what + "; unstage it first");
  }
  if (asked.block || !state.device) {
    return false;  // to attach is to repeat
  }
  TRY(const mount::PathInfo info, kernel.inspect_path(asked.path));
  return mount::matches(info, state.expected_mount()) && !info.broken;
}

Result<void> Stager::stage_block(Request& request, Kernel& kernel, VolumeState& state) {
  VolumeRecord& record = request.record;
  for (const Stage& other : state.stages) {
    if (!other.block) {
      return refuse("it is staged as a filesystem at " + other.path + ", and can't be a raw block device at the same time");
    }
  }
  TRYV(refuse_other_kind(state, true));
  if (record.content != Content::raw) {
    // From here on a workload may write anything: nothing of ours will ever format it.
    record.content = Content::raw;
    record.fs_grown_for = 0;
    TRYV(core_.records->save(record));
  }
  TRY(const Device device, attach_device(core_, kernel, *request.pool, record, state));
  if (!state.in_use()) {
    // Whoever gets the device gets it as it was before our tool died on it, and nothing of ours is put back over what is written from now
    // on.
    if (auto back = take_back_unseen(kernel, record, device); !back) {
      return Undo{core_, kernel, record.id, device}.with(back.error());
    }
  }
  state.device = device;
  state.fs_type.clear();
  state.fs_uuid.clear();
  state.refusal.clear();
  state.no_growth.clear();
  std::erase_if(state.stages, [&](const Stage& stage) { return stage.path == request.stage.path; });
  state.stages.push_back(request.stage);
  return core_.ledger->save(record.id, state);
}

Result<void> Stager::take_back_unseen(Kernel& kernel, VolumeRecord& record, const Device& device) {
  TRY(const bool interrupted, has_undo(core_, record.id));
  if (!interrupted) {
    return mount::success();
  }
  TRY(const mount::Probe probe, kernel.probe({.device = device, .proof = mount::BlankProof::none, .image = {}}));
  TRY([[maybe_unused]] const bool changed, take_back(core_, kernel, record, tool_on(core_, device), probe));
  return forget_undo(core_, record.id);
}

Result<void> Stager::stage_mount(Request& request, Kernel& kernel, VolumeState& state) {
  VolumeRecord& record = request.record;
  TRYV(check_mount(record, *request.pool, request.stage.fs_type, request.flags, request.stage.read_only));
  TRYV(refuse_other_kind(state, false));
  for (const Stage& other : state.stages) {
    if (other.block) {
      return refuse("it is staged as a raw block device at " + other.path + ", and can't be a filesystem at the same time");
    }
    const bool other_options = other.options_digest != unknown_digest && other.options_digest != request.stage.options_digest;
    if (other.path != request.stage.path && (other_options || other.fs_type != request.stage.fs_type)) {
      return refuse("it is staged at " + other.path + " with other options of the filesystem, which it can have once only");
    }
  }
  TRY(const Device device, attach_device(core_, kernel, *request.pool, record, state));
  Undo undo{core_, kernel, record.id, device};
  auto ready = ready_filesystem(core_, kernel, *request.pool, record, device, *request.filesystem);
  if (!ready) {
    return undo.with(ready.error(), record.content == Content::formatting);
  }
  if (ready.value().alive && !state.in_use()) {
    if (auto same = refuse_other_options(request, kernel, state, device); !same) {
      return undo.with(same.error());
    }
  }
  if (!ready.value().alive) {
    state.alive_options.clear();
  }
  state.device = device;
  state.fs_type = request.stage.fs_type;
  state.fs_uuid = ready.value().uuid;
  state.refusal.clear();
  if (!ready.value().alive && !ready.value().may_grow) {
    state.no_growth = ready.value().no_growth;
  }
  std::erase_if(state.stages, [&](const Stage& stage) { return stage.path == request.stage.path; });
  // What was found mounted there may have other attributes than are asked for: it stays found until the kernel has agreed.
  const bool found_there = state.found_at(request.stage.path) != nullptr;
  state.forget_found(request.stage.path);
  state.stages.push_back(request.stage);
  const auto write_down = [&] { return core_.ledger->save(record.id, state); };
  if (auto saved = found_there ? mount::success() : write_down(); !saved) {
    return undo.with(saved.error());
  }
  mount::MountRequest mount{.device = device,
                            .fs_type = state.fs_type,
                            .uuid = state.fs_uuid,
                            .options = {},
                            .option_places = {},
                            .attributes = request.flags.attributes,
                            .target = request.stage.path};
  for (const std::string& option : request.filesystem->mount_options(request.pool->thick())) {
    if (!mount::has_option(request.flags, option.substr(0, option.find('=')))) {
      mount.options.push_back(option);
      mount.option_places.push_back(UINT32_MAX);
    }
  }
  mount.options.insert(mount.options.end(), request.flags.options.begin(), request.flags.options.end());
  mount.option_places.insert(mount.option_places.end(), request.flags.places.begin(), request.flags.places.end());
  if (auto mounted = kernel.mount_filesystem(mount); !mounted) {
    const Error told = with_repair(mounted.error(), request).with_context("mounting " + device.path + " at " + request.stage.path);
    return undo.with(told.code == ErrorCode::internal ? explain_full_pool(kernel, *request.pool, device, told) : told);
  }
  if (auto saved = found_there ? write_down() : mount::success(); !saved) {
    return undo.with(saved.error());
  }
  if (!ready.value().no_growth.empty()) {
    served_as_it_is(record.id, ready.value().no_growth);
  }
  if (ready.value().may_grow) {
    return grow_if_pending(request, kernel, state);
  }
  return mount::success();
}

/// Of a filesystem that is mounted already the kernel takes no other options, and says nothing of it. It may be so where we see no mount of
/// it: in somebody's mount namespace.
Result<void> Stager::refuse_other_options(const Request& request, Kernel& kernel, const VolumeState& state, const Device& device) {
  const std::string& asked = request.stage.options_digest;
  if (request.flags.options.empty() || state.alive_options == asked || state.alive_options == unknown_digest) {
    return mount::success();
  }
  std::string who;
  if (const auto pins = kernel.pins(device)) {
    for (const mount::Pin& pin : pins.value()) {
      who += (who.empty() ? ": process " : "; process ") + std::to_string(pin.pid) + " (" + pin.command + ") has it at " + pin.mount_point;
    }
  }
  if (who.empty()) {
    return mount::make_error(ErrorCode::unavailable,
                             "somebody has " + device.path + " open for himself just now (udev, a filesystem's tool); call again");
  }
  return refuse("its filesystem is still mounted elsewhere, with other mount_flags than are asked for now, and Linux would ignore these" +
                who + ". Wait for that to end, or end it; then stage it again");
}

void Stager::served_as_it_is(const std::string& id, const std::string& why) {
  core_.log->warn("volume {}: it is served with the size that it had: {}", id, why);
}

/// Where it can't be grown, it is served all the same, as it is: the next stage tries again, a NodeExpandVolume says why not, and health
/// says GrowthPending until then.
Result<void> Stager::grow_if_pending(Request& request, Kernel& kernel, const VolumeState& state) {
  const Stage* staged = state.stage_at(request.stage.path);  // which may have been found mounted otherwise than is asked for
  if (staged == nullptr || staged->block || staged->read_only || !state.device) {
    return mount::success();
  }
  const bool can = state.fs_type != "ext4" || core_.grows_mounted_ext4;
  if (!can || request.record.fs_grown_for >= request.record.size) {
    return mount::success();
  }
  const auto grow = [&]() -> Result<void> {
    TRY(const Device device, kernel.refresh_device_size(*state.device));
    return grow_mounted(core_, kernel, request.record, device, state.fs_type, request.stage.path);
  };
  auto grown = grow();
  if (!grown && grown.error().code != ErrorCode::unavailable) {
    note_growth(core_, request.record.id, grown.error().message);
    served_as_it_is(request.record.id, grown.error().message);
    return mount::success();
  }
  return grown;
}

Result<void> Stager::unstage(const csi::UnstageArgs& args) {
  TRY(const auto kernel, core_.kernels.for_volume(args.volume_id));
  TRY(VolumeState state, known_state(core_, *kernel, args.volume_id));
  const bool held = !state.found.empty() || state.found_ready() != nullptr ||
                    std::ranges::any_of(state.publications,
                                        [&](const Publication& publication) { return publication.staging_path == args.staging_path; });
  if (held) {
    TRYV(release_gone_holds(core_, *kernel, args.volume_id, state));
  }
  for (const FoundMount& found : state.found) {
    if (found.path != args.staging_path) {
      return refuse("it is still mounted at " + found.path + " for somebody unknown, found at " + found.since + "; unpublish that first");
    }
  }
  for (const Publication& publication : state.publications) {
    if (publication.staging_path == args.staging_path) {
      return refuse("it is still published from " + args.staging_path + " to " + to_string(publication.holder) + " at " +
                    publication.target + " since " + publication.since + "; unpublish that first");
    }
  }
  if (state.stage_at(args.staging_path) == nullptr && state.publication_at(args.staging_path) != nullptr) {
    return mount::success();  // a target of its own: not staged there, and not to be taken away by this call
  }
  if (!state.device) {  // then nobody has it any more, whoever it was when the ledger was lost
    return state.past_lost.empty() ? mount::success() : save_what_is_left(core_, *kernel, args.volume_id, std::move(state));
  }
  const Stage* stage = state.stage_at(args.staging_path);
  if (stage == nullptr || !stage->block) {
    const bool last = state.stages.size() == 1;
    const mount::UnmountRequest unmount{
        .path = args.staging_path, .expected = state.expected_mount(), .remove = false, .write_back = last && stage != nullptr};
    auto unmounted = kernel->unmount(unmount);
    if (!unmounted) {
      // Not staged there by us, and something else is: that is not ours to touch, nor to complain of.
      const bool foreign = stage == nullptr && unmounted.error().code == ErrorCode::failed_precondition && unmounted.error().sys_errno == 0;
      if (!foreign) {
        return unmounted.error().with_context("unmounting " + args.staging_path);
      }
    }
  }
  if (stage != nullptr && !stage->options_digest.empty()) {
    state.alive_options = stage->options_digest;
  }
  std::erase_if(state.stages, [&](const Stage& entry) { return entry.path == args.staging_path; });
  state.forget_found(args.staging_path);
  state.forget_ready();
  return save_what_is_left(core_, *kernel, args.volume_id, std::move(state));
}

}  // namespace ordinald::agent
