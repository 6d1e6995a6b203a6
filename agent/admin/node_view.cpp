#include "agent/admin/node_view.hpp"

#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "agent/admin/leftovers.hpp"
#include "agent/clock_text.hpp"
#include "agent/former_pools.hpp"
#include "agent/health.hpp"
#include "agent/path_words.hpp"

namespace ordinald::agent {
namespace {

using nlohmann::json;
using namespace std::chrono_literals;

constexpr auto look_patience = 1000ms;

/// `ext4 at /var`.
std::string file_system_of(const NodeLook& node, const std::string& directory) {
  if (!node.mounts) {
    return {};
  }
  const mount::MountEntry* nearest = nullptr;
  for (const mount::MountEntry& entry : *node.mounts) {
    if (is_within(directory, entry.mount_point) && (nearest == nullptr || entry.mount_point.size() >= nearest->mount_point.size())) {
      nearest = &entry;
    }
  }
  return nearest == nullptr ? std::string{} : nearest->fs_type + " at " + nearest->mount_point;
}

std::string volume_of_key(const std::string& key) {
  constexpr std::string_view by_name = "named ";
  return key.starts_with(by_name) ? key.substr(by_name.size()) : key;
}

std::int64_t seconds_since(std::chrono::system_clock::time_point since) {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now() - since).count();
}

}  // namespace

NodeLook NodeView::look() {
  NodeLook node;
  for (mount::Hang& hang : hangs_()) {
    node.hangs.emplace(hang.volume, std::move(hang));
  }
  node.mounts = tables_.ask("table", look_patience, [this]() -> std::vector<mount::MountEntry> {
    const auto kernel = volumes_.core().kernels.for_volume("node");
    auto table = kernel ? kernel.value()->mount_table() : Result<std::vector<mount::MountEntry>>{kernel.error()};
    if (!table) {
      throw std::runtime_error(table.error().message);  // then nothing is said of mounts
    }
    return std::move(table.value());
  });
  return node;
}

std::vector<csi::HealthEntry> NodeView::devices_health(const std::string& id) {
  auto found = healths_.ask(id, 2 * look_patience, [this, id] {
    auto health = volumes_.node_volume_health({}, {.volume_id = id, .publish_path = {}, .staging_path = {}});
    return health ? health.value().entries : std::vector<csi::HealthEntry>{};
  });
  if (found) {
    return *found;
  }
  return {{csi::HealthStatus::inaccessible, "DeviceHung", "its device, or what lies below it, did not answer within 2 s (see dmesg)"}};
}

std::vector<NodeView::PoolLook> NodeView::look_at_pools() {
  const Core& core = volumes_.core();
  std::vector<PoolLook> looks;
  const auto until = std::chrono::steady_clock::now() + look_patience;
  const auto look = [&](const PoolConfig& pool, bool former) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
    auto usage = usages_.ask(pool.name, std::max(left, 50ms), [&core, &pool, former]() -> Result<mount::PoolUsage> {
      const auto kernel = core.kernels.for_volume("pool:" + pool.name);
      if (!kernel) {
        return kernel.error().with_context("pool " + pool.name);
      }
      return former ? look_at_former_pool(core, *kernel.value(), pool) : look_at_pool(core, *kernel.value(), *core.pools.at(pool.name));
    });
    looks.push_back(
        {.config = &pool,
         .former = former,
         .usage = usage ? std::move(*usage)
                        : Result<mount::PoolUsage>{mount::make_error(
                              ErrorCode::unavailable, "pool " + pool.name + ": the file system of " + pool.directory +
                                                          " did not answer within a second (see dmesg); its figures are left out")}});
  };
  for (const PoolConfig& pool : core.config.pools) {
    look(pool, false);
  }
  for (const PoolConfig& pool : core.former_pools) {
    if (promises_of(core, pool.name).volumes > 0) {
      look(pool, true);
    }
  }
  return looks;
}

json NodeView::pools_json(const std::vector<PoolLook>& looks, const NodeLook& node) {
  Core& core = volumes_.core();
  std::vector<PoolView> views;
  for (const PoolLook& look : looks) {
    if (look.former) {
      views.push_back(view_former_pool(core, *look.config, look.usage, views));
    } else if (look.usage) {
      views.push_back({.pool = look.config, .usage = look.usage.value()});
    }
  }
  const auto records = core.records->all();
  json pools = json::array();
  for (const PoolLook& look : looks) {
    const PoolConfig& config = *look.config;
    std::uint64_t promised = 0;
    std::uint64_t number = 0;
    for (const auto& record : records) {
      if (record->pool == config.name) {
        promised += record->size;
        ++number;
      }
    }
    json problems = json::array();
    if (look.former) {
      problems.push_back(
          {{"reason", "PoolNotConfigured"},
           {"message", "pool " + config.name + " is not configured: " + std::to_string(number) +
                           " volumes of it remain and are not served, and are promised " + std::to_string(promised) +
                           " bytes; put it back into the configuration" +
                           (look.usage ? "" : "; till then these are kept free in every pool: " + look.usage.error().message)}});
    } else if (const auto problem = judge_pool(config, look.usage)) {
      problems.push_back({{"reason", problem->reason}, {"message", problem->message}});
    }
    const bool known = bool(look.usage);
    pools.push_back({{"name", config.name},
                     {"kind", config.kind},
                     {"directory", config.directory},
                     {"provisioning", config.thick ? "thick" : "thin"},
                     {"fileSystem", file_system_of(node, config.directory)},
                     {"total", known ? look.usage.value().total : 0},
                     {"used", known ? look.usage.value().total - std::min(look.usage.value().total, look.usage.value().free) : 0},
                     {"inodes", known ? look.usage.value().inodes : 0},
                     {"inodesFree", known ? look.usage.value().inodes_free : 0},
                     {"available", known && !look.former ? core.promises.available(config.name, views, records) : 0},
                     {"promised", promised},
                     {"volumes", number},
                     {"healthy", problems.empty()},
                     {"problems", std::move(problems)}});
  }
  return pools;
}

json NodeView::pools() {
  const NodeLook node = look();
  return {{"pools", pools_json(look_at_pools(), node)}};
}

json NodeView::volumes() {
  const NodeLook node = look();
  json list = json::array();
  for (const std::string& id : all_volumes(volumes_.core())) {
    list.push_back(volume_json(volumes_, id, node));
  }
  return {{"volumes", std::move(list)}};
}

json NodeView::status() {
  const Core& core = volumes_.core();
  const NodeLook node = look();
  json pools = pools_json(look_at_pools(), node);
  json problems = json::array();
  for (const json& pool : pools) {
    if (!pool["healthy"].get<bool>()) {
      problems.push_back({{"reason", pool["problems"][0]["reason"]}, {"message", "pool " + pool["name"].get<std::string>()}});
    }
  }
  std::size_t total = 0;
  std::size_t staged = 0;
  std::size_t published = 0;
  std::size_t unhealthy = 0;
  for (const std::string& id : all_volumes(core)) {
    const VolumeState state = core.ledger->state(id);
    ++total;
    staged += state.stages.empty() ? 0 : 1;
    published += state.publications.empty() ? 0 : 1;
    const auto health = quick_health(volumes_, id, node);
    if (!health.empty()) {
      ++unhealthy;
      constexpr std::size_t most = 20;
      if (unhealthy <= most) {
        problems.push_back({{"reason", health.front().reason}, {"message", "volume " + id + ": " + health.front().message}});
      }
    }
  }
  if (!node.mounts) {
    problems.push_back({{"reason", "MountTableUnknown"}, {"message", "the mount table could not be read; nothing is said of mounts"}});
  }
  json running = json::array();
  for (const auto& each : volumes_.locks().list()) {
    running.push_back({{"call", each.what},
                       {"volume", volume_of_key(each.key)},
                       {"since", utc_text(each.since)},
                       {"seconds", std::chrono::duration_cast<std::chrono::seconds>(each.lasts).count()}});
  }
  json hung = json::array();
  for (const auto& [volume, hang] : node.hangs) {
    hung.push_back({{"call", hang.what},
                    {"volume", volume},
                    {"since", utc_text(hang.since)},
                    {"seconds", seconds_since(hang.since)},
                    {"holds", "process " + std::to_string(hang.pid) + " waits for its device, or what lies below it (see dmesg)"}});
  }
  return {{"version", ORDINALD_VERSION},
          {"nodeId", core.config.node_id},
          {"pluginName", core.config.plugin_name},
          {"pid", ::getpid()},
          {"bootId", core.boot_id},
          {"startedAt", utc_text(started_)},
          {"endpoint", core.config.endpoint},
          {"stateDir", core.config.state_dir},
          {"runDir", core.config.run_dir},
          {"healthy", problems.empty() && hung.empty()},
          {"problems", std::move(problems)},
          {"pools", std::move(pools)},
          {"volumes", {{"total", total}, {"staged", staged}, {"published", published}, {"unhealthy", unhealthy}}},
          {"running", std::move(running)},
          {"hung", std::move(hung)},
          {"repairs", core.repairs.counts()},
          {"findings", core.repairs.findings().size()}};
}

json NodeView::orphans() {
  const Core& core = volumes_.core();
  std::vector<PoolView> views;
  for (const PoolLook& look : look_at_pools()) {
    if (look.usage && !look.former) {
      views.push_back({.pool = look.config, .usage = look.usage.value()});
    }
  }
  const auto loops = loops_.ask("loops", look_patience, [&core]() -> std::vector<mount::LoopEntry> {
    const auto kernel = core.kernels.for_volume("node");
    const auto found = kernel ? kernel.value()->loops() : Result<std::vector<mount::LoopEntry>>{kernel.error()};
    return found ? found.value() : std::vector<mount::LoopEntry>{};
  });
  return {{"findings", findings_json(core.repairs.findings())},
          {"leftovers", leftovers(volumes_, views, loops.value_or(std::vector<mount::LoopEntry>{}))}};
}

json findings_json(const std::map<std::string, std::string>& findings) {
  json list = json::array();
  for (const auto& [message, command] : findings) {
    list.push_back({{"message", message}, {"command", command}});
  }
  return list;
}

json NodeView::doctor() {
  const Core& core = volumes_.core();
  json checks = quick_checks(core.config);
  const auto versions = versions_.ask("versions", look_patience, [&core]() -> ToolVersions {
    const auto kernel = core.kernels.for_volume("tools");
    return kernel ? tool_versions(*kernel.value()) : ToolVersions{};
  });
  checks.push_back(check_tools(versions.value_or(ToolVersions{})));
  const auto groups = groups_.ask("groups", look_patience, [&core]() -> mount::CgroupUsers {
    const auto kernel = core.kernels.for_volume("node");
    auto seen = kernel ? kernel.value()->cgroup_users({}) : Result<mount::CgroupUsers>{kernel.error()};
    return seen ? std::move(seen.value()) : mount::CgroupUsers{};
  });
  const bool visible = groups && groups->visible;
  checks.push_back(visible ? check("control groups", "ok", "the agent sees the host's at /sys/fs/cgroup", "")
                           : check("control groups", "failed",
                                   "the agent does not see the host's at /sys/fs/cgroup: whether a deleted workload still writes can't be "
                                   "told, and hand-overs go unchecked",
                                   "mount the host's /sys/fs/cgroup there for the agent"));
  checks.push_back(!visible              ? check("host's processes", "warning", "not known without control groups", "see control groups")
                   : groups->unseen == 0 ? check("host's processes", "ok", "the agent sees them all", "")
                                         : check("host's processes", "failed",
                                                 "the agent does not see them: those of a deleted workload hold its volume until they end",
                                                 "run the agent with the host's pids (hostPID: true)"));
  for (const json& pool : pools_json(look_at_pools(), NodeLook{})) {
    const std::string name = "pool " + pool["name"].get<std::string>();
    checks.push_back(pool["healthy"].get<bool>()
                         ? check(name.c_str(), "ok", pool["directory"].get<std::string>(), "")
                         : check(name.c_str(), "failed", pool["problems"][0]["message"].get<std::string>(), "see `ordinalctl pools`"));
  }
  return {{"checks", std::move(checks)}};
}

}  // namespace ordinald::agent
