#pragma once

#include <string>

#include "agent/ledger.hpp"

namespace ordinald::agent {

/// Whether the mode lets several targets have the volume at once: 7 and the MULTI_NODE modes.
bool allows_several_targets(AccessMode mode);
/// Modes 2 and 3: a write gets EROFS (on a block target EPERM), whatever else was asked.
bool is_reader_only(AccessMode mode);
/// `SINGLE_NODE_WRITER` …
std::string_view to_string(AccessMode mode);

enum class PublishVerdict : std::uint8_t {
  fresh,     ///< nobody has the target: bind it
  repeated,  ///< the same publication again: see that it is there, and answer OK
};

/// The access-mode table of a second publish (rule 4). Pure. `asked.since` is not compared.
/// already_exists: the target is published with other arguments. failed_precondition: an exclusive mode on either side and another target,
/// naming who holds it where since when; or read-only and writable block publications side by side.
Result<PublishVerdict> judge_publish(const VolumeState& state, const Publication& asked);

}  // namespace ordinald::agent
