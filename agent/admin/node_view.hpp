#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "agent/admin/node_checks.hpp"
#include "agent/admin/patient_looks.hpp"
#include "agent/admin/volume_view.hpp"

namespace ordinald::agent {

/// The node as the admin interface shows it. What may wait for a disk is looked at on threads of its own, for a second; what does not
/// answer by then is said not to. Thread safe.
class NodeView {
 public:
  NodeView(VolumeManager& volumes, std::function<std::vector<mount::Hang>()> hangs) : volumes_(volumes), hangs_(std::move(hangs)) {}

  /// What hangs, and the mount table.
  [[nodiscard]] NodeLook look();
  [[nodiscard]] nlohmann::json status();
  [[nodiscard]] nlohmann::json pools();
  [[nodiscard]] nlohmann::json volumes();
  [[nodiscard]] nlohmann::json orphans();
  /// What only the agent can see of the node.
  [[nodiscard]] nlohmann::json doctor();
  /// What a look at the volume's devices finds; that it does not answer, where it doesn't.
  [[nodiscard]] std::vector<csi::HealthEntry> devices_health(const std::string& id);

 private:
  struct PoolLook {
    const PoolConfig* config = nullptr;
    bool former = false;  ///< configured no more
    Result<mount::PoolUsage> usage;
  };
  std::vector<PoolLook> look_at_pools();
  nlohmann::json pools_json(const std::vector<PoolLook>& looks, const NodeLook& node);

  VolumeManager& volumes_;
  const std::function<std::vector<mount::Hang>()> hangs_;
  const std::chrono::system_clock::time_point started_ = std::chrono::system_clock::now();
  PatientLooks<std::vector<mount::MountEntry>> tables_{1};
  PatientLooks<Result<mount::PoolUsage>> usages_{4};
  PatientLooks<std::vector<csi::HealthEntry>> healths_{4};
  PatientLooks<mount::CgroupUsers> groups_{1};
  PatientLooks<ToolVersions> versions_{1};
  PatientLooks<std::vector<mount::LoopEntry>> loops_{1};
};

/// The findings of the repairs, each with the command that it names.
nlohmann::json findings_json(const std::map<std::string, std::string>& findings);

}  // namespace ordinald::agent
