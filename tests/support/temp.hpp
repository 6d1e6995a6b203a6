#pragma once

#include <filesystem>
#include <string>

namespace ordinald::testing {

/// A directory of its own under $TMPDIR (or /tmp), `ordinald-<what>.XXXXXX`. Its destructor leaves nothing behind: whatever is mounted
/// beneath it in this mount namespace is unmounted, loop devices on files beneath it are detached, then it is removed.
///
/// Threading: one object, one thread. Errors: throws std::system_error when it can't be made; the destructor reports on stderr.
class TempDir {
 public:
  explicit TempDir(const std::string& what);
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  ~TempDir();

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// Unmounts all beneath the directory (deepest first, lazily where it is busy) and detaches the loops whose files lie beneath it.
void release_everything_beneath(const std::filesystem::path& directory);

std::string read_file(const std::filesystem::path& path);
void write_file(const std::filesystem::path& path, std::string_view content);

}  // namespace ordinald::testing
