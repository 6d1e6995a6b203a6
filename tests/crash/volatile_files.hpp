#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "tests/crash/choices.hpp"

namespace ordinald::testing {

/// What of a directory's files a power loss leaves: told of each act (mount/crash_point.hpp), it knows what has been made durable, and of
/// all else lets the choices decide. POSIX promises no order: of two renames that no fsync followed, the second alone may be there; a
/// file whose content was not fsynced is whole, half, or empty.
///
/// Threading: one thread. Errors: throws std::logic_error where the directory holds what no act has told of.
class VolatileFiles {
 public:
  explicit VolatileFiles(std::filesystem::path directory) : top_(std::move(directory)) {}

  void acted(std::string_view act, const std::filesystem::path& object);
  /// Makes the directory what it is after the next boot.
  void power_loss(Choices& choices);

 private:
  /// An inode: the content that is durable, if any is.
  struct File {
    std::string content;
    bool durable = false;
  };
  using Names = std::map<std::string, std::shared_ptr<File>>;
  /// An act on names that is not durable: each name with what it then means, nothing where it is removed.
  using Change = Names;
  struct Directory {
    bool durable = false;
    Names now;
    Names kept;  ///< by the last fsync
    std::vector<Change> pending;
  };

  void change(const std::filesystem::path& directory, const Change& change);
  static void apply(const Change& change, Names& names);

  std::filesystem::path top_;
  std::map<std::filesystem::path, Directory> directories_;
};

}  // namespace ordinald::testing
