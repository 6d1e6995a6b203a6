#include "agent/publisher.hpp"

#include <algorithm>

#include "agent/access_rules.hpp"
#include "agent/attachment.hpp"
#include "agent/clock_text.hpp"
#include "agent/hand_over.hpp"
#include "agent/holds.hpp"
#include "agent/refuse.hpp"
#include "mount/mount_flags.hpp"

namespace ordinald::agent {
namespace {

using mount::Kernel;

Result<Holder> read_holder(const StringMap& context) {
  const auto value = [&](const char* key) {
    const auto found = context.find(key);
    return found == context.end() ? std::string{} : found->second;
  };
  Holder holder{.pod_namespace = value("csi.storage.k8s.io/pod.namespace"),
                .pod_name = value("csi.storage.k8s.io/pod.name"),
                .pod_uid = value("csi.storage.k8s.io/pod.uid"),
                .service_account = value("csi.storage.k8s.io/serviceAccount.name"),
                .unit = value("ordinald.io/unit")};
  if (!holder.unit.empty() && !is_unit_name(holder.unit)) {
    return mount::make_error(ErrorCode::invalid_argument,
                             "volume_context[ordinald.io/unit] is no name of a systemd service, scope or slice (of a template: name the "
                             "instance, such as postgres@0.service)");
  }
  return holder;
}

/// A static volume says in its context what a made one has in its record.
Result<void> check_binding(const VolumeRecord& record, const StringMap& context, const Holder& holder) {
  const auto said = context.find("identity");
  if (record.identity != Identity::none || said == context.end()) {
    return check_identity(record.identity, record.claim, holder);
  }
  const auto identity = parse_identity(said->second);
  if (!identity) {
    return refuse("its volume_context has an identity that is none of ordinal, claim and none");
  }
  return check_identity(*identity, record.claim.name.empty() ? read_claim(context) : record.claim, holder);
}

/// A refusal for what excludes the publication asked for: who has the volume there, and what can be done.
Error with_who_keeps(const Error& refusal, const Core& core, Kernel& kernel, const std::string& id, const VolumeState& state,
                     const Publication& asked) {
  if (refusal.code == ErrorCode::already_exists) {
    const Publication* held = state.publication_at(asked.target);
    const bool anothers = held != nullptr && !is_same(held->holder, asked.holder);
    return anothers ? mount::make_error(refusal.code, refusal.message + what_keeps(kernel, id, state, *held)) : refusal;
  }
  if (!state.found.empty()) {
    return mount::make_error(refusal.code, refusal.message + what_keeps_found(core, kernel, id, state));
  }
  const auto excludes = [&](const Publication& held) { return !allows_several_targets(held.mode) || !allows_several_targets(asked.mode); };
  const auto held = std::ranges::find_if(state.publications, excludes);
  return held == state.publications.end() ? refusal
                                          : mount::make_error(refusal.code, refusal.message + what_keeps(kernel, id, state, *held));
}

bool asks_read_only(const csi::PublishArgs& args) {
  const bool by_flag = !args.capability.block && mount::split_mount_flags(args.capability.mount_flags).attributes.read_only;
  return args.readonly || by_flag || is_reader_only(args.capability.mode);
}

/// A device's node that we bound at a target stays what it is when the device goes away, and another device may get its number.
mount::Expected bound_node(const VolumeState& state, const mount::PathInfo& at_target) {
  mount::Expected expected = state.expected_block();
  if (at_target.mount_root && at_target.kind == mount::FileKind::block_device) {
    expected.number = at_target.rdev;
  }
  return expected;
}

/// Whether a bind that failed left the volume at its target all the same: a worker can be killed between the mount and its answer.
bool may_be_there(Kernel& kernel, const std::string& target, const VolumeState& state) {
  const auto info = kernel.inspect_path(target);
  if (!info) {
    return info.error().code == ErrorCode::unavailable;
  }
  return mount::matches(info.value(), state.publication_at(target)->block ? state.expected_block() : state.expected_mount());
}

}  // namespace

/// Works out what to bind where, or why not; fills in what the publication has of its staging.
Result<mount::BindRequest> Publisher::bind_request(const csi::PublishArgs& args, const VolumeState& state, Publication& publication) const {
  const Stage* stage = state.stage_at(args.staging_path);
  if (stage == nullptr || !state.device) {
    return refuse("it is not staged at " + (args.staging_path.empty() ? std::string{"any path (none was given)"} : args.staging_path) +
                  "; stage it first");
  }
  const csi::Capability& capability = args.capability;
  if (stage->block != capability.block) {
    return refuse(std::string{"it is staged at "} + stage->path + " as a " + (stage->block ? "raw block device" : "filesystem") +
                  ", and asked for as the other");
  }
  if (capability.block) {
    publication.read_only = asks_read_only(args) || stage->read_only;
    return mount::BindRequest{.source = state.device->path,
                              .expected = state.expected_block(),
                              .target = args.target_path,
                              .kind = mount::TargetKind::file,
                              .attributes = {}};
  }
  if (!capability.fs_type.empty() && capability.fs_type != stage->fs_type) {
    return refuse("it is staged as " + stage->fs_type + ", asked for as " + capability.fs_type);
  }
  const mount::MountFlags flags = mount::split_mount_flags(capability.mount_flags);
  const bool known = stage->options_digest != unknown_digest;
  if (known && !flags.options.empty() && core_.digest.of(flags.options) != stage->options_digest) {
    return refuse("its mount flags have options of the filesystem other than those it was staged with at " + stage->path);
  }
  mount::MountAttributes attributes = flags.attributes;
  attributes.read_only = asks_read_only(args);
  if (stage->read_only && !attributes.read_only) {
    return refuse("it is staged read-only at " + stage->path + ", and asked for writing");
  }
  publication.read_only = attributes.read_only;
  return mount::BindRequest{.source = stage->path,
                            .expected = state.expected_mount(),
                            .target = args.target_path,
                            .kind = mount::TargetKind::directory,
                            .attributes = attributes};
}

/// Of the mounts that were found when the ledger was lost, this call tells what two of them are: the staging path's, and the target's.
void Publisher::claim_found(const csi::PublishArgs& args, VolumeState& state) const {
  const bool block = args.capability.block;
  const FoundMount* at_staging = state.found_at(args.staging_path);
  const FoundMount* at_target = state.found_at(args.target_path);
  const Stage* ready = state.found_ready();
  const bool published_as_block = block && (ready != nullptr || std::ranges::any_of(state.found, &FoundMount::block));
  const bool anothers = !core_.ledger->owner_of(args.staging_path, args.volume_id, Ledger::Owns::by_a_call).empty();
  if (!anothers && state.stage_at(args.staging_path) == nullptr &&
      (published_as_block || (!block && at_staging != nullptr && !at_staging->block))) {
    state.stages.push_back(Stage{.path = args.staging_path,
                                 .block = block,
                                 .mode = args.capability.mode,
                                 .fs_type = block ? std::string{} : state.fs_type,
                                 .flags_digest = std::string{unknown_digest},
                                 .options_digest = std::string{unknown_digest},
                                 .read_only = at_staging != nullptr && at_staging->read_only,
                                 .since = ready != nullptr        ? ready->since
                                          : at_staging != nullptr ? at_staging->since
                                                                  : state.found.front().since});
    state.forget_ready();
  }
  if (at_target != nullptr && at_target->block == block) {
    state.forget_found(args.target_path);
  }
  state.forget_found(args.staging_path);
}

Result<void> Publisher::publish(const csi::PublishArgs& args) {
  TRY(const auto record, core_.require(args.volume_id));
  TRYV(check_mode(*record, args.capability.mode));
  TRYV(core_.refuse_own_path(args.target_path));
  TRY(const Holder holder, read_holder(args.volume_context));
  TRYV(check_binding(*record, args.volume_context, holder));
  VolumeState state = core_.ledger->state(args.volume_id);
  const bool claims = !state.found.empty() || state.found_ready() != nullptr;
  if (claims) {
    TRY(const auto kernel, core_.kernels.for_volume(args.volume_id));
    TRY(state, known_state(core_, *kernel, args.volume_id));
    claim_found(args, state);
  }
  Publication publication{.target = args.target_path,
                          .staging_path = args.staging_path,
                          .block = args.capability.block,
                          .mode = args.capability.mode,
                          .read_only = asks_read_only(args),
                          .flags_digest = core_.digest.of(args.capability.mount_flags),
                          .fs_type = args.capability.fs_type,
                          .group = args.capability.group ? std::int64_t{*args.capability.group} : no_group,
                          .holder = holder,
                          .since = utc_text(std::chrono::system_clock::now())};
  // What is held is judged first, so that a second caller hears who holds it, whatever else is wrong with its call.
  auto bind = bind_request(args, state, publication);
  auto verdict = judge_publish(state, publication);
  if (!verdict && state.device) {
    if (const auto kernel = core_.kernels.for_volume(args.volume_id)) {  // else it hangs: who holds it is what there is to say
      if (claims) {  // what is saved here must not have what this call says: it may yet be refused
        TRY(state, known_state(core_, *kernel.value(), args.volume_id));
      }
      TRYV(release_gone_holds(core_, *kernel.value(), args.volume_id, state, GoneMeans::not_mounted, &holder));
      if (claims) {
        claim_found(args, state);
      }
      verdict = judge_publish(state, publication);
      if (!verdict) {
        verdict = with_who_keeps(verdict.error(), core_, *kernel.value(), args.volume_id, state, publication);
      }
    }
  }
  if (!verdict && (bind || verdict.error().code == ErrorCode::already_exists)) {
    return verdict.error();
  }
  if (!bind) {
    return bind.error();
  }
  if (const std::string owner = core_.ledger->owner_of(args.target_path, args.volume_id, Ledger::Owns::by_a_call); !owner.empty()) {
    return refuse(args.target_path + " is in use by volume " + owner);
  }
  if (state.stage_at(args.target_path) != nullptr) {
    return refuse(args.target_path + " is its staging path");
  }
  TRY(const auto kernel, core_.kernels.for_volume(args.volume_id));
  const VolumeState before = core_.ledger->state(args.volume_id);
  bool changes_hands = false;
  if (verdict.value() == PublishVerdict::fresh) {
    TRY(changes_hands, check_hand_over(core_, *kernel, args.volume_id, state, publication));
    if (!allows_several_targets(args.capability.mode)) {
      state.past_lost.clear();
    }
    core_.gone_holders.erase(holder.pod_uid);
    state.publications.push_back(std::move(publication));
  }
  if (verdict.value() == PublishVerdict::fresh || claims) {
    TRYV(core_.ledger->save(args.volume_id, state));
  }
  auto visible = make_visible(args, *kernel, state, bind.value());
  // What was found mounted at the target holds the volume as it was found: this call, which is refused, tells nothing of it.
  const bool was_found = before.found_at(args.target_path) != nullptr;
  if (!visible && verdict.value() == PublishVerdict::fresh &&
      (was_found || (visible.error().code != ErrorCode::unavailable && !may_be_there(*kernel, args.target_path, state)))) {
    if (auto saved = core_.ledger->save(args.volume_id, before); !saved) {
      core_.log->warn("{}", saved.error().message);
    }
  }
  if (visible && changes_hands) {
    core_.handed_over.add({.volume = args.volume_id, .to = to_string(holder)});
  }
  return visible;
}

Result<void> Publisher::make_visible(const csi::PublishArgs& args, Kernel& kernel, VolumeState& state, const mount::BindRequest& bind) {
  const Publication& publication = *state.publication_at(args.target_path);
  if (publication.block) {
    auto found = kernel.inspect_device(*state.device);
    if (!found) {
      const bool gone = found.error().code == ErrorCode::not_found;
      return gone ? refuse("its device is gone since it was staged: " + found.error().message + "; unstage it and stage it again")
                  : found.error();
    }
    const mount::Device& device = found.value();
    if (device.read_only != publication.read_only) {
      TRYV(kernel.set_device_read_only(device, publication.read_only));
    }
  } else if (args.capability.group && !publication.read_only) {
    TRYV(kernel.apply_group(bind.source, bind.expected, *args.capability.group));
  }
  auto bound = kernel.bind(bind);
  if (!bound) {
    return bound.error().with_context("publishing " + bind.source + " at " + args.target_path);
  }
  return mount::success();
}

Result<void> Publisher::unpublish(const csi::UnpublishArgs& args, const std::string& how) {
  VolumeState state = core_.ledger->state(args.volume_id);
  TRY(const auto kernel, core_.kernels.for_volume(args.volume_id));
  if (!state.device && !state.publications.empty()) {
    TRY(state, known_state(core_, *kernel, args.volume_id));
  }
  const Publication* publication = state.publication_at(args.target_path);
  if (publication == nullptr) {
    return unpublish_unknown(args, *kernel, how);
  }
  mount::Expected expected = state.expected_mount();
  if (publication->block) {
    TRY(const mount::PathInfo info, kernel->inspect_path(args.target_path));
    expected = bound_node(state, info);
  }
  TRYV(take_away(*kernel, args, expected));
  end_publication(state, args.target_path, how, core_.boot_id);
  return save_what_is_left(core_, *kernel, args.volume_id, std::move(state));
}

/// The ledger knows of no publication there: after a reboot, or with a lost ledger. The kernel is asked; a mount of anything but this
/// volume is left alone.
Result<void> Publisher::unpublish_unknown(const csi::UnpublishArgs& args, Kernel& kernel, const std::string& how) {
  TRY(const mount::PathInfo info, kernel.inspect_path(args.target_path));
  const bool plain = !info.mount_root && (info.kind == mount::FileKind::directory || info.kind == mount::FileKind::regular);
  const VolumeState known = core_.ledger->state(args.volume_id);
  if (known.stage_at(args.target_path) != nullptr) {
    return mount::success();  // its staging path: not published there, and not to be taken away by this call
  }
  const bool found = known.found_at(args.target_path) != nullptr;
  // Another volume's target stays as it is, also where its device has got the number that this one's had.
  const auto owns = plain ? Ledger::Owns::by_a_call : Ledger::Owns::also_found;
  if (!found && !core_.ledger->owner_of(args.target_path, args.volume_id, owns).empty()) {
    return mount::success();
  }
  mount::Expected expected;
  if (info.mount_root) {
    TRY(const VolumeState state, known_state(core_, kernel, args.volume_id));
    const bool node = info.kind == mount::FileKind::block_device;
    expected = !node ? state.expected_mount() : found ? bound_node(state, info) : state.expected_block();
    if ((!state.device && !(node && found)) || !mount::matches(info, expected)) {
      core_.log->warn("volume {}: {} is a mount of something else, and is left alone", args.volume_id, args.target_path);
      return mount::success();
    }
  } else if (!plain) {
    return mount::success();
  }
  auto taken = take_away(kernel, args, expected);
  // What is left of an earlier boot is removed where that can be; where it can't, it is nobody's publication.
  if (!taken && info.mount_root) {
    return taken;
  }
  if (VolumeState state = core_.ledger->state(args.volume_id); state.found_at(args.target_path) != nullptr) {
    end_found(state, args.target_path, how, core_.boot_id);
    return save_what_is_left(core_, kernel, args.volume_id, std::move(state));
  }
  return mount::success();
}

/// Unmounts the target and removes what we made there.
Result<void> Publisher::take_away(Kernel& kernel, const csi::UnpublishArgs& args, const mount::Expected& expected) {
  auto unmounted = kernel.unmount({.path = args.target_path, .expected = expected, .remove = true});
  if (unmounted) {
    return mount::success();
  }
  TRY(const mount::PathInfo left, kernel.inspect_path(args.target_path));
  if (left.mount_root || unmounted.error().code != ErrorCode::failed_precondition) {
    return unmounted.error().with_context("unpublishing " + args.target_path);
  }
  // Nothing of the volume is there any more. What is has content: it is not ours to remove, and no reason to hold the volume for ever.
  core_.log->warn("volume {}: unpublished from {}, where something else is left: {}", args.volume_id, args.target_path,
                  unmounted.error().message);
  return mount::success();
}

}  // namespace ordinald::agent
