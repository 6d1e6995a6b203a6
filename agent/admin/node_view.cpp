#include "agent/admin/node_view.hpp"

#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <sstream>

#include "agent/clock_text.hpp"
#include "agent/durable_file.hpp"
#include "agent/health.hpp"

namespace ordinald::agent {
namespace {

using nlohmann::json;
using namespace std::chrono_literals;

constexpr auto patience = 1000ms;

bool is_within(const std::string& path, const std::string& directory) {
  return directory == "/" || path == directory || path.starts_with(directory + "/");
}

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

json check(const char* name, const char* verdict, const std::string& detail, const std::string& remedy) {
  return {{"name", name}, {"verdict", verdict}, {"detail", detail}, {"remedy", remedy}};
}

json check_kernel() {
  utsname names{};
  (void)::uname(&names);
  int first = 0;
  int second = 0;
  (void)std::sscanf(names.release, "%d.%d", &first, &second);
  const bool fit = first > 5 || (first == 5 && second >= 15);  // mount_setattr(2) 5.12, a disk's sequence number 5.15
  return fit ? check("kernel", "ok", std::string{"Linux "} + names.release, "")
             : check("kernel", "failed", std::string{"Linux "} + names.release, "run Linux 5.15 or newer: Debian 12 has 6.1");
}

json check_capabilities() {
  struct Needed {
    unsigned bit;
    const char* name;
    const char* what_for;
    bool must;
  };
  constexpr std::array needed{Needed{21, "CAP_SYS_ADMIN", "mounting", true}, Needed{1, "CAP_DAC_OVERRIDE", "reaching targets", true},
                              Needed{0, "CAP_CHOWN", "volume groups", false},
                              Needed{24, "CAP_SYS_RESOURCE", "growing a mounted ext4", false},
                              Needed{19, "CAP_SYS_PTRACE", "seeing who has a volume", false}};
  const auto status = read_file("/proc/self/status");
  const std::size_t at = status ? status.value().find("CapEff:") : std::string::npos;
  if (at == std::string::npos) {
    return check("capabilities", "warning", "they can't be read from /proc/self/status", "mount /proc for the agent");
  }
  const std::uint64_t has = std::strtoull(status.value().c_str() + at + 7, nullptr, 16);
  std::string missing;
  bool must = false;
  for (const Needed& each : needed) {
    if ((has >> each.bit & 1U) == 0) {
      missing += (missing.empty() ? "" : ", ") + std::string{each.name} + " (" + each.what_for + ")";
      must = must || each.must;
    }
  }
  return missing.empty() ? check("capabilities", "ok", "all that are needed", "")
                         : check("capabilities", must ? "failed" : "warning", "missing: " + missing,
                                 "give the agent these capabilities (in a container: privileged: true)");
}

json check_loops() {
  return ::access("/dev/loop-control", R_OK | W_OK) == 0 ? check("loop devices", "ok", "/dev/loop-control is there", "")
                                                         : check("loop devices", "failed", "the agent can't open /dev/loop-control",
                                                                 "modprobe loop; in a container, give it the host's /dev");
}

json check_tools() {
  std::string missing;
  for (const char* tool :
       {"/usr/sbin/mke2fs", "/usr/sbin/e2fsck", "/usr/sbin/resize2fs", "/usr/sbin/e2undo", "/usr/sbin/mkfs.xfs", "/usr/bin/mkfs.btrfs"}) {
    const std::string name{tool};
    const std::string beside = "/sbin" + name.substr(name.rfind('/'));
    if (::access(tool, X_OK) != 0 && ::access(beside.c_str(), X_OK) != 0) {
      missing += (missing.empty() ? "" : ", ") + name;
    }
  }
  return missing.empty()
             ? check("agent's tools", "ok", "mke2fs, e2fsck, resize2fs, e2undo, mkfs.xfs, mkfs.btrfs are where the agent runs", "")
             : check("agent's tools", "warning", "missing where the agent runs: " + missing,
                     "install e2fsprogs, xfsprogs and btrfs-progs there; volumes of those filesystems can't be made before");
}

/// Mounts of the agent reach workloads that run in other namespaces only where the mount above them is shared.
json check_propagation() {
  constexpr const char* name = "mount propagation";
  struct stat own{};
  struct stat first{};
  const bool host = ::stat("/proc/self/ns/mnt", &own) == 0 && ::stat("/proc/1/ns/mnt", &first) == 0 && own.st_ino == first.st_ino;
  const auto table = read_file("/proc/self/mountinfo");
  std::string above = "/";
  bool shared = false;
  std::istringstream lines{table ? table.value() : std::string{}};
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words{line};
    std::string word;
    std::string mount_point;
    for (int i = 0; i < 5; ++i) {
      words >> mount_point;
    }
    if (is_within("/var/lib/kubelet", mount_point) && mount_point.size() >= above.size()) {
      above = mount_point;
      shared = line.find(" shared:") != std::string::npos;
    }
  }
  if (shared) {
    return check(name, "ok", above + " is shared" + (host ? ", and the agent is in the host's mount namespace" : ""), "");
  }
  return check(name, "warning",
               above + " is not shared where the agent runs" + (host ? "" : ", in a mount namespace of its own") +
                   ": containers see what it mounts only when they start",
               host ? "mount --make-rshared /" : "mount its directories with mountPropagation: Bidirectional");
}

json check_state_dir(const Config& config) {
  struct statfs status{};
  if (::statfs(config.state_dir.c_str(), &status) != 0) {
    return check("state directory", "failed", config.state_dir + " can't be looked at", "put it back, and restart the agent");
  }
  if (status.f_type == TMPFS_MAGIC || status.f_type == RAMFS_MAGIC || status.f_type == OVERLAYFS_SUPER_MAGIC) {
    return check("state directory", "failed",
                 config.state_dir + " is on a " + (status.f_type == OVERLAYFS_SUPER_MAGIC ? "container's file system" : "tmpfs") +
                     ": records are lost at the next start",
                 "set stateDir to a directory on a disk of the node");
  }
  return check("state directory", "ok", config.state_dir + " is on a disk", "");
}

json check_run_dir(const Config& config) {
  struct statfs status{};
  const bool there = ::statfs(config.run_dir.c_str(), &status) == 0;
  return there && status.f_type == TMPFS_MAGIC
             ? check("run directory", "ok", config.run_dir + " is on a tmpfs", "")
             : check("run directory", "warning",
                     config.run_dir + (there ? " is not on a tmpfs: it outlives a boot" : " can't be looked at"),
                     "set runDir to a directory beneath /run");
}

}  // namespace

NodeLook NodeView::look() {
  NodeLook node;
  for (mount::Hang& hang : hangs_()) {
    node.hangs.emplace(hang.volume, std::move(hang));
  }
  node.mounts = tables_.ask("table", patience, [this]() -> std::vector<mount::MountEntry> {
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
  auto found = healths_.ask(id, 2 * patience, [this, id] {
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
  const auto until = std::chrono::steady_clock::now() + patience;
  for (const PoolConfig& pool : core.config.pools) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
    auto usage = usages_.ask(pool.name, std::max(left, 50ms), [&core, &pool]() -> Result<mount::PoolUsage> {
      const auto kernel = core.kernels.for_volume("pool:" + pool.name);
      if (!kernel) {
        return kernel.error().with_context("pool " + pool.name);
      }
      return core.pools.at(pool.name)->usage(*kernel.value());
    });
    looks.push_back(
        {.config = &pool,
         .usage = usage ? std::move(*usage)
                        : Result<mount::PoolUsage>{mount::make_error(
                              ErrorCode::unavailable, "pool " + pool.name + ": the file system of " + pool.directory +
                                                          " did not answer within a second (see dmesg); its figures are left out")}});
  }
  return looks;
}

json NodeView::pools_json(const std::vector<PoolLook>& looks, const NodeLook& node) {
  Core& core = volumes_.core();
  std::vector<PoolView> views;
  for (const PoolLook& look : looks) {
    if (look.usage) {
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
    if (const auto problem = judge_pool(config, look.usage)) {
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
                     {"available", known ? core.promises.available(config.name, views, records) : 0},
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

json NodeView::orphans() const {
  const Core& core = volumes_.core();
  json leftovers = json::array();
  for (const auto& record : core.records->all()) {
    if (record->deleting) {
      leftovers.push_back("volume " + record->id + ": its delete was interrupted; a repair finishes it");
    } else if (!record->provisioned) {
      leftovers.push_back("volume " + record->id + " (" + record->name +
                          "): its create is not finished; a repair takes it back unless a call is at it");
    }
  }
  for (const auto& [id, damaged] : core.records->damaged()) {
    leftovers.push_back("volume " + id + ": its record is set aside as " + damaged.file + ": " + damaged.why);
  }
  return {{"findings", findings_json(core.repairs.findings())}, {"leftovers", std::move(leftovers)}};
}

json findings_json(const std::set<std::string>& findings) {
  json list = json::array();
  for (const std::string& finding : findings) {
    std::string command;
    for (const char* begins : {"losetup -d ", "rm /"}) {
      if (const auto at = finding.rfind(begins); command.empty() && at != std::string::npos && at > 0 && finding[at - 1] == ' ') {
        command = finding.substr(at);
      }
    }
    list.push_back({{"message", finding}, {"command", command}});
  }
  return list;
}

json NodeView::doctor() {
  const Core& core = volumes_.core();
  json checks = json::array({check_kernel(), check_capabilities(), check_loops(), check_tools(), check_propagation(),
                             check_state_dir(core.config), check_run_dir(core.config)});
  const auto groups = groups_.ask("groups", patience, [&core]() -> mount::CgroupUsers {
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
