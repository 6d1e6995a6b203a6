#pragma once

#include <string>

#include "agent/core.hpp"

/// What a volume's image carries for the day when its record is lost: the record as it is then made anew (record_recovery.hpp).
///
/// A volume that goes to another claim must never come back to the one before, nor to one that it was only about to go to:
///
///     record: A, stale ─▶ label: nobody's ─▶ record: B, stale ─▶ label: B ─▶ record: B
///
/// Each step is durable before the next. Whatever is lost in between, the label says A only while the record can't say B, and B only once
/// the record has said it; a record that is made anew meanwhile is nobody's, and a person binds it. A crash leaves the record stale, and a
/// repair writes the label that it owes.
namespace ordinald::agent {

/// The label of a volume as it is now. What was written since is unknown on that day: it says `raw`, and nothing is formatted.
std::string label_of(const VolumeRecord& record);

/// The volume's, in the image. Durable.
Result<void> write_label(const Core& core, mount::Kernel& kernel, const VolumeRecord& record);

/// Writes the label that a record owes, and says in the record that it is written. Durable. Under the volume's lock. Answers what a person
/// should know, which it also logs: that the file's file system had no room for it. Empty: nothing.
Result<std::string> settle_label(Core& core, mount::Kernel& kernel, VolumeRecord record);

/// The claim that it was made for, where the label is one of a volume on its way to another claim: then it is nobody's. Empty: it isn't.
std::string claim_before(const VolumeRecord& label);

}  // namespace ordinald::agent
