#pragma once

#include "agent/core.hpp"

namespace ordinald::agent {

/// Holds the ledger against the mount table, once at start, before the socket opens. The kernel is the truth: an entry whose mount is not
/// there (a crash between ledger and mount, a mount taken away while no agent ran) is dropped and logged. Reads the mount table only;
/// touches no device.
Result<void> reconcile(Core& core);

}  // namespace ordinald::agent
