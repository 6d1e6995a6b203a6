#include "agent/provisioner.hpp"

#include <algorithm>

#include "agent/access_rules.hpp"
#include "agent/clock_text.hpp"
#include "agent/content_guard.hpp"
#include "agent/deletion.hpp"
#include "agent/image_label.hpp"
#include "agent/record_recovery.hpp"
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

  const auto limit = static_cast<std::uint64_t>(args.capacity.limit);
  plan.size = static_cast<std::uint64_t>(args.capacity.required);
  if (plan.size == 0) {
    plan.size = limit == 0 ? default_size : std::min(default_size, limit / plan.parameters.block_size * plan.parameters.block_size);
  }
  if (plan.size <= largest_size) {
    plan.size = plan.pool->round_up(plan.size, plan.parameters.block_size);
  }
  return plan;
}

/// Whether a new volume can be made so. A name that is known is held against its volume instead, which says more.
Result<void> Provisioner::check_new(const csi::CreateVolumeArgs& args, const Plan& plan) {
  const mount::Filesystem& filesystem = *mount::find_filesystem(plan.fs_type);
  TRYV(filesystem.mkfs_options(plan.parameters.mkfs_options, plan.parameters.block_size));
  const auto required = static_cast<std::uint64_t>(args.capacity.required);
  const auto limit = static_cast<std::uint64_t>(args.capacity.limit);
  if (plan.size > largest_size) {
    return out_of_range("capacity_range: " + std::to_string(plan.size) + " bytes are more than any file can have");
  }
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
  return mount::success();
}

Result<csi::Volume> Provisioner::create(const csi::CallContext& call, const csi::CreateVolumeArgs& args) {
  TRY(const Plan plan, this->plan(args));
  if (!reachable(args.requisite)) {
    return make_error(ErrorCode::resource_exhausted,
                      "accessibility_requirements: this node, " + core_.config.node_id + ", is not among the requisite topologies");
  }
  if (const auto record = core_.records->find_by_name(args.name)) {
    if (record->provisioned && !record->terms_open) {
      return existing(args, plan, *record);  // which only looks
    }
    TRY(const auto by_id, locks_.acquire(record->id, "CreateVolume", call));
    // By now it may have grown, or be gone.
    const auto now = core_.records->find(record->id);
    if (now != nullptr && !now->deleting) {
      return existing(args, plan, *now);
    }
    TRYV(delete_volume(core_, record->id));
  }
  if (const auto damaged = core_.records->find_damaged_named(args.name)) {
    return make_error(ErrorCode::failed_precondition, "volume " + args.name + ": the record of " + damaged->first +
                                                          ", which has this name, was set aside as " + damaged->second.file + " (" +
                                                          damaged->second.why + "); mend it, or delete file and image by hand");
  }
  TRYV(check_new(args, plan));
  if (access_types(args.capabilities).contains("mount")) {
    TRYV(check_options(plan.fs_type, plan.parameters.mkfs_options, plan.size, plan.parameters.block_size));
  }
  TRY(const auto pools, core_.view_pools_beside(plan.pool->name()));
  TRY(const auto recovered, recover_named(core_, locks_, call, args.name, pools));
  if (recovered != nullptr) {
    TRY(const auto by_id, locks_.acquire(recovered->id, "CreateVolume", call));
    if (const auto now = core_.records->find(recovered->id); now != nullptr && !now->deleting) {
      return existing(args, plan, *now);
    }
  }
  TRYV(require_inode(plan.pool->name(), pools));
  VolumeRecord record;
  record.id = make_volume_id(args.name);
  const Promise asked{.pool = plan.pool->name(), .bytes = plan.size, .volume = record.id, .size = plan.size};
  TRY(const auto promise, core_.promises.reserve(asked, pools, core_.records->all()));
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
  TRY(const auto by_id, locks_.acquire(record.id, "CreateVolume", call));
  TRYV(core_.records->save(record));
  return provision(std::move(record), *plan.pool);
}

Result<csi::Volume> Provisioner::existing(const csi::CreateVolumeArgs& args, const Plan& plan, const VolumeRecord& record) {
  if (record.terms_open) {
    return first_terms(args, plan, record);
  }
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
  TRY(const mount::Pool* pool, core_.pool_of(record));  // the default may be another by now
  return provision(record, *pool);
}

/// An adopted volume is what it is: the first Create that finds it may not contradict that, and says what a repeated one is held against.
Result<csi::Volume> Provisioner::first_terms(const csi::CreateVolumeArgs& args, const Plan& plan, VolumeRecord record) {
  const auto differs = [&](const std::string& what) {
    return volume_error(ErrorCode::already_exists, record.id,
                        "it has the name " + args.name + " already; it was adopted from " + record.adopted_from + ", with another " + what);
  };
  const auto limit = static_cast<std::uint64_t>(args.capacity.limit);
  if (static_cast<std::uint64_t>(args.capacity.required) > record.size || (limit > 0 && record.size > limit)) {
    return differs("size, " + std::to_string(record.size) + " bytes");
  }
  const bool names_fs_type = !plan.parameters.fs_type.empty() ||
                             std::ranges::any_of(args.capabilities, [](const csi::Capability& each) { return !each.fs_type.empty(); });
  if (access_types(args.capabilities) != record.access_types || (names_fs_type && plan.fs_type != record.fs_type)) {
    return differs("access type or filesystem, " + record.fs_type);
  }
  const Claim claim = read_claim(plan.parameters.metadata);
  if (!claim.name.empty() && !record.claim.name.empty() && !(claim == record.claim)) {
    return differs("claim, " + record.claim.name_space + "/" + record.claim.name);
  }
  const auto said = [&](const char* key) { return args.parameters.contains(key); };
  if ((said("pool") && plan.pool->name() != record.pool) || (said("blockSize") && plan.parameters.block_size != record.block_size) ||
      (said("identity") && record.identity != Identity::none && plan.parameters.identity != record.identity)) {
    return differs("pool, block size or identity (" + record.pool + ", " + std::to_string(record.block_size) + ", " +
                   std::string{to_string(record.identity)} + ")");
  }
  record.parameters = args.parameters;
  record.created_size = plan.size;
  record.created_fs_type = plan.fs_type;
  record.multi_node = plan.parameters.multi_node;
  record.metadata.insert(plan.parameters.metadata.begin(), plan.parameters.metadata.end());
  record.claim = record.claim.name.empty() ? claim : record.claim;
  record.identity = said("identity") ? plan.parameters.identity : record.identity;
  record.terms_open = false;
  record.label_stale = true;
  TRYV(core_.records->save(record));
  TRY(const auto kernel, core_.kernels.for_volume(record.id));
  TRYV(settle_label(core_, *kernel, record));
  return show(record);
}

Result<csi::Volume> Provisioner::provision(VolumeRecord record, const mount::Pool& pool) {
  const auto attempt = [&]() -> Result<void> {
    TRY(const auto kernel, core_.kernels.for_volume(record.id));
    mount::PoolVolume volume = pool_volume(record);
    volume.label = label_of(record);
    TRYV(mark_own_pool(core_, *kernel, pool));
    TRYV(pool.create(*kernel, volume));
    record.provisioned = true;
    return core_.records->save(record);
  };
  if (auto made = attempt(); !made) {
    if (made.error().code != ErrorCode::unavailable) {
      // Nothing was made, or what was made bears this id only: nobody knows it yet.
      if (auto gone = delete_volume(core_, record.id); !gone) {
        core_.log->warn("after a failed create: {}", gone.error().message);
      }
    }
    return on_volume(record.id, made.error());
  }
  return show(record);
}

Result<csi::ValidateResult> Provisioner::validate(const csi::ValidateArgs& args) const {
  TRY(const auto record, core_.require(args.volume_id));
  const auto no = [](const std::string& message) { return csi::ValidateResult{.confirmed = false, .message = message}; };
  const auto pool = core_.pool_of(*record);
  if (!pool) {
    return no(pool.error().message);
  }
  StringMap given = record->metadata;
  if (!record->claim.name.empty()) {
    given["csi.storage.k8s.io/pvc/namespace"] = record->claim.name_space;
    given["csi.storage.k8s.io/pvc/name"] = record->claim.name;
  }
  for (const auto& [key, value] : args.context) {
    const auto found = given.find(key);
    const bool orchestrators = key.starts_with("storage.kubernetes.io/");  // it puts them there itself
    if (!orchestrators && (found == given.end() || found->second != value)) {
      return no("volume_context: \"" + key + "\" was not given with the volume, or with another value");
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
    // Of a blank volume that is asked for reading only: it can be had so once it was written to.
    const std::string& fs_type = wanted_fs_type(*record, capability);
    if (const auto can = check_mount(*record, *pool.value(), fs_type, mount::split_mount_flags(capability.mount_flags), false); !can) {
      return no(can.error().message);
    }
    const VolumeState state = core_.ledger->state(record->id);
    if (record->content == Content::raw && !(state.in_use() && state.fs_type == fs_type)) {
      return no("it was used as a raw block device, so it is never formatted; whether it holds " + fs_type + " is known once it is staged");
    }
    if (record->content == Content::blank || record->content == Content::formatting) {
      if (const auto can = make_options(*record, *mount::find_filesystem(fs_type), record->size); !can) {
        return no(can.error().message);
      }
    }
  }
  return csi::ValidateResult{.confirmed = true, .message = {}};
}

Result<csi::CapacityResult> Provisioner::capacity(const csi::CapacityArgs& args) {
  const csi::CreateVolumeArgs wanted{
      .name = {}, .capacity = {}, .capabilities = args.capabilities, .parameters = args.parameters, .requisite = {}};
  TRY(const Plan plan, this->plan(wanted));
  TRYV(check_new(wanted, plan));
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
    TRYV(show_size(record));  // a growth may have been cut off before the device saw it
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
  if ((record.content == Content::blank || record.content == Content::formatting) && record.access_types.contains("mount")) {
    if (auto fits = check_options(record.fs_type, record.mkfs_options, size, record.block_size); !fits) {
      return volume_error(ErrorCode::out_of_range, id, "it is not formatted yet, and could not be with that size: " + fits.error().message);
    }
  }
  TRY(const auto pools, core_.view_pools_beside(pool->name()));
  const Promise asked{.pool = pool->name(), .bytes = size - record.size, .volume = id, .size = size};
  TRY(const auto promise, core_.promises.reserve(asked, pools, core_.records->all()));
  TRY(const auto kernel, core_.kernels.for_volume(id));
  // The image first: a record that promises more than there is would look like a file cut short.
  record.size = size;
  TRYV(pool->grow(*kernel, pool_volume(record)));
  TRYV(core_.records->save(record));
  TRYV(show_size(record));
  return size;
}

Result<void> Provisioner::show_size(const VolumeRecord& record) {
  VolumeState state = core_.ledger->state(record.id);
  if (!state.device || state.device->size >= record.size) {
    return mount::success();
  }
  TRY(const auto kernel, core_.kernels.for_volume(record.id));
  auto refreshed = kernel->refresh_device_size(*state.device);
  if (!refreshed && (refreshed.error().code == ErrorCode::not_found || refreshed.error().code == ErrorCode::failed_precondition)) {
    // Its health says so; the device that the next stage attaches has the new size.
    core_.log->warn("volume {}: grown, but its device is gone: {}", record.id, refreshed.error().message);
    return mount::success();
  }
  TRY(state.device, std::move(refreshed));
  return core_.ledger->save(record.id, state);
}

}  // namespace ordinald::agent
