#include "agent/online_growth.hpp"

#include <algorithm>
#include <vector>

#include "agent/attachment.hpp"
#include "agent/content_guard.hpp"

namespace ordinald::agent {
namespace {

struct Place {
  std::string path;
  bool read_only = false;
};

/// Where the volume's filesystem is mounted, by the ledger: it may be at a target alone, or where the ledger was lost and it was found.
std::vector<Place> filesystem_places(const VolumeState& state) {
  std::vector<Place> places;
  for (const Stage& stage : state.stages) {
    if (!stage.block) {
      places.push_back({stage.path, stage.read_only});
    }
  }
  for (const Publication& publication : state.publications) {
    if (!publication.block) {
      places.push_back({publication.target, publication.read_only});
    }
  }
  for (const FoundMount& found : state.found) {
    if (!found.block) {
      places.push_back({found.path, found.read_only});
    }
  }
  return places;
}

}  // namespace

Result<void> grow_online(Core& core, const std::string& id, std::uint64_t size) {
  VolumeRecord record = *core.records->find(id);
  VolumeState state = core.ledger->state(id);
  const auto places = filesystem_places(state);
  const bool lost = !state.device;
  if (record.fs_grown_for >= size || (places.empty() && !lost)) {
    return mount::success();  // grown, or a raw block device that has the size
  }
  TRY(const auto kernel, core.kernels.for_volume(id));
  TRY(state, known_state(core, *kernel, id));
  if (!state.device) {
    return places.empty() ? Result<void>{mount::success()}
                          : make_error(ErrorCode::failed_precondition, "its device is gone, so its filesystem can't grow; the volume has " +
                                                                           std::to_string(size) +
                                                                           " bytes, the filesystem grows when it is staged the next time");
  }
  const auto writable = std::ranges::find(places, false, &Place::read_only);
  if (!places.empty() && writable == places.end()) {
    return make_error(ErrorCode::failed_precondition,
                      "it is mounted for reading only, and a filesystem grows where it is writable; the volume has " +
                          std::to_string(size) + " bytes, the filesystem grows when it is staged for writing");
  }
  if (!places.empty() && state.fs_type == "ext4" && !core.grows_mounted_ext4) {
    return make_error(ErrorCode::failed_precondition,
                      "this process lacks CAP_SYS_RESOURCE, without which a mounted ext4 can't be grown; the volume has " +
                          std::to_string(size) + " bytes, the filesystem grows when it is staged the next time");
  }
  TRY(const mount::Device device, kernel->refresh_device_size(*state.device));
  if (places.empty()) {
    return mount::success();
  }
  for (const Place& place : places) {  // the first that is still mounted
    TRY(const mount::PathInfo info, kernel->inspect_path(place.path));
    if (!place.read_only && mount::matches(info, state.expected_mount())) {
      return grow_mounted(core, *kernel, record, device, state.fs_type, place.path);
    }
  }
  return grow_mounted(core, *kernel, record, device, state.fs_type, writable->path);  // which says what is there instead
}

}  // namespace ordinald::agent
