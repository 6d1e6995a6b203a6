#include "agent/adoption.hpp"

#include <algorithm>
#include <filesystem>

#include "agent/adoption_words.hpp"
#include "agent/checksum.hpp"
#include "agent/clock_text.hpp"
#include "agent/device_copy_name.hpp"
#include "agent/image_label.hpp"
#include "agent/path_words.hpp"
#include "agent/provisioner.hpp"
#include "agent/record_recovery.hpp"

namespace ordinald::agent {
namespace {

using mount::FileKind;
using mount::Survey;

constexpr const char* node_namespace = "host";  // that of claim files

Result<void> check_request(const AdoptionRequest& request, const std::string& name) {
  const auto wrong = [](const std::string& why) { return mount::make_error(ErrorCode::invalid_argument, why); };
  const auto is_whole = [](const std::string& path) {
    return path.starts_with('/') && !path.ends_with('/') && std::filesystem::path{path}.lexically_normal() == path;
  };
  if (!is_whole(request.path)) {
    return wrong("path: " + request.path + " is not the whole path of a file or device");
  }
  if (!request.copy_of.empty() && !is_whole(request.copy_of)) {
    return wrong("copyOf: " + request.copy_of + " is not the whole path of a device");
  }
  const bool control = std::ranges::any_of(name, [](unsigned char c) { return c < 0x20 || c == 0x7f; });
  if (name.empty() || name.size() > 128 || control) {
    return wrong("name: a volume's has 1 to 128 bytes, none of them control characters");
  }
  if (request.identity && *request.identity != Identity::none && !request.claim) {
    return wrong("identity " + std::string{to_string(*request.identity)} + " is that of a claim: say which");
  }
  return mount::success();
}

std::string name_of(const AdoptionRequest& request) {
  if (!request.name.empty()) {
    return request.name;
  }
  if (request.claim) {
    // As `ordinalctl claim` has its volumes made.
    return request.claim->name_space == node_namespace ? request.claim->name : request.claim->name_space + "." + request.claim->name;
  }
  return stem_of(source_of(request));
}

/// But for id, pool and times.
VolumeRecord record_of(const AdoptionRequest& request, const Survey& found) {
  VolumeRecord record;
  record.name = name_of(request);
  record.size = record.created_size = found.size;
  record.block_size = found.block_size;
  record.content = Content::formatted;
  record.provisioned = true;
  record.access_types = {"mount"};
  record.adopted_from = source_of(request);
  record.terms_open = true;
  if (!found.signatures.empty()) {
    record.fs_type = record.created_fs_type = found.signatures.front().type;
    record.fs_uuid = found.signatures.front().uuid;
  }
  record.fs_grown_for = found.filesystem_size >= found.size ? found.size : 0;
  if (request.claim) {
    record.claim = *request.claim;
    record.metadata = {{"csi.storage.k8s.io/pvc/namespace", record.claim.name_space}, {"csi.storage.k8s.io/pvc/name", record.claim.name}};
  }
  const bool of_this_node = request.claim && request.claim->name_space == node_namespace;
  record.identity = request.identity.value_or(of_this_node ? Identity::ordinal : Identity::none);
  return record;
}

bool is_as_asked(const AdoptionRequest& request, const VolumeRecord& record) {
  return (request.name.empty() || request.name == record.name) && (!request.claim || *request.claim == record.claim) &&
         (request.pool.empty() || request.pool == record.pool);
}

}  // namespace

std::string adoption_label(const VolumeRecord& record) {
  VolumeRecord label = record;
  label.label_stale = false;
  return to_json(label);
}

/// A file can be moved within one mount only.
Result<void> Adoption::choose_pool(mount::Kernel& kernel, const AdoptionRequest& request, AdoptionPlan& plan) const {
  TRY(const mount::PathInfo source, kernel.inspect_path(request.path));
  const auto beside = [&](const PoolConfig& pool) {
    const auto directory = kernel.inspect_path(pool.directory);
    return directory && directory.value().mount_id == source.mount_id;
  };
  const PoolConfig* chosen = &core_.default_pool();
  if (!request.pool.empty()) {
    const auto named = std::ranges::find(core_.config.pools, request.pool, &PoolConfig::name);
    if (named == core_.config.pools.end()) {
      return mount::make_error(ErrorCode::invalid_argument, "pool: there is no pool \"" + request.pool + "\" on this node");
    }
    chosen = &*named;
  } else if (!beside(*chosen)) {
    const auto found = std::ranges::find_if(core_.config.pools, beside);
    chosen = found == core_.config.pools.end() ? chosen : &*found;
  }
  plan.record.pool = chosen->name;
  if (plan.found.kind == FileKind::regular && !beside(*chosen)) {
    plan.refusals.push_back("it is not on the file system of pool " + chosen->name +
                            ", where it could be moved: copy it there, and adopt the copy: " + copy_command(request, chosen->directory));
  }
  return mount::success();
}

/// What the file takes now, it takes then too: only what it may still grow to is promised anew. So with what was left of a copy.
Result<PromiseBook::Reservation> Adoption::reserve(const AdoptionRequest& request, const AdoptionPlan& plan) const {
  TRY(auto pools, core_.view_pools_beside(plan.record.pool));
  const std::string& file = plan.copy ? plan.copy->file : request.path;
  std::uint64_t taken = plan.copy ? 0 : plan.found.allocated;
  for (PoolView& view : pools) {
    std::erase_if(view.usage.images, [&](const mount::PoolImage& image) {
      const bool same = view.pool->directory + "/" + image.file == file;
      taken = same && plan.copy ? image.allocated : taken;
      return same;
    });
  }
  pools.front().usage.images.push_back({.file = "-", .size = 0, .allocated = taken, .volume_id = "-"});
  const VolumeRecord& record = plan.record;
  return core_.promises.reserve({.pool = record.pool, .bytes = record.size, .volume = record.id, .size = record.size}, pools,
                                core_.records->all());
}

/// Where the copy of a device goes. A promise may be for more than there is (overcommit); a copy takes what it takes at once.
Result<void> Adoption::plan_copy(const AdoptionRequest& request, AdoptionPlan& plan) const {
  TRY(const auto pools, core_.view_pools_beside(plan.record.pool));
  const PoolView& own = pools.front();
  const std::string file = device_copy_name(request.path);
  plan.copy = CopyPlan{.file = own.pool->directory + "/" + file, .thick = own.pool->thick};
  double reserve_percent = 0;
  for (const PoolView& view : pools) {
    reserve_percent =
        view.usage.filesystem == own.usage.filesystem ? std::max(reserve_percent, view.pool->reserve_percent) : reserve_percent;
  }
  plan.copy->keep_free = static_cast<std::uint64_t>(static_cast<double>(own.usage.total) * reserve_percent / 100.0);
  std::uint64_t free = own.usage.free;
  for (const mount::PoolImage& image : own.usage.images) {
    free += image.file == file ? image.allocated : 0;
  }
  const std::uint64_t needed = own.pool->thick ? plan.found.size : plan.found.used;
  if (needed + plan.copy->keep_free > free) {
    plan.refusals.push_back("its copy takes " + std::to_string(needed) + " bytes" + (own.pool->thick ? "" : " at least") + ", and pool " +
                            own.pool->name + " has " + std::to_string(free) + " free, of which its reserve keeps " +
                            std::to_string(plan.copy->keep_free) + ": delete volumes, enlarge its file system, or choose another (--pool)");
  }
  return mount::success();
}

Result<AdoptionPlan> Adoption::plan(const AdoptionRequest& request) {
  TRYV(check_request(request, name_of(request)));
  TRY(const auto kernel, core_.kernels.for_volume("adopt:" + crc32_hex(request.path)));
  AdoptionPlan plan;
  auto found = kernel->survey(request.path);
  if (!found && found.error().code == ErrorCode::not_found) {
    return already_adopted(request, found.error());
  }
  if (!found) {
    return found.error();
  }
  plan.found = std::move(found.value());
  plan.record = record_of(request, plan.found);
  const bool device = plan.found.kind == FileKind::block_device;
  if (const std::string id = volume_at(device ? plan.found.backing : request.path); !id.empty()) {
    plan.refusals.push_back("it is " + std::string{device ? "a loop device of " : ""} + "the image of volume " + id +
                            ": a volume already, in its place (ordinalctl show " + id + ")");
    return plan;
  }
  if (device) {
    TRYV(finish(request.path));
    if (const auto before = copied_before(request, plan.record.fs_uuid)) {
      return AdoptionPlan{.found = {}, .record = *before, .refusals = {}, .copy = {}, .done = true};
    }
  }
  TRYV(choose_pool(*kernel, request, plan));
  judge_path(request, plan);
  judge_content(request, plan);
  judge_names(plan);
  if (plan.found.kind == FileKind::block_device) {
    TRYV(plan_copy(request, plan));
  }
  if (plan.found.kind == FileKind::regular || plan.copy) {
    if (const auto room = reserve(request, plan); !room) {
      plan.refusals.push_back(room.error().message);
    }
  }
  return plan;
}

/// Moved, and killed before there was a record: its label makes one.
Result<void> Adoption::finish(const std::string& path) {
  for (const PoolView& view : core_.view_pools()) {
    for (const mount::PoolImage& image : view.usage.images) {
      if (!is_volume_id(image.volume_id) || core_.records->find(image.volume_id) != nullptr) {
        continue;
      }
      const auto guard = locks_.try_acquire(image.volume_id, "adopt");
      if (!guard) {
        continue;
      }
      TRY(const auto kernel, core_.kernels.for_volume(image.volume_id));
      const auto backing = core_.pools.at(view.pool->name)->backing(*kernel, {.id = image.volume_id});
      const auto label = backing ? parse_record(backing.value().label) : Result<VolumeRecord>{backing.error()};
      if (label && label.value().adopted_from == path) {
        TRYV(recover_record(core_, *kernel, image.volume_id));
      }
    }
  }
  return mount::success();
}

/// A device stays where it is: what tells that it was adopted is its filesystem's UUID too.
std::shared_ptr<const VolumeRecord> Adoption::copied_before(const AdoptionRequest& request, const std::string& uuid) const {
  for (const auto& record : core_.records->all()) {
    if (record->adopted_from == request.path && !record->deleting && !uuid.empty() && record->fs_uuid == uuid &&
        is_as_asked(request, *record)) {
      return record;
    }
  }
  return nullptr;
}

Result<AdoptionPlan> Adoption::already_adopted(const AdoptionRequest& request, const Error& absent) {
  TRYV(finish(source_of(request)));
  for (const auto& record : core_.records->all()) {
    if (record->adopted_from != source_of(request) || record->deleting) {
      continue;
    }
    if (is_as_asked(request, *record)) {
      return AdoptionPlan{.found = {}, .record = *record, .refusals = {}, .copy = {}, .done = true};
    }
    return mount::make_error(ErrorCode::not_found, absent.message + "; it is volume " + record->id + " now, under the name " +
                                                       record->name + " and with another name, claim or pool than these (ordinalctl show " +
                                                       record->id + ")");
  }
  return absent;
}

Result<AdoptionPlan> Adoption::adopt(const csi::CallContext& call, const AdoptionRequest& request) {
  const std::string name = name_of(request);
  TRY(const auto by_name, locks_.acquire(create_key(name), "adopt", call));
  TRY(AdoptionPlan plan, this->plan(request));
  if (plan.done) {
    return plan;
  }
  if (!plan.refusals.empty()) {
    std::string why;
    for (const std::string& each : plan.refusals) {
      why += (why.empty() ? "" : "; ") + each;
    }
    return mount::make_error(ErrorCode::failed_precondition, request.path + " can't become a volume: " + why);
  }
  if (plan.copy) {
    return mount::make_error(ErrorCode::failed_precondition,
                             request.path + " is a block device, and only a copy of it can become a volume: " + "ordinalctl adopt " +
                                 quoted(request.path) + " --yes makes one");
  }
  VolumeRecord& record = plan.record;
  record.id = make_volume_id(name);  // by which the promise is known once the record counts itself
  TRY(const auto promise, reserve(request, plan));
  record.created = utc_text(std::chrono::system_clock::now());
  TRY(const auto by_id, locks_.acquire(record.id, "adopt", call));
  TRY(const mount::Pool* pool, core_.pool_of(record));
  TRY(const auto kernel, core_.kernels.for_volume(record.id));
  mount::PoolVolume volume = pool_volume(record);
  volume.label = adoption_label(record);
  TRYV(mark_own_pool(core_, *kernel, *pool));
  auto moved = pool->adopt(*kernel, volume, request.path, plan.found);
  if (!moved) {
    Error error = moved.error();
    if (error.sys_errno == EXDEV) {
      error.message += "; copy it there, and adopt the copy: " + copy_command(request, directory_of(pool->lasting_path(volume)));
    }
    return error;
  }
  record.label_stale = true;
  TRYV(core_.records->save(record));
  core_.log->warn("volume {}: adopted by hand from {}: {} of {} bytes, UUID {}", record.id, record.adopted_from, record.fs_type,
                  record.size, record.fs_uuid);
  if (auto settled = settle_label(core_, *kernel, record); !settled) {
    core_.log->warn("volume {}: adopted, and its image's label is not final yet: {}", record.id, settled.error().message);
  } else {
    plan.note = std::move(settled.value());
  }
  return plan;
}

}  // namespace ordinald::agent
