#include "agent/holds.hpp"

#include <algorithm>

#include "agent/access_rules.hpp"
#include "agent/clock_text.hpp"
#include "agent/hand_over.hpp"

namespace ordinald::agent {
namespace {

/// Where the kernel says for certain that the path is no mount of the volume.
bool is_gone(mount::Kernel& kernel, const std::string& path, const mount::Expected& expected, GoneMeans means) {
  const auto info = kernel.inspect_path(path);
  if (!info) {
    return false;
  }
  // A node that is bound there is ours, even when its device has gone, and its number to another.
  if (expected.fs_type.empty() && info.value().mount_root && info.value().kind == mount::FileKind::block_device) {
    return false;
  }
  return means == GoneMeans::path_is_gone ? info.value().kind == mount::FileKind::none : !mount::matches(info.value(), expected);
}

}  // namespace

void end_publication(VolumeState& state, const std::string& target, const std::string& how, const std::string& boot_id) {
  const auto held = std::ranges::find(state.publications, target, &Publication::target);
  if (held == state.publications.end()) {
    return;
  }
  remember(state.past, Tenure{.holder = held->holder,
                              .target = held->target,
                              .from = held->since,
                              .to = utc_text(std::chrono::system_clock::now()),
                              .ended = how,
                              .boot_id = boot_id,
                              .block = held->block,
                              .exclusive = !allows_several_targets(held->mode)});
  state.publications.erase(held);
}

void end_found(VolumeState& state, const std::string& path, const std::string& how, const std::string& boot_id) {
  if (const FoundMount* found = state.found_at(path); found != nullptr) {
    remember(state.past, Tenure{.holder = {},
                                .target = path,
                                .from = found->since,
                                .to = utc_text(std::chrono::system_clock::now()),
                                .ended = how,
                                .boot_id = boot_id});
    state.forget_found(path);
  }
}

bool holder_has_it(mount::Kernel& kernel, const VolumeState& state, const Holder& holder) {
  const auto found = holders_processes(kernel, state, holder);
  return !found || !found.value().users.empty() || found.value().unseen > 0;
}

Result<void> release_gone_holds(Core& core, mount::Kernel& kernel, const std::string& id, VolumeState& state, GoneMeans means,
                                const Holder* asker) {
  const auto expected = [&](bool block) { return block ? state.expected_block() : state.expected_mount(); };
  VolumeState kept = state;
  for (const Publication& held : state.publications) {
    if (is_gone(kernel, held.target, expected(held.block), means) &&
        ((asker != nullptr && is_same(held.holder, *asker)) || !holder_has_it(kernel, state, held.holder))) {
      end_publication(kept, held.target, "target gone", core.boot_id);
      core.repairs.repaired("hold-released", "volume " + id + ": " + held.target + ", published to " + to_string(held.holder) + " since " +
                                                 held.since + ", is no mount of it any more: that hold is over");
    }
  }
  for (const FoundMount& found : state.found) {
    if (is_gone(kernel, found.path, expected(found.block), means)) {
      end_found(kept, found.path, "target gone", core.boot_id);
      core.repairs.repaired("hold-released",
                            "volume " + id + ": " + found.path + ", found mounted at " + found.since + ", is no mount of it any more");
    }
  }
  if (!state.device) {
    kept.forget_ready();
  }
  if (kept.publications.size() != state.publications.size() || kept.found.size() != state.found.size() ||
      kept.stages.size() != state.stages.size()) {
    TRYV(core.ledger->save(id, kept));
    state = std::move(kept);
  }
  return mount::success();
}

}  // namespace ordinald::agent
