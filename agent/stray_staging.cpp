#include "agent/stray_staging.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "agent/adoption_words.hpp"
#include "agent/path_words.hpp"

namespace ordinald::agent {
namespace {

constexpr std::int64_t settled_after = 600;  ///< seconds

std::set<std::string> places_to_look(const Core& core) {
  std::set<std::string> places{"/var/lib/kubelet/plugins/kubernetes.io/csi/" + core.config.plugin_name};
  for (const auto& [id, state] : core.ledger->all()) {
    for (const Stage& stage : state.stages) {
      if (stage.path.ends_with("/globalmount")) {
        places.insert(directory_of(directory_of(stage.path)));
      }
    }
  }
  places.erase("");
  return places;
}

/// The volume that kubelet's file names; empty: none of this driver's.
std::string volume_named_by(const Core& core, const std::string& data) {
  const auto parsed = nlohmann::json::parse(data, nullptr, false);
  const auto text = [&](const char* key) {
    return parsed.is_object() && parsed.contains(key) && parsed[key].is_string() ? parsed[key].get<std::string>() : std::string{};
  };
  return text("driverName") == core.config.plugin_name ? text("volumeHandle") : std::string{};
}

bool may_be_staged_yet(const Core& core, const std::string& volume) {
  const auto refusal = core.errors.refusal(volume);
  return refusal && refusal->call.find("Stage") != std::string::npos;
}

Stray stray_of(const Core& core, const std::string& volume, const std::string& place) {
  const bool known = core.records->find(volume) != nullptr || core.records->find_damaged(volume);
  const std::string directory = quoted(place);
  return {.volume = volume,
          .what = place + " is kubelet's staging directory of volume " + volume + ", which " +
                  (known ? "is not staged there" : "this node does not have") + "; if kubelet does not remove it by itself",
          .command = "rmdir " + directory + "/globalmount && rm " + directory + "/vol_data.json && rmdir " + directory};
}

}  // namespace

Result<std::vector<Stray>> find_stray_staging(const Core& core, std::set<std::string>& idle) {
  // A key of its own: where it hangs, nothing else waits.
  TRY(const auto kernel, core.kernels.for_volume("staging directories"));
  TRY(const auto mounts, kernel->mount_table());
  std::set<std::string> now;
  std::vector<Stray> strays;
  for (const std::string& directory : places_to_look(core)) {
    TRY(const auto places, kernel->staging_places(directory));
    for (const mount::StagingPlace& place : places) {
      const std::string path = directory + "/" + place.name;
      const std::string staging = path + "/globalmount";
      const std::string volume = volume_named_by(core, place.data);
      if (volume.empty() || place.age < settled_after || !core.ledger->owner_of(staging).empty() || may_be_staged_yet(core, volume) ||
          std::ranges::find(mounts, staging, &mount::MountEntry::mount_point) != mounts.end()) {
        continue;
      }
      if (idle.contains(path)) {
        strays.push_back(stray_of(core, volume, path));
      }
      now.insert(path);
    }
  }
  idle = std::move(now);
  return strays;
}

}  // namespace ordinald::agent
