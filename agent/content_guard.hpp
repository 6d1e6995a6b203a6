#pragma once

#include <string>

#include "agent/core.hpp"
#include "mount/filesystem.hpp"
#include "mount/mount_flags.hpp"

namespace ordinald::agent {

/// A filesystem that may be mounted.
struct ReadyFilesystem {
  std::string uuid;
  bool alive = false;       ///< mounted somewhere already: not checked again
  bool may_grow = false;    ///< it is smaller than its device, and can be grown once mounted
  std::string no_growth{};  ///< why it is smaller than its device, and is served all the same: growing it failed, and it is as it was
};

/// Rules 1, 2 and 7: sees to it that the device holds the filesystem that the volume should have, or says why not.
///
///     blank      ─ proven blank ─▶ record `formatting` + UUID, durable ─▶ mkfs ─▶ record `formatted`, durable
///     formatting ─ nothing but our UUID on it ─▶ emptied ─▶ proven blank ─▶ mkfs ─▶ `formatted`
///     formatted  ─ its UUID is on it, alone ─▶ checked (ext4) ─▶ grown while unmounted, where it can't be grown otherwise
///     raw        ─ the filesystem asked for is on it, alone ─▶ the same; never formatted
///
/// Runs under the volume's lock; saves `record` as it goes.
/// failed_precondition: what was found on the device and what a person can do. Nothing is ever wiped to make room.
Result<ReadyFilesystem> ready_filesystem(Core& core, mount::Kernel& kernel, const mount::Pool& pool, VolumeRecord& record,
                                         const mount::Device& device, const mount::Filesystem& filesystem);

/// The filesystem that a mount gets: the capability's wins, then what is on the volume, or will be.
const std::string& wanted_fs_type(const VolumeRecord& record, const csi::Capability& capability);

/// Whether the volume can be had mounted so, as far as its record and pool tell. failed_precondition: why not. Pure.
Result<void> check_mount(const VolumeRecord& record, const mount::Pool& pool, const std::string& fs_type, const mount::MountFlags& flags,
                         bool read_only);

/// The options with which the filesystem is made on a blank volume of so many bytes. failed_precondition: it can't be. Pure.
Result<std::vector<std::string>> make_options(const VolumeRecord& record, const mount::Filesystem& filesystem, std::uint64_t size);

/// What goes for every tool that is run on the device; its argv is still to come.
mount::ToolRequest tool_on(const Core& core, const mount::Device& device);

/// Keeps why the volume's filesystem could not be grown, for its health to tell; empty: it could.
void note_growth(Core& core, const std::string& id, const std::string& failure);

/// Grows the mounted filesystem to its device and records it, or why not. failed_precondition: ext4 without CAP_SYS_RESOURCE.
Result<void> grow_mounted(Core& core, mount::Kernel& kernel, VolumeRecord& record, const mount::Device& device, const std::string& fs_type,
                          const std::string& path);

/// The error of a step on the volume's device; as resource_exhausted, where its thin pool has no room left.
Error explain_full_pool(mount::Kernel& kernel, const mount::Pool& pool, const mount::Device& device, const Error& error);

}  // namespace ordinald::agent
