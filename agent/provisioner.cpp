#include "agent/provisioner.hpp"

#include <algorithm>

#include "agent/access_rules.hpp"
#include "agent/attachment.hpp"
#include "agent/clock_text.hpp"
#include "agent/content_guard.hpp"
#include "agent/holds.hpp"
#include "agent/volume_parameters.hpp"
#include "mount/filesystem.hpp"

namespace ordinald::agent {
namespace {

using mount::make_error;

constexpr std::string_view topology_key = "topology.ordinald.io/node";
constexpr std::uint64_t default_size = std::uint64_t{1} << 30U;
constexpr std::uint64_t largest_size = std::uint64_t{1} << 62U;

std::set<std::string> access_types(const std::vector<csi::Capability>& capabilities) {
  std::set<std::string> types;
  for (const csi::Capability& capability : capabilities) {
    types.insert(capability.block ? "block" : "mount");
  }
  return types;
}

/// The one fs_type that the capabilities name, or else the parameter's, or else the default.
Result<std::string> choose_fs_type(const csi::CreateVolumeArgs& args, const VolumeParameters& parameters, const std::string& fallback) {
  std::string chosen;
  for (const csi::Capability& capability : args.capabilities) {
    if (capability.fs_type.empty()) {
      continue;
    }
    if (mount::find_filesystem(capability.fs_type) == nullptr) {
      return make_error(ErrorCode::invalid_argument,
                        "volume_capabilities: fs_type \"" + capability.fs_type + "\" is not known; ext4, xfs and btrfs are");
    }
    if (!chosen.empty() && chosen != capability.fs_type) {
      return make_error(ErrorCode::invalid_argument, "volume_capabilities: two filesystems are named, " + chosen + " and " +
                                                         capability.fs_type + "; a volume holds one");
    }
    chosen = capability.fs_type;
  }
  if (!chosen.empty()) {
    return chosen;
  }
  return parameters.fs_type.empty() ? fallback : parameters.fs_type;
}

Error out_of_range(const std::string& message) { return make_error(ErrorCode::out_of_range, message); }

}  // namespace

struct Provisioner::Plan {
  VolumeParameters parameters;
  const mount::Pool* pool = nullptr;
  std::string fs_type;
  std::uint64_t size = 0;
};

StringMap Provisioner::topology() const { return {{std::string{topology_key}, core_.config.node_id}}; }

csi::Volume Provisioner::show(const VolumeRecord& record) const {
  return csi::Volume{.id = record.id, .capacity = static_cast<std::int64_t>(record.size), .context = {}, .topology = topology()};
}

bool Provisioner::reachable(const std::vector<StringMap>& requisite) const {
  const StringMap here = topology();
  return requisite.empty() || std::ranges::any_of(requisite, [&](const StringMap& segments) {
           return std::ranges::all_of(segments, [&](const auto& segment) {
             const auto found = here.find(segment.first);
             return found != here.end() && found->second == segment.second;
           });
         });
}

Result<Provisioner::Plan> Provisioner::plan(const csi::CreateVolumeArgs& args) const {
  Plan plan;
  TRY(plan.parameters, read_parameters(args.parameters));
  const std::string pool_name = plan.parameters.pool.empty() ? core_.default_pool().name : plan.parameters.pool;
  const auto pool = core_.pools.find(pool_name);
  if (pool == core_.pools.end()) {
    return make_error(ErrorCode::invalid_argument, "parameter pool: there is no pool \"" + pool_name + "\" on this node");
  }
  plan.pool = pool->second.get();
  for (const csi::Capability& capability : args.capabilities) {
    if ((capability.mode == AccessMode::multi_node_single_writer || capability.mode == AccessMode::multi_node_multi_writer) &&
        !plan.parameters.multi_node) {
      return make_error(ErrorCode::invalid_argument,
                        std::string{"volume_capabilities: "} + std::string{to_string(capability.mode)} +
                            " can't be had: a volume's data lives on one node only (parameter multiNodeModes=allow takes it at your word)");
    }
  }
  TRY(plan.fs_type, choose_fs_type(args, plan.parameters, core_.config.default_fs_type));
  const mount::Filesystem& filesystem = *mount::find_filesystem(plan.fs_type);
  TRYV(filesystem.mkfs_options(plan.parameters.mkfs_options));

  const auto required = static_cast<std::uint64_t>(args.capacity.required);
  const auto limit = static_cast<std::uint64_t>(args.capacity.limit);
  std::uint64_t size = required;
  if (size == 0) {
    size = limit == 0 ? default_size : std::min(default_size, limit / plan.parameters.block_size * plan.parameters.block_size);
  }
  if (size > largest_size) {
    return out_of_range("capacity_range: " + std::to_string(size) + " bytes are more than any file can have");
  }
  plan.size = plan.pool->round_up(size, plan.parameters.block_size);
  if (limit > 0 && plan.size > limit) {
    return out_of_range("capacity_range: " + std::to_string(required) + " bytes are " + std::to_string(plan.size) +
                        " in whole blocks, above the limit of " + std::to_string(limit));
  }
  const bool mounts = access_types(args.capabilities).contains("mount");
  const std::uint64_t smallest = mounts ? filesystem.minimum_size() : plan.parameters.block_size;
  if (plan.size < smallest) {
    return out_of_range("capacity_range: " + std::to_string(plan.size) + " bytes are too few, " +
                        (mounts ? plan.fs_type : std::string{"a block device"}) + " needs " + std::to_string(smallest));
  }
  return plan;
}

Result<csi::Volume> Provisioner::create(const csi::CreateVolumeArgs& args) {
  TRY(const Plan plan, this->plan(args));
  if (!reachable(args.requisite)) {
    return make_error(ErrorCode::resource_exhausted,
                      "accessibility_requirements: this node, " + core_.config.node_id + ", is not among the requisite topologies");
  }
  if (const auto record = core_.records->find_by_name(args.name)) {
    return existing(args, plan, *record);
  }
  for (const auto& [id, damaged] : core_.records->damaged()) {
    // Its name can't be read any more; the id begins with it.
    const std::string stem = make_volume_id(args.name);
    const auto length = stem.size() - 8;
    if (id.size() == stem.size() && id.compare(0, length, stem, 0, length) == 0) {
      return make_error(ErrorCode::failed_precondition, "volume " + args.name + ": the record of " + id +
                                                            ", which has this name, was set aside as " + damaged.file + " (" + damaged.why +
                                                            "); mend it, or delete file and image by hand");
    }
  }
  TRY(const auto pools, core_.view_pools_beside(plan.pool->name()));
  TRY(const auto promise, core_.promises.reserve(plan.pool->name(), plan.size, pools, core_.records->all()));
  VolumeRecord record;
  record.id = make_volume_id(args.name);
  record.name = args.name;
  record.pool = plan.pool->name();
  record.size = plan.size;
  record.created_size = plan.size;
  record.block_size = plan.parameters.block_size;
  record.multi_node = plan.parameters.multi_node;
  record.fs_type = record.created_fs_type = plan.fs_type;
  record.mkfs_options = plan.parameters.mkfs_options;
  record.access_types = access_types(args.capabilities);
  record.parameters = args.parameters;
  record.metadata = plan.parameters.metadata;
  record.identity = plan.parameters.identity;
  record.claim = read_claim(plan.parameters.metadata);
  record.created = utc_text(std::chrono::system_clock::now());
  TRYV(core_.records->save(record));
  return provision(std::move(record), *plan.pool);
}

Result<csi::Volume> Provisioner::existing(const csi::CreateVolumeArgs& args, const Plan& plan, const VolumeRecord& record) {
  const auto differs = [&](const std::string& what) {
    return volume_error(ErrorCode::already_exists, record.id, "it has the name " + args.name + " already, with another " + what);
  };
  const auto limit = static_cast<std::uint64_t>(args.capacity.limit);
  const auto required = static_cast<std::uint64_t>(args.capacity.required);
  const bool within = limit > 0 && record.size >= required && record.size <= limit;
  const bool unsaid = limit == 0 && required == 0;
  if (plan.size != record.created_size && !within && !unsaid) {
    return differs("size, " + std::to_string(record.created_size) + " bytes");
  }
  if (limit > 0 && record.size > limit) {
    return differs("size, " + std::to_string(record.size) + " bytes");
  }
  if (record.parameters != args.parameters) {
    return differs("set of parameters");
  }
  const bool formatted_otherwise = access_types(args.capabilities).contains("mount") && plan.fs_type != record.created_fs_type;
  if (record.access_types != access_types(args.capabilities) || formatted_otherwise) {
    return differs("access type or filesystem");
  }
  if (record.provisioned) {
    return show(record);
  }
  return provision(record, *plan.pool);
}

Result<csi::Volume> Provisioner::provision(VolumeRecord record, const mount::Pool& pool) {
  const auto attempt = [&]() -> Result<void> {
    TRY(const auto kernel, core_.kernels.for_volume(record.id));
    mount::PoolVolume volume = pool_volume(record);
    volume.label = to_json(record);  // what a record that is lost can be made anew from
    TRYV(pool.create(*kernel, volume));
    record.provisioned = true;
    return core_.records->save(record);
  };
  if (auto made = attempt(); !made) {
    if (made.error().code != ErrorCode::unavailable) {
      // Nothing was made, or what was made bears this id only: nobody knows it yet.
      if (auto gone = remove(record.id); !gone) {
        core_.log->warn("after a failed create: {}", gone.error().message);
      }
    }
    return on_volume(record.id, made.error());
  }
  return show(record);
}

Result<void> Provisioner::refuse_if_used(const std::string& id, mount::Kernel& kernel, const mount::Pool& pool,
                                         const VolumeRecord& record) {
  VolumeState state = core_.ledger->state(id);
  if (state.in_use()) {
    TRY(state, known_state(core_, kernel, id));
    TRYV(release_gone_holds(core_, kernel, id, state));
  }
  const auto in_use = [&](const std::string& message) { return volume_error(ErrorCode::failed_precondition, id, message); };
  if (!state.publications.empty()) {
    const Publication& held = state.publications.front();
    return in_use("it is published to " + to_string(held.holder) + " at " + held.target + " since " + held.since + "; unpublish it first");
  }
  if (!state.stages.empty()) {
    return in_use("it is staged at " + state.stages.front().path + " since " + state.stages.front().since + "; unstage it first");
  }
  if (!state.found.empty()) {
    return in_use("it is mounted at " + state.found.front().path + " for somebody unknown, found at " + state.found.front().since +
                  "; unpublish or unmount that first");
  }
  TRY(const auto device, pool.find_attached(kernel, pool_volume(record)));
  if (!device) {
    return mount::success();
  }
  TRY(const auto pins, kernel.pins(*device));
  if (!pins.empty()) {
    return in_use("its filesystem lives on in another mount namespace, where process " + std::to_string(pins.front().pid) + " (" +
                  pins.front().command + ") has it at " + pins.front().mount_point + "; end that process first");
  }
  auto detached = kernel.detach(*device);
  if (!detached && detached.error().code != ErrorCode::not_found) {
    return in_use("its device " + device->path + " can't be taken away: " + detached.error().message);
  }
  return core_.ledger->save(id, VolumeState{});
}

Result<void> Provisioner::remove(const std::string& id) {
  const auto found = core_.records->find(id);
  if (found == nullptr) {
    if (core_.records->find_damaged(id)) {
      return core_.require(id).error();
    }
    return mount::success();
  }
  VolumeRecord record = *found;
  TRY(const mount::Pool* pool, core_.pool_of(record));
  TRY(const auto kernel, core_.kernels.for_volume(id));
  TRYV(refuse_if_used(id, *kernel, *pool, record));
  if (!record.deleting) {
    record.deleting = true;
    auto saved = core_.records->save(record);
    if (!saved && saved.error().code != ErrorCode::resource_exhausted) {
      return saved.error();
    }
    if (!saved) {
      // A delete is what makes room. Unmarked, a crash in its middle leaves a volume whose file is missing, until the delete is repeated.
      core_.log->warn("{}; it is deleted all the same", saved.error().message);
    }
  }
  TRYV(pool->remove(*kernel, pool_volume(record)));
  TRYV(forget_growth(core_, id));
  // Why its last stage was refused, for one, is remembered there without any device.
  TRYV(core_.ledger->save(id, VolumeState{}));
  return core_.records->remove(id);
}

Result<csi::ValidateResult> Provisioner::validate(const csi::ValidateArgs& args) const {
  TRY(const auto record, core_.require(args.volume_id));
  const auto no = [](const std::string& message) { return csi::ValidateResult{.confirmed = false, .message = message}; };
  for (const auto& [key, value] : args.context) {
    if (!key.starts_with("storage.kubernetes.io/") && !key.starts_with("csi.storage.k8s.io/")) {
      return no("volume_context: \"" + key + "\" was not given with the volume");
    }
  }
  for (const auto& [key, value] : args.parameters) {
    const auto found = record->parameters.find(key);
    if (found == record->parameters.end() || found->second != value) {
      return no("parameters: \"" + key + "\" is another than at the volume's creation");
    }
  }
  for (const csi::Capability& capability : args.capabilities) {
    if (const auto mode = check_mode(*record, capability.mode); !mode) {
      return no(mode.error().message);
    }
    if (capability.block) {
      continue;
    }
    if (!capability.fs_type.empty() && mount::find_filesystem(capability.fs_type) == nullptr) {
      return no("fs_type \"" + capability.fs_type + "\" is not known; ext4, xfs and btrfs are");
    }
    if (!capability.fs_type.empty() && record->content == Content::formatted && capability.fs_type != record->fs_type) {
      return no("it holds " + record->fs_type + ", asked for " + capability.fs_type);
    }
    const std::string& fs_type = capability.fs_type.empty() ? record->fs_type : capability.fs_type;
    if (record->content != Content::formatted && record->size < mount::find_filesystem(fs_type)->minimum_size()) {
      return no(fs_type + " can't live in " + std::to_string(record->size) + " bytes");
    }
  }
  return csi::ValidateResult{.confirmed = true, .message = {}};
}

Result<csi::CapacityResult> Provisioner::capacity(const csi::CapacityArgs& args) {
  TRY(const Plan plan,
      this->plan({.name = {}, .capacity = {}, .capabilities = args.capabilities, .parameters = args.parameters, .requisite = {}}));
  csi::CapacityResult result;
  const bool mounts = access_types(args.capabilities).contains("mount");
  result.minimum_volume_size =
      static_cast<std::int64_t>(mounts ? mount::find_filesystem(plan.fs_type)->minimum_size() : plan.parameters.block_size);
  if (!args.topology || reachable({*args.topology})) {
    const auto pools = core_.view_pools_beside(plan.pool->name());
    if (!pools && pools.error().code == ErrorCode::resource_exhausted) {
      return pools.error();
    }
    const std::uint64_t room = pools ? core_.promises.available(plan.pool->name(), pools.value(), core_.records->all()) : 0;
    result.available = static_cast<std::int64_t>(std::min(room, largest_size));
  }
  result.maximum_volume_size = result.available;
  return result;
}

Result<std::uint64_t> Provisioner::grow(const std::string& id, const csi::CapacityRange& capacity) {
  TRY(const auto found, core_.require(id));
  VolumeRecord record = *found;
  const auto required = static_cast<std::uint64_t>(capacity.required);
  const auto limit = static_cast<std::uint64_t>(capacity.limit);
  if (limit > 0 && record.size > limit) {
    return volume_error(
        ErrorCode::out_of_range, id,
        "it has " + std::to_string(record.size) + " bytes, more than the limit of " + std::to_string(limit) + "; volumes are never shrunk");
  }
  if (required <= record.size) {
    return record.size;
  }
  TRY(const mount::Pool* pool, core_.pool_of(record));
  const std::uint64_t size = required > largest_size ? required : pool->round_up(required, record.block_size);
  if (size > largest_size || (limit > 0 && size > limit)) {
    return volume_error(ErrorCode::out_of_range, id,
                        std::to_string(required) + " bytes are " + std::to_string(size) + " in whole blocks, above the limit");
  }
  if (const auto* filesystem = mount::find_filesystem(record.fs_type);
      record.content == Content::formatted && filesystem != nullptr && size < filesystem->minimum_growth()) {
    // Once the image had that size, the volume could not be staged any more.
    return volume_error(ErrorCode::out_of_range, id,
                        "Linux can't grow " + record.fs_type + " to " + std::to_string(size) + " bytes, only to " +
                            std::to_string(filesystem->minimum_growth()) + " and more; ask for that");
  }
  TRY(const auto pools, core_.view_pools_beside(pool->name()));
  TRY(const auto promise, core_.promises.reserve(pool->name(), size - record.size, pools, core_.records->all()));
  TRY(const auto kernel, core_.kernels.for_volume(id));
  // The image first: a record that promises more than there is would look like a file cut short.
  record.size = size;
  TRYV(pool->grow(*kernel, pool_volume(record)));
  TRYV(core_.records->save(record));
  VolumeState state = core_.ledger->state(id);
  if (state.device) {
    auto refreshed = kernel->refresh_device_size(*state.device);
    const bool gone =
        !refreshed && (refreshed.error().code == ErrorCode::not_found || refreshed.error().code == ErrorCode::failed_precondition);
    if (!refreshed && !gone) {
      return refreshed.error();
    }
    if (gone) {
      // Its health says so; the device that the next stage attaches has the new size.
      core_.log->warn("volume {}: grown, but its device is gone: {}", id, refreshed.error().message);
    } else {
      state.device = refreshed.value();
      TRYV(core_.ledger->save(id, state));
    }
  }
  return size;
}

}  // namespace ordinald::agent
