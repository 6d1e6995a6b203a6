#pragma once

#include "agent/core.hpp"

namespace ordinald::agent {

/// Holds the ledger against the mount table, once at start, before the socket opens. The kernel is the truth: an entry whose mount is not
/// there (a crash between ledger and mount, a mount taken away while no agent ran) is dropped and logged; a volume that is mounted though
/// its ledger is lost gets what is found (FoundMount), and so is still held. Reads the mount table and sysfs only; touches no device.
Result<void> reconcile(Core& core);

/// The volume whose image the loop has, by the name in sysfs: a hint. Empty: no volume of ours, records lost included.
std::string volume_of(const Core& core, const mount::LoopEntry& loop);

}  // namespace ordinald::agent
