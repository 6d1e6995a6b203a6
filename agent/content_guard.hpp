#pragma once

#include <string>

#include "agent/core.hpp"
#include "mount/filesystem.hpp"

namespace ordinald::agent {

/// A filesystem that may be mounted.
struct ReadyFilesystem {
  std::string uuid;
  bool alive = false;     ///< mounted somewhere already: not checked again
  bool may_grow = false;  ///< it is smaller than its device, and can be grown once mounted
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

/// Removes what a growth of the unmounted filesystem has kept to be taken back with (`<state dir>/undo/<id>.e2undo`).
Result<void> forget_growth(const Core& core, const std::string& id);

/// Grows the mounted filesystem to its device and records it. failed_precondition: ext4 without CAP_SYS_RESOURCE.
Result<void> grow_mounted(Core& core, mount::Kernel& kernel, VolumeRecord& record, const mount::Device& device, const std::string& fs_type,
                          const std::string& path);

/// The error of a step on the volume's device; as resource_exhausted, where its thin pool has no room left.
Error explain_full_pool(mount::Kernel& kernel, const mount::Pool& pool, const mount::Device& device, const Error& error);

}  // namespace ordinald::agent
