#pragma once

#include <set>
#include <stop_token>
#include <string>

#include "agent/core.hpp"
#include "agent/volume_locks.hpp"

namespace ordinald::agent {

/// Finds what nobody owns, beyond what the reconciler can tell without touching a device: records, images, loop devices and holds. What is
/// provably ours and unused is removed, a lost record is made anew where that is safe, and all else is reported with the command that a
/// person would run (repair_log.hpp).
///
/// Works in workers, under each volume's lock; a volume that a call works on is left for the next round. A pool or volume that hangs costs
/// a round its device timeout, and the calls nothing. One thread runs rounds.
class Repairs {
 public:
  Repairs(Core& core, VolumeLocks& locks) : core_(core), locks_(locks) {}

  /// Ends early, between volumes, where it is asked to.
  void round(const std::stop_token& stop = {});

 private:
  void finish_deletions(const std::stop_token& stop);
  void forget_unmade(const std::stop_token& stop);
  void recover_records(const std::stop_token& stop);
  void report_misnamed(const PoolView& view, const mount::PoolImage& image);
  void remove_half_made(const PoolView& view, const mount::PoolImage& half_made);
  void settle_labels(const std::stop_token& stop);
  void release_forgotten(const std::stop_token& stop);
  void report_stray_mounts(const std::stop_token& stop);
  void report_stray_staging(const std::stop_token& stop);
  void detach_leftovers(const std::stop_token& stop);
  Result<bool> detach_leftover(const std::string& id, bool told);

  Core& core_;
  VolumeLocks& locks_;
  std::set<std::string> idle_staging_;  ///< staging directories that the last round found unused
};

}  // namespace ordinald::agent
