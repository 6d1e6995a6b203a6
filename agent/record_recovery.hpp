#pragma once

#include "agent/core.hpp"
#include "agent/promises.hpp"
#include "agent/volume_locks.hpp"

namespace ordinald::agent {

/// Makes a volume's record anew from its pool, where that is safe: exactly one pool has its image, the image's label says what the volume
/// was made as, and its name is free. What was written to it since is unknown, so the new record says `raw`: a filesystem that is on it is
/// mounted, and nothing will ever format it.
///
/// Called under the volume's lock, for a volume without a record. True: it is served again. False: not possible; a report says why and
/// what a person can do. Errors: a pool could not be looked at, the record could not be written.
Result<bool> recover_record(Core& core, mount::Kernel& kernel, const std::string& id);

/// The volume of this name whose record was lost, with the state directory: an image of it is in one of these pools. A blank one in its
/// place would be taken for it. Nothing where there is none. Under the name's lock; takes and gives back the volume's.
/// unavailable: its record can't be made anew yet. failed_precondition: nor ever.
Result<std::shared_ptr<const VolumeRecord>> recover_named(Core& core, VolumeLocks& locks, const csi::CallContext& call,
                                                          const std::string& name, const std::vector<PoolView>& pools);

}  // namespace ordinald::agent
