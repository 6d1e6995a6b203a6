#pragma once

#include <string>

#include "agent/core.hpp"

namespace ordinald::agent {

/// Record `deleting`, durable ─▶ image gone ─▶ record gone: what a crash in between leaves is finished by the same call again, or by the
/// repairs. The caller holds the volume's lock. Success: it is gone, or never was. failed_precondition: it is in use (says by whom and what
/// to do), or its record is damaged.
Result<void> delete_volume(Core& core, const std::string& id);

}  // namespace ordinald::agent
