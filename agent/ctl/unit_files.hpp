#pragma once

#include <string>
#include <vector>

#include "agent/ctl/claim_file.hpp"

/// What a set looks like to systemd (systemd.unit(5), systemd.generator(7)): `db.target`, and a drop-in for each ordinal's unit.
///
///   multi-user.target ─wants▶ db.target ─wants▶ postgres@0, @1 …     (PartOf: they stop and restart with it, last first)
///                                                  │ binds to        ordinald-claim@db-N: volumes before it, taken back after it
///                                                  ▼ requires        ordinald-ready@db-(N-1): OrderedReady's gate
///
/// An ordinal's gate wants the ordinal's unit, and does not require it: a restart of db-0 stops nobody behind it. `Parallel` has no gates.
/// Pure; any thread.
namespace ordinald::ctl {

struct UnitFile {
  std::string path{};  ///< beneath the generator's directory
  std::string text{};
  std::string link{};  ///< not empty: a symlink to that
};

/// Nothing where the set names no unit. `source` is the claim file.
std::vector<UnitFile> unit_files(const ClaimSet& set, const std::string& source);

std::string target_of(const ClaimSet& set);                         ///< `db.target`
std::string claim_unit(const ClaimSet& set, std::int64_t ordinal);  ///< `ordinald-claim@db-0.service`
std::string ready_unit(const ClaimSet& set, std::int64_t ordinal);  ///< `ordinald-ready@db-0.service`
std::string mount_unit(const std::string& path);                    ///< `srv-db\x2d0-data.mount`, as systemd-escape(1) has it

}  // namespace ordinald::ctl
