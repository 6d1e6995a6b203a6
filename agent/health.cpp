#include "agent/health.hpp"

#include <algorithm>
#include <sstream>

#include "mount/mountinfo.hpp"

namespace ordinald::agent {
namespace {

using csi::HealthEntry;
using csi::HealthStatus;

constexpr const char* device_hung = "DeviceHung";

/// No (status, reason) comes twice.
void add(std::vector<HealthEntry>& entries, HealthStatus status, const std::string& reason, const std::string& message) {
  const bool known = std::ranges::any_of(entries, [&](const HealthEntry& e) { return e.status == status && e.reason == reason; });
  if (!known) {
    entries.push_back(HealthEntry{.status = status, .reason = reason, .message = message});
  }
}

}  // namespace

/// Entries of a volume whose record is damaged; empty for a good record; not_found for an unknown volume.
Result<Health::Entries> Health::record_entries(const std::string& id) const {
  Entries entries;
  if (core_.records->find(id) == nullptr) {
    const auto damaged = core_.records->find_damaged(id);
    if (!damaged) {
      return volume_error(ErrorCode::not_found, id, "there is no such volume on this node");
    }
    add(entries, HealthStatus::inaccessible, "RecordDamaged",
        "its record could not be read and was set aside as " + damaged->file + " (" + damaged->why + "); mend the file, name it " + id +
            ".json again and restart the agent; its data is untouched");
  }
  return entries;
}

Health::Entries Health::pool_entries(mount::Kernel& kernel, const VolumeRecord& record) const {
  Entries entries;
  const auto pool = core_.pool_of(record);
  if (!pool) {
    add(entries, HealthStatus::inaccessible, "PoolNotConfigured", pool.error().message);
    return entries;
  }
  const auto findings = pool.value()->examine(kernel, pool_volume(record), core_.ledger->state(record.id).device);
  if (!findings) {
    const bool hung = findings.error().code == ErrorCode::unavailable;
    add(entries, HealthStatus::inaccessible, hung ? device_hung : "PoolUnreachable", findings.error().message);
    return entries;
  }
  if (!findings.value().empty()) {
    // Of a directory that isn't the pool's it says nothing of the volume.
    if (const auto own = require_own_pool(core_, kernel, *pool.value()); !own && own.error().code == ErrorCode::failed_precondition) {
      add(entries, HealthStatus::inaccessible, "PoolUnreachable", own.error().message);
      return entries;
    }
  }
  for (const mount::PoolFinding& finding : findings.value()) {
    add(entries, finding.data_loss ? HealthStatus::data_loss : HealthStatus::inaccessible, finding.reason, finding.message);
  }
  return entries;
}

Result<csi::VolumeHealth> Health::controller(const std::string& id) const {
  csi::VolumeHealth health{.volume_id = id, .entries = {}};
  TRY(health.entries, record_entries(id));
  if (const auto record = core_.records->find(id); record != nullptr && record->provisioned && !record->deleting) {
    auto kernel = core_.kernels.for_volume(id);
    if (!kernel && kernel.error().code != ErrorCode::unavailable) {
      return kernel.error();
    }
    if (!kernel) {
      add(health.entries, HealthStatus::inaccessible, device_hung, kernel.error().message);
    } else {
      health.entries = pool_entries(*kernel.value(), *record);
    }
  }
  return health;
}

Result<csi::VolumeHealth> Health::node(const std::string& id) const {
  csi::VolumeHealth health{.volume_id = id, .entries = {}};
  TRY(health.entries, record_entries(id));
  const auto record = core_.records->find(id);
  if (record == nullptr || !record->provisioned || record->deleting) {
    return health;
  }
  auto kernel = core_.kernels.for_volume(id);
  if (!kernel && kernel.error().code != ErrorCode::unavailable) {
    return kernel.error();
  }
  if (!kernel) {
    add(health.entries, HealthStatus::inaccessible, device_hung, kernel.error().message);
    return health;
  }
  health.entries = pool_entries(*kernel.value(), *record);
  if (std::ranges::any_of(health.entries, [](const HealthEntry& entry) { return entry.reason == device_hung; })) {
    return health;  // whatever else is asked would only be told the same
  }
  device_entries(*kernel.value(), *record, health.entries);
  return health;
}

std::string growth_pending(const Core& core, const VolumeRecord& record, const VolumeState& state) {
  if (record.fs_grown_for >= record.size) {
    return {};
  }
  const std::string size = "the volume has " + std::to_string(record.size) + " bytes, ";
  if (!state.no_growth.empty()) {
    return size + "and its " + record.fs_type +
           " could not be grown to that; it is served as it is, and grown when it is staged the next time, or by a NodeExpandVolume: " +
           state.no_growth;
  }
  const bool staged_as_filesystem = std::ranges::any_of(state.stages, [](const Stage& stage) { return !stage.block; });
  if (staged_as_filesystem && state.fs_type == "ext4" && !core.grows_mounted_ext4) {
    return size + "its ext4 was made for " + std::to_string(record.fs_grown_for) +
           "; a mounted ext4 can't be grown without CAP_SYS_RESOURCE, so it grows when it is staged the next time";
  }
  return {};
}

void Health::device_entries(mount::Kernel& kernel, const VolumeRecord& record, Entries& entries) const {
  const VolumeState state = core_.ledger->state(record.id);
  if (!state.refusal.empty()) {
    add(entries, HealthStatus::inaccessible, "StageRefused", "the last stage was refused: " + state.refusal);
  }
  if (const std::string why = growth_pending(core_, record, state); !why.empty()) {
    add(entries, HealthStatus::degraded, "GrowthPending", why);
  }
  if (!state.device || !state.in_use()) {
    return;
  }
  const auto device = kernel.inspect_device(*state.device);
  if (!device) {
    const bool hung = device.error().code == ErrorCode::unavailable;
    add(entries, HealthStatus::inaccessible, hung ? device_hung : "DeviceGone",
        state.device->path + ": " + device.error().message + (hung ? "" : "; unpublish and unstage the volume, then stage it again"));
    if (hung) {
      return;
    }
  }
  mount_entries(kernel, state, entries);
}

void Health::mount_entries(mount::Kernel& kernel, const VolumeState& state, Entries& entries) const {
  const auto table = kernel.mount_table();
  if (!table) {
    add(entries, HealthStatus::inaccessible, "MountTableUnreadable", table.error().message);
    return;
  }
  const auto look = [&](const std::string& path, bool block, const mount::Expected& expected) {
    const auto info = kernel.inspect_path(path);
    if (!info) {
      add(entries, HealthStatus::inaccessible, "MountUnreadable", path + ": " + info.error().message);
    } else if (info.value().broken) {
      add(entries, HealthStatus::inaccessible, "FilesystemShutDown",
          path +
              " answers with errors: the filesystem was shut down or its device is gone; the kernel's log says why. Stop the workload, "
              "unstage the "
              "volume and stage it again");
    } else if (!mount::matches(info.value(), expected)) {
      add(entries, HealthStatus::inaccessible, "MountGone",
          path + " is no mount of the volume any more: somebody unmounted it; the orchestrator's next " +
              (block ? "publish" : "stage or publish") + " puts it back");
    }
  };
  for (const Stage& stage : state.stages) {
    if (!stage.block) {
      look(stage.path, false, state.expected_mount());
    }
  }
  for (const Publication& publication : state.publications) {
    look(publication.target, publication.block, publication.block ? state.expected_block() : state.expected_mount());
  }
  for (const mount::MountEntry& entry : table.value()) {
    const bool ours = state.stage_at(entry.mount_point) != nullptr || state.publication_at(entry.mount_point) != nullptr;
    if (!ours || entry.fs_type != state.fs_type) {
      continue;
    }
    // We always mount the filesystem itself writable; ext4 says emergency_ro since kernel 6.15.
    if (mount::has_option(entry.super_options, "ro") || mount::has_option(entry.super_options, "emergency_ro")) {
      add(entries, HealthStatus::degraded, "FilesystemReadOnly",
          "the " + entry.fs_type + " at " + entry.mount_point +
              " went read-only after an error; the kernel's log says which. Stop the workload, unstage the volume and stage it again: it "
              "is "
              "checked then");
    }
    if (mount::has_option(entry.super_options, "shutdown")) {
      add(entries, HealthStatus::inaccessible, "FilesystemShutDown",
          "the " + entry.fs_type + " at " + entry.mount_point +
              " was shut down after an error; the kernel's log says which. Stop the workload, unstage the volume and stage it again");
    }
  }
}

std::optional<csi::StorageHealthEntry> judge_pool(const PoolConfig& config, const Result<mount::PoolUsage>& usage) {
  const auto report = [](csi::StorageStatus status, const std::string& reason, const std::string& message) {
    return csi::StorageHealthEntry{.status = status, .reason = reason, .message = message};
  };
  if (!usage && usage.error().code == ErrorCode::unavailable) {
    return report(csi::StorageStatus::unreachable, "PoolHung", usage.error().message);
  }
  if (!usage) {
    const bool missing = usage.error().code == ErrorCode::not_found;
    return report(csi::StorageStatus::unreachable, missing ? "DirectoryMissing" : "DirectoryUnreadable",
                  usage.error().message + "; mount or put back " + config.directory);
  }
  const mount::PoolUsage& pool = usage.value();
  if (pool.read_only) {
    return report(csi::StorageStatus::degraded, "ReadOnly",
                  "pool " + config.name + ": the file system of " + config.directory + " is read-only");
  }
  const auto percent = [](std::uint64_t free, std::uint64_t total) {
    return total == 0 ? 0 : 100.0 * (1.0 - static_cast<double>(free) / static_cast<double>(total));
  };
  const double bytes = percent(pool.free, pool.total);
  const double inodes = percent(pool.inodes_free, pool.inodes);
  const std::string where = "pool " + config.name + ": the file system of " + config.directory;
  // Each new volume takes an inode, however small it is.
  const std::string few_inodes = " has " + std::to_string(pool.inodes_free) + " inodes left of " + std::to_string(pool.inodes) +
                                 ", and each new volume takes one; delete other files that lie on it, or volumes, or make it anew with "
                                 "more inodes (xfs: xfs_growfs -m)";
  if (bytes >= config.nearly_full_percent) {
    return report(csi::StorageStatus::degraded, "NearlyFull",
                  where + " is " + std::to_string(static_cast<int>(bytes)) + " % full, " + std::to_string(pool.free) +
                      " bytes are left; delete volumes or other files, or enlarge it" +
                      (inodes >= config.nearly_full_percent ? "; it" + few_inodes : ""));
  }
  if (inodes >= config.nearly_full_percent) {
    return report(csi::StorageStatus::degraded, "InodesNearlyFull", where + few_inodes);
  }
  return std::nullopt;
}

Result<std::vector<csi::StorageHealthEntry>> Health::storage() const {
  std::vector<csi::StorageHealthEntry> entries;
  for (const PoolConfig& config : core_.config.pools) {
    auto kernel = core_.kernels.for_volume("pool:" + config.name);
    if (!kernel && kernel.error().code != ErrorCode::unavailable) {
      return kernel.error();
    }
    const auto usage = kernel ? look_at_pool(core_, *kernel.value(), *core_.pools.at(config.name))
                              : Result<mount::PoolUsage>{kernel.error().with_context("pool " + config.name)};
    if (auto entry = judge_pool(config, usage)) {
      entries.push_back(std::move(*entry));
    }
  }
  return entries;
}

}  // namespace ordinald::agent
