#pragma once

#include "agent/core.hpp"

namespace ordinald::agent {

/// Makes a volume's record anew from its pool, where that is safe: exactly one pool has its image, the image's label says what the volume
/// was made as, and its name is free. What was written to it since is unknown, so the new record says `raw`: a filesystem that is on it is
/// mounted, and nothing will ever format it.
///
/// Called under the volume's lock, for a volume without a record. True: it is served again. False: not possible; a report says why and
/// what a person can do. Errors: a pool could not be looked at, the record could not be written.
Result<bool> recover_record(Core& core, mount::Kernel& kernel, const std::string& id);

}  // namespace ordinald::agent
