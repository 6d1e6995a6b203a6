#pragma once

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "agent/volume_manager.hpp"
#include "mount/worker_pool.hpp"

/// A volume as the admin interface shows it. Reads memory, sysfs and what it is handed: no device is asked.
namespace ordinald::agent {

/// What one answer needs of the node.
struct NodeLook {
  std::map<std::string, mount::Hang> hangs{};  ///< by volume
  std::optional<std::vector<mount::MountEntry>> mounts{};
};

/// Every volume's id: with a record, a damaged one, or forgotten but in the ledger.
std::set<std::string> all_volumes(const Core& core);

/// The id of the volume that is named by its id, its name, or `namespace/claim`. not_found; failed_precondition: two have that claim.
Result<std::string> resolve_volume(const Core& core, const std::string& text);

/// What is wrong with it, as far as that can be told so.
std::vector<csi::HealthEntry> quick_health(VolumeManager& volumes, const std::string& id, const NodeLook& node);

nlohmann::json holder_json(const Holder& holder);
nlohmann::json volume_json(VolumeManager& volumes, const std::string& id, const NodeLook& node);
/// With record, history, device, mounts and last errors. `more`: what a look at its devices found.
nlohmann::json whole_volume_json(VolumeManager& volumes, const std::string& id, const NodeLook& node,
                                 const std::vector<csi::HealthEntry>& more);
/// Why its last call was refused, who holds it, and what would let the call through.
Result<nlohmann::json> explanation_json(VolumeManager& volumes, const std::string& id, const NodeLook& node);

}  // namespace ordinald::agent
