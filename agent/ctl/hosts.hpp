#pragma once

#include <string>

#include "agent/ctl/claim_file.hpp"
#include "agent/ctl/failure.hpp"
#include "agent/ctl/patience.hpp"

namespace ordinald::ctl {

/// /etc/hosts, or what ORDINALD_HOSTS_FILE in the environment names.
std::string hosts_path();

enum class HostsChange : std::uint8_t {
  install,
  refresh,  ///< only where the set has a block already
  remove,
};

/// Whether the file was changed. Takes a lock of its own, so that sets don't meet.
Result<bool> change_hosts(const std::string& path, const ClaimSet& set, HostsChange change, Patience& patience);

}  // namespace ordinald::ctl
