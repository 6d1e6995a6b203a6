#pragma once

#include <map>
#include <mutex>
#include <string>
#include <string_view>

#include "mount/pool.hpp"

namespace ordinald::agent {

using mount::Result;

struct Core;

/// Which mark each pool's directory bears, and where it is: `<stateDir>/pools.json`, durable. Where a pool's file system is not mounted,
/// another directory lies at its path: were that taken for the pool, a delete would find nothing there and be done, and a create would go
/// to another disk.
///
///     no mark there, none known  ─▶ the first volume: marked ─▶ known
///     a mark there, none known   ─▶ known (a crash between those two, or the state directory was lost)
///     no mark there, none known, volumes by their records: marked where one of their images is there (an agent before this one made
///         them); else it is not the pool's directory
///     known: the pool's directory is the one that bears it
///
/// Threading: thread safe. Errors: a file that can't be read is as none.
class PoolMarks {
 public:
  explicit PoolMarks(std::string state_dir);

  /// Empty: none is known.
  [[nodiscard]] std::string of(const std::string& pool) const;
  /// Where the pool's directory was when it was seen last. Empty: it is not known.
  [[nodiscard]] std::string directory_of(const std::string& pool) const;
  /// Durable. failed_precondition: it is no mark.
  Result<void> keep(const std::string& pool, const std::string& mark, const std::string& directory);

 private:
  const std::string state_dir_;
  mutable std::mutex mutex_;
  std::map<std::string, std::string> marks_;
  std::map<std::string, std::string> directories_;
};

/// Pool by pool, of such a file; a part that is damaged is left out.
std::map<std::string, std::string> parse_pool_marks(std::string_view text);
/// The same of the directories.
std::map<std::string, std::string> parse_pool_directories(std::string_view text);
/// Such a file.
std::string to_json(const std::map<std::string, std::string>& pool_marks, const std::map<std::string, std::string>& directories = {});

/// The pool's file system and its images. not_found: its directory is missing, or is not the pool's own.
Result<mount::PoolUsage> look_at_pool(const Core& core, mount::Kernel& kernel, const mount::Pool& pool);

/// Success: its directory is the pool's own, as far as is known. failed_precondition: it is missing, or another; with what to do.
Result<void> require_own_pool(const Core& core, mount::Kernel& kernel, const mount::Pool& pool);

/// The same, before a volume comes into the pool: where it has no mark yet, it gets one.
Result<void> mark_own_pool(const Core& core, mount::Kernel& kernel, const mount::Pool& pool);

}  // namespace ordinald::agent
