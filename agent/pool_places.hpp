#pragma once

#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

namespace ordinald::agent {

/// On which file system each pool's directory was when it answered last, in this boot: `<runDir>/pools.json`. So a pool that hangs when
/// the agent starts keeps nobody waiting who asks another one, elsewhere, for room.
///
/// Threading: thread safe. Errors: none: a file that is lost, or can't be written, is a look more.
class PoolPlaces {
 public:
  PoolPlaces(std::string run_dir, std::string boot_id);

  /// `filesystem`: as PoolUsage has it.
  void note(const std::string& directory, const std::string& filesystem);
  /// Whether the directory was seen, and on another one than this.
  [[nodiscard]] bool elsewhere(const std::string& directory, const std::string& filesystem) const;

 private:
  const std::string run_dir_;
  const std::string boot_id_;
  mutable std::mutex mutex_;
  std::map<std::string, std::string> filesystems_;
};

/// Directory by directory, of such a file; none where it is damaged or another boot's.
std::map<std::string, std::string> parse_pool_places(std::string_view text, const std::string& boot_id);

}  // namespace ordinald::agent
