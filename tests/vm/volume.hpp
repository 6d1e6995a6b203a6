#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

/// What the orchestrator of power-cut knows of its volumes, through all boots of the guest. Plain data, kept in a JSON file by the host.
namespace ordinald::testing {

/// Bytes that the guest acknowledged as durable: they follow from the seed.
struct DurableFile {
  std::string name;
  std::uint64_t seed = 0;
  std::uint64_t bytes = 0;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(DurableFile, name, seed, bytes)

/// A target that an acknowledged unpublish removed. Nobody syncs the pod's directory, so a power failure may bring it back.
struct RemovedTarget {
  std::string volume_id;
  std::string path;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(RemovedTarget, volume_id, path)

/// A volume of one lane; each lane has one at a time, and never two calls at once.
struct LaneVolume {
  std::string kind;  ///< ext4, xfs, btrfs, block
  std::string pool;
  int generation = 0;            ///< of the name
  std::string level = "absent";  ///< what was acknowledged: absent, created, staged, published
  std::string pending;           ///< the operation that was begun and not answered; empty: none
  std::string id;
  std::int64_t size = 0;
  std::int64_t wanted_size = 0;  ///< of a pending grow
  std::int64_t total = 0;        ///< as the stats had it once it was grown
  std::string uuid;              ///< of the filesystem, once it was staged
  bool target_made = false;      ///< by a publish, perhaps in an earlier boot, and no unpublish since
  std::vector<DurableFile> files;
  std::vector<RemovedTarget> removed_targets;  ///< of this lane, in this boot, also of volumes deleted since
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(LaneVolume, kind, pool, generation, level, pending, id, size, wanted_size, total, uuid, target_made,
                                   files, removed_targets)

/// Create's name.
inline std::string volume_name(const LaneVolume& volume) {
  return "data-" + volume.kind + "-" + volume.pool + "-" + std::to_string(volume.generation);
}
/// Where the orchestrator wants it in the guest.
inline std::string staging_of(const LaneVolume& volume) { return "/data/stage/" + volume_name(volume); }
inline std::string pod_of(const LaneVolume& volume) { return "/data/pods/" + volume_name(volume); }
inline std::string target_of(const LaneVolume& volume) { return pod_of(volume) + "/volume"; }

struct Model {
  std::uint64_t acknowledged = 0;  ///< calls and writes
  std::uint64_t checked = 0;       ///< things that had to be there after a cut, and were
  int cuts = 0;
  std::map<std::string, int> interrupted;  ///< operations that a cut found unanswered
  std::vector<LaneVolume> lanes;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Model, acknowledged, checked, cuts, interrupted, lanes)

}  // namespace ordinald::testing
