#include "agent/volume_manager.hpp"

#include <algorithm>
#include <chrono>
#include <set>

#include "agent/attachment.hpp"
#include "agent/deletion.hpp"
#include "agent/durable_file.hpp"
#include "agent/hand_over.hpp"
#include "agent/holds.hpp"
#include "agent/online_growth.hpp"
#include "agent/reconciler.hpp"
#include "mount/image_pool.hpp"

namespace ordinald::agent {
namespace {

using mount::make_error;

/// Bit 24 of the effective set (capabilities(7)).
constexpr std::uint64_t cap_sys_resource = std::uint64_t{1} << 24U;

bool is_stage_or_target(const VolumeState& state, const std::string& path) {
  return state.stage_at(path) != nullptr || state.publication_at(path) != nullptr || state.found_at(path) != nullptr;
}

using Claiming = std::vector<std::future<Result<void>>>;

/// Two pools of this agent that are one directory, by a symlink or a mount: the refusal of the one that could not be locked, by the later's
/// key. None: that is somebody else's doing. Asks only pools that have answered by `until`.
Result<void> check_no_pool_twice(Core& core, const Claiming& claiming, std::size_t refused, std::chrono::steady_clock::time_point until) {
  const auto& pools = core.config.pools;
  TRY(const auto kernel, core.kernels.for_volume("pool:" + pools[refused].name));
  TRY(const auto directory, kernel->open_pool(pools[refused].directory));
  for (std::size_t i = 0; i < pools.size(); ++i) {
    if (i == refused || (claiming[i].valid() && claiming[i].wait_until(until) != std::future_status::ready)) {
      continue;
    }
    const auto other = kernel->open_pool(pools[i].directory);
    if (other && other.value().device == directory.device && other.value().inode == directory.inode) {
      const std::size_t first = std::min(i, refused);
      const std::size_t second = std::max(i, refused);
      return make_error(ErrorCode::invalid_argument,
                        "pools[" + std::to_string(second) + "].directory: expected a directory apart from that of pools[" +
                            std::to_string(first) + "], found " + pools[second].directory + ", which is the same one as " +
                            pools[first].directory + " by a symlink or a mount");
    }
  }
  return mount::success();
}

/// Makes every pool ours that answers at once; failed_precondition, by its path in the configuration, where another agent has one;
/// invalid_argument, where we have it already as another pool. One that hangs keeps nobody waiting: it is claimed when it answers, be it by
/// what is still going on in the answer, or by the call that needs it.
Result<Claiming> claim_pools(Core& core) {
  constexpr std::chrono::milliseconds patience{300};
  Claiming claiming;
  claiming.reserve(core.config.pools.size());
  for (const PoolConfig& pool : core.config.pools) {
    claiming.push_back(std::async(std::launch::async, [&core, name = pool.name]() -> Result<void> {
      TRY(const auto kernel, core.kernels.for_volume("pool:" + name));
      return core.pools.at(name)->claim(*kernel);
    }));
  }
  const auto until = std::chrono::steady_clock::now() + patience;
  for (std::size_t i = 0; i < claiming.size(); ++i) {
    if (claiming[i].wait_until(until) != std::future_status::ready) {
      core.log->warn("pool {}: its directory {} does not answer; its volumes are served once it does", core.config.pools[i].name,
                     core.config.pools[i].directory);
      continue;
    }
    if (const auto claimed = claiming[i].get(); !claimed && claimed.error().code == ErrorCode::failed_precondition) {
      TRYV(check_no_pool_twice(core, claiming, i, until));
      return claimed.error().with_context("pools[" + std::to_string(i) + "].directory");
    }
  }
  std::erase_if(claiming, [](const auto& each) { return !each.valid(); });
  return claiming;
}

}  // namespace

Result<Environment> Environment::current() {
  Environment environment;
  TRY(environment.boot_id, read_file("/proc/sys/kernel/random/boot_id"));
  environment.boot_id.erase(environment.boot_id.find_last_not_of('\n') + 1);
  TRY(const std::string status, read_file("/proc/self/status"));
  if (const auto at = status.find("CapEff:"); at != std::string::npos) {
    environment.grows_mounted_ext4 = (std::strtoull(status.c_str() + at + 7, nullptr, 16) & cap_sys_resource) != 0;
  }
  return environment;
}

Result<std::unique_ptr<VolumeManager>> VolumeManager::open(const Config& config, mount::KernelSource& kernels,
                                                           const std::shared_ptr<const mount::Log>& log) {
  TRY(const Environment environment, Environment::current());
  return open(config, kernels, log, environment);
}

Result<std::unique_ptr<VolumeManager>> VolumeManager::open(const Config& config, mount::KernelSource& kernels,
                                                           const std::shared_ptr<const mount::Log>& log, const Environment& environment) {
  TRY(auto records, RecordStore::open(config.state_dir));
  TRY(auto digest, KeyedDigest::open(config.run_dir));
  TRY(auto ledger, Ledger::open(config.run_dir, environment.boot_id, digest.id()));
  auto core = std::unique_ptr<Core>{new Core{.config = config,
                                             .kernels = kernels,
                                             .log = log,
                                             .records = std::move(records),
                                             .ledger = std::move(ledger),
                                             .digest = std::move(digest),
                                             .pools = {},
                                             .grows_mounted_ext4 = environment.grows_mounted_ext4,
                                             .promises = {},
                                             .repairs = RepairLog{log},
                                             .places = {config.run_dir, environment.boot_id},
                                             .marks = PoolMarks{config.state_dir},
                                             .boot_id = environment.boot_id,
                                             .gone_holders = {},
                                             .handed_over = {}}};
  for (const PoolConfig& pool : config.pools) {
    auto image_pool =
        std::make_unique<mount::ImagePool>(mount::ImagePool::Settings{.name = pool.name, .directory = pool.directory, .thick = pool.thick});
    if (pool.directory.starts_with(config.state_dir + "/")) {
      // Any other directory may be a mount that is not there yet: to make it would hide that.
      if (auto made = image_pool->prepare(); !made) {
        core->log->error("{}", made.error().message);
      }
    }
    core->pools.emplace(pool.name, std::move(image_pool));
  }
  TRY(auto claiming, claim_pools(*core));
  for (const auto& [id, damaged] : core->records->damaged()) {
    core->log->error("volume {}: its record is set aside as {}: {}", id, damaged.file, damaged.why);
  }
  if (!core->digest.trouble().empty()) {
    core->log->error("{}", core->digest.trouble());
  }
  if (!core->grows_mounted_ext4) {
    core->log->warn("this process lacks CAP_SYS_RESOURCE: a mounted ext4 can't be grown, it grows when its volume is staged the next time");
  }
  TRYV(reconcile(*core));
  return std::unique_ptr<VolumeManager>{new VolumeManager{std::move(core), std::move(claiming)}};
}

void VolumeManager::watch_hand_overs(const std::stop_token& stop, std::chrono::steady_clock::time_point until) {
  while (core_->handed_over.wait(stop, until)) {
    name_bystanders(*core_);
  }
}

template <class Work>
auto VolumeManager::locked(const csi::CallContext& call, const std::string& volume_id, const char* what, Work work) -> decltype(work()) {
  const auto locked = locks_.acquire(volume_id, what, call);
  auto result = locked ? work() : decltype(work()){locked.error()};
  if (result) {
    core_->errors.went_well(volume_id, what);
    return result;
  }
  const Error error = result.error().message.starts_with("volume " + volume_id) ? result.error() : on_volume(volume_id, result.error());
  if (core_->records->find(volume_id) != nullptr || core_->records->find_damaged(volume_id) || core_->ledger->state(volume_id).in_use()) {
    core_->errors.failed(volume_id, what, error);
  }
  return error;
}

Result<bool> VolumeManager::ready() { return true; }

Result<csi::Volume> VolumeManager::create_volume(const csi::CallContext& call, const csi::CreateVolumeArgs& args) {
  // Two calls for one name meet at the name; the volume has no id yet.
  TRY(const auto guard, locks_.acquire(create_key(args.name), "CreateVolume", call));
  if (const auto record = core_->records->find_by_name(args.name); record != nullptr && record->deleting) {
    // Begun, so it will be finished, here at the latest: an orchestrator that repeats nothing (Nomad) gets its volume all the same.
    TRYV(delete_volume(call, record->id));
  }
  return provisioner_.create(call, args);
}

Result<void> VolumeManager::delete_volume(const csi::CallContext& call, const std::string& volume_id) {
  auto removed = locked(call, volume_id, "DeleteVolume", [&] { return agent::delete_volume(*core_, volume_id); });
  if (removed) {
    core_->errors.forget(volume_id);
  }
  return removed;
}

Result<csi::ValidateResult> VolumeManager::validate_volume(const csi::CallContext& /*call*/, const csi::ValidateArgs& args) {
  return provisioner_.validate(args);
}

Result<csi::Volume> VolumeManager::get_volume(const csi::CallContext& /*call*/, const std::string& volume_id) {
  const auto record = core_->records->find(volume_id);
  if (record == nullptr && core_->records->find_damaged(volume_id)) {
    return csi::Volume{.id = volume_id, .capacity = 0, .context = {}, .topology = provisioner_.topology()};
  }
  if (record == nullptr) {
    return core_->require(volume_id).error();
  }
  return provisioner_.show(*record);
}

Result<csi::CapacityResult> VolumeManager::get_capacity(const csi::CallContext& /*call*/, const csi::CapacityArgs& args) {
  return provisioner_.capacity(args);
}

Result<csi::ExpandResult> VolumeManager::expand_volume(const csi::CallContext& call, const std::string& volume_id,
                                                       const csi::CapacityRange& capacity,
                                                       const std::optional<csi::Capability>& capability) {
  return locked(call, volume_id, "ControllerExpandVolume", [&]() -> Result<csi::ExpandResult> {
    TRY(const std::uint64_t size, provisioner_.grow(volume_id, capacity));
    const auto record = core_->records->find(volume_id);
    const bool block = capability ? capability->block : !record->access_types.contains("mount");
    return csi::ExpandResult{.capacity = static_cast<std::int64_t>(size), .node_expansion_required = !block};
  });
}

/// At most 128 bytes (CSI, size limits): an id that we made has 109.
std::string VolumeManager::token_for(const std::string& id) const {
  constexpr std::size_t digits = 16;
  return id + "." + core_->digest.of({"page after", id}).substr(0, digits);
}

Result<std::vector<std::string>> VolumeManager::ids_after(const std::string& token) const {
  std::string after;
  if (!token.empty()) {
    after = token.substr(0, token.rfind('.'));
    if (token != token_for(after)) {
      return make_error(ErrorCode::aborted, "starting_token: it was not given by this agent since the node's start; begin the list anew");
    }
  }
  std::set<std::string> ids;
  for (const auto& record : core_->records->all()) {
    if (record->provisioned) {
      ids.insert(record->id);
    }
  }
  for (const auto& [id, damaged] : core_->records->damaged()) {
    ids.insert(id);
  }
  return std::vector<std::string>{after.empty() ? ids.begin() : ids.upper_bound(after), ids.end()};
}

Result<csi::Page<csi::Volume>> VolumeManager::list_volumes(const csi::CallContext& call, const csi::PageArgs& args) {
  csi::Page<csi::Volume> page;
  TRY(const auto ids, ids_after(args.starting_token));
  for (const std::string& id : ids) {
    if (args.max_entries > 0 && page.entries.size() == static_cast<std::size_t>(args.max_entries)) {
      page.next = token_for(page.entries.back().id);
      break;
    }
    if (auto volume = get_volume(call, id)) {  // else it went in between
      page.entries.push_back(std::move(volume.value()));
    }
  }
  return page;
}

Result<csi::VolumeHealth> VolumeManager::controller_volume_health(const csi::CallContext& /*call*/, const std::string& volume_id) {
  return health_.controller(volume_id);
}

Result<csi::Page<csi::VolumeHealth>> VolumeManager::list_volume_health(const csi::CallContext& /*call*/, const csi::PageArgs& args) {
  csi::Page<csi::VolumeHealth> page;
  TRY(const auto ids, ids_after(args.starting_token));
  for (const std::string& id : ids) {
    auto health = health_.controller(id);
    if (!health || health.value().entries.empty()) {
      continue;
    }
    if (args.max_entries > 0 && page.entries.size() == static_cast<std::size_t>(args.max_entries)) {
      page.next = token_for(page.entries.back().volume_id);
      break;
    }
    page.entries.push_back(std::move(health.value()));
  }
  return page;
}

Result<void> VolumeManager::stage(const csi::CallContext& call, const csi::StageArgs& args) {
  return locked(call, args.volume_id, "NodeStageVolume", [&] { return stager_.stage(args); });
}

Result<void> VolumeManager::unstage(const csi::CallContext& call, const csi::UnstageArgs& args) {
  return locked(call, args.volume_id, "NodeUnstageVolume", [&] { return stager_.unstage(args); });
}

Result<void> VolumeManager::publish(const csi::CallContext& call, const csi::PublishArgs& args) {
  return locked(call, args.volume_id, "NodePublishVolume", [&] { return publisher_.publish(args); });
}

Result<void> VolumeManager::unpublish(const csi::CallContext& call, const csi::UnpublishArgs& args) {
  return locked(call, args.volume_id, "NodeUnpublishVolume", [&] { return publisher_.unpublish(args); });
}

Result<csi::VolumeStats> VolumeManager::stats(const csi::CallContext& call, const csi::StatsArgs& args) {
  return locked(call, args.volume_id, "NodeGetVolumeStats", [&]() -> Result<csi::VolumeStats> {
    TRY(const auto record, core_->require(args.volume_id));
    VolumeState state = core_->ledger->state(args.volume_id);
    const auto nowhere = [&] { return make_error(ErrorCode::not_found, "it is neither staged nor published at " + args.volume_path); };
    if (!is_stage_or_target(state, args.volume_path)) {
      return nowhere();
    }
    TRY(const auto kernel, core_->kernels.for_volume(args.volume_id));
    TRY(state, known_state(*core_, *kernel, args.volume_id));
    if (!state.device) {
      return nowhere();
    }
    csi::VolumeStats stats;
    if (state.is_block_at(args.volume_path)) {
      TRY(const mount::Device device, kernel->inspect_device(*state.device));
      stats.block = true;
      stats.total = static_cast<std::int64_t>(device.size);
      return stats;
    }
    auto usage = kernel->usage(args.volume_path, state.expected_mount());
    if (!usage) {
      const bool gone = usage.error().code == ErrorCode::failed_precondition || usage.error().code == ErrorCode::not_found;
      return gone ? make_error(ErrorCode::not_found, args.volume_path + " is no mount of the volume any more: " + usage.error().message)
                  : usage.error();
    }
    const mount::FilesystemUsage& used = usage.value();
    stats.total = static_cast<std::int64_t>(used.total);
    stats.available = static_cast<std::int64_t>(used.available);
    stats.used = static_cast<std::int64_t>(used.used);
    stats.inodes = static_cast<std::int64_t>(used.inodes);
    stats.inodes_free = static_cast<std::int64_t>(used.inodes_free);
    stats.inodes_used = static_cast<std::int64_t>(used.inodes_used);
    return stats;
  });
}

Result<csi::VolumeHealth> VolumeManager::node_volume_health(const csi::CallContext& /*call*/, const csi::NodeHealthArgs& args) {
  // Not under the lock: it must answer while a call hangs in the volume.
  auto health = health_.node(args.volume_id);
  if (health && health.value().entries.empty()) {
    // A tool can run for hours, and on a device that does not answer for ever.
    if (const std::string running = locks_.held_for(args.volume_id, core_->config.device_timeout); !running.empty()) {
      health.value().entries.push_back(
          {.status = csi::HealthStatus::degraded,
           .reason = "CallRunning",
           .message =
               running + ": a tool works on a large volume, or its device hangs (see dmesg); it goes on, and a repeated call joins it"});
    }
  }
  return health;
}

Result<std::vector<csi::StorageHealthEntry>> VolumeManager::storage_health(const csi::CallContext& /*call*/) { return health_.storage(); }

Result<std::int64_t> VolumeManager::node_expand(const csi::CallContext& call, const csi::NodeExpandArgs& args) {
  return locked(call, args.volume_id, "NodeExpandVolume", [&]() -> Result<std::int64_t> {
    TRY(const auto known, core_->require(args.volume_id));
    if (core_->ledger->state(args.volume_id).found_at(args.volume_path) != nullptr) {  // somebody may have unmounted it
      TRY(const auto kernel, core_->kernels.for_volume(args.volume_id));
      TRY(VolumeState found, known_state(*core_, *kernel, args.volume_id));
      TRYV(release_gone_holds(*core_, *kernel, args.volume_id, found));
    }
    if (!is_stage_or_target(core_->ledger->state(args.volume_id), args.volume_path)) {
      return make_error(ErrorCode::not_found, "it is neither staged nor published at " + args.volume_path);
    }
    TRY(const std::uint64_t size, provisioner_.grow(args.volume_id, args.capacity));
    TRYV(grow_online(*core_, args.volume_id, size));
    return static_cast<std::int64_t>(size);
  });
}

Result<std::vector<Hold>> VolumeManager::release(const csi::CallContext& call, const std::string& id, const std::string& holder,
                                                 const std::string& target) {
  return locked(call, id, "release", [&] { return by_hand_.release(id, holder, target); });
}

Result<std::string> VolumeManager::rebind(const csi::CallContext& call, const std::string& id, const Claim& claim) {
  return locked(call, id, "rebind", [&] { return by_hand_.rebind(id, claim); });
}

csi::NodeInfo VolumeManager::node_info() {
  return csi::NodeInfo{
      .node_id = core_->config.node_id, .max_volumes = core_->config.max_volumes_per_node, .topology = provisioner_.topology()};
}

}  // namespace ordinald::agent
