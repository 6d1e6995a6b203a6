#include "agent/pool_places.hpp"

#include <nlohmann/json.hpp>

#include "agent/durable_file.hpp"

namespace ordinald::agent {
namespace {

constexpr const char* places_file = "pools.json";

}  // namespace

std::map<std::string, std::string> parse_pool_places(std::string_view text, const std::string& boot_id) {
  std::map<std::string, std::string> filesystems;
  const auto file = nlohmann::json::parse(text, nullptr, false);
  if (!file.is_object() || file.value("boot_id", nlohmann::json{}) != boot_id || !file.contains("filesystems") ||
      !file["filesystems"].is_object()) {
    return filesystems;
  }
  for (const auto& [directory, filesystem] : file["filesystems"].items()) {
    if (filesystem.is_string()) {
      filesystems[directory] = filesystem.get<std::string>();
    }
  }
  return filesystems;
}

PoolPlaces::PoolPlaces(std::string run_dir, std::string boot_id) : run_dir_(std::move(run_dir)), boot_id_(std::move(boot_id)) {
  if (const auto text = read_file(run_dir_ + "/" + places_file)) {
    filesystems_ = parse_pool_places(text.value(), boot_id_);
  }
}

void PoolPlaces::note(const std::string& directory, const std::string& filesystem) {
  const std::scoped_lock lock{mutex_};
  const auto [place, added] = filesystems_.try_emplace(directory, filesystem);
  if (!added && std::exchange(place->second, filesystem) == filesystem) {
    return;
  }
  const nlohmann::json file{{"boot_id", boot_id_}, {"filesystems", filesystems_}};
  (void)write_file(run_dir_, places_file, file.dump(2) + "\n", Durability::until_reboot);
}

bool PoolPlaces::elsewhere(const std::string& directory, const std::string& filesystem) const {
  const std::scoped_lock lock{mutex_};
  const auto found = filesystems_.find(directory);
  return found != filesystems_.end() && found->second != filesystem;
}

}  // namespace ordinald::agent
