#include "agent/holds.hpp"

namespace ordinald::agent {
namespace {

/// Where the kernel says for certain that the path is no mount of the volume.
bool is_gone(mount::Kernel& kernel, const std::string& path, const mount::Expected& expected, GoneMeans means) {
  const auto info = kernel.inspect_path(path);
  if (!info) {
    return false;
  }
  return means == GoneMeans::path_is_gone ? info.value().kind == mount::FileKind::none : !mount::matches(info.value(), expected);
}

}  // namespace

Result<void> release_gone_holds(Core& core, mount::Kernel& kernel, const std::string& id, VolumeState& state, GoneMeans means) {
  const auto expected = [&](bool block) { return block ? state.expected_block() : state.expected_mount(); };
  VolumeState kept = state;
  std::erase_if(kept.publications, [&](const Publication& held) {
    const bool gone = is_gone(kernel, held.target, expected(held.block), means);
    if (gone) {
      core.repairs.repaired("hold-released", "volume " + id + ": " + held.target + ", published to " + to_string(held.holder) + " since " +
                                                 held.since + ", is no mount of it any more: that hold is over");
    }
    return gone;
  });
  std::erase_if(kept.found, [&](const FoundMount& found) {
    const bool gone = is_gone(kernel, found.path, expected(found.block), means);
    if (gone) {
      core.repairs.repaired("hold-released",
                            "volume " + id + ": " + found.path + ", found mounted at " + found.since + ", is no mount of it any more");
    }
    return gone;
  });
  if (kept.publications.size() != state.publications.size() || kept.found.size() != state.found.size()) {
    TRYV(core.ledger->save(id, kept));
    state = std::move(kept);
  }
  return mount::success();
}

}  // namespace ordinald::agent
