#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mount/result.hpp"
#include "mount/types.hpp"

namespace ordinald::mount {

/// What a filesystem's tools are asked for when one is made.
struct MakeRequest {
  std::string device;                ///< its path
  std::string uuid;                  ///< chosen beforehand and recorded (rule 2)
  std::vector<std::string> options;  ///< as mkfs_options() answered them
};

/// How to put back what a tool that died has overwritten.
enum class UndoMode : std::uint8_t {
  read_only,  ///< changes nothing; status 0: all that the file has kept is whole
  matching,   ///< only where the superblock is just as the file has it (else status 1)
  forced,     ///< whatever the superblock says: a tool that dies while it writes that leaves another than the file has
};

/// One kind of filesystem: which programs are run, with which arguments, and what their answers mean. Stateless; knows no device.
///
/// The device has been proven blank, and all of its bytes zero or discarded, so no tool is told to discard or to force anything: a tool
/// that finds a filesystem all the same refuses, as a last net.
class Filesystem {
 public:
  Filesystem() = default;
  Filesystem(const Filesystem&) = delete;
  Filesystem& operator=(const Filesystem&) = delete;
  virtual ~Filesystem() = default;

  [[nodiscard]] virtual std::string_view name() const = 0;
  /// Bytes below which it can't live.
  [[nodiscard]] virtual std::uint64_t minimum_size() const = 0;
  /// Bytes below which nothing grows it, though it can be made smaller than that.
  [[nodiscard]] virtual std::uint64_t minimum_growth() const { return 0; }
  [[nodiscard]] virtual std::vector<std::string> make_argv(const MakeRequest& request) const = 0;
  // `undo`: a file in which what the tool overwrites is kept, so that one that dies amid its writes can be taken back; empty: none is.

  /// The check before a mount (rule 7); empty: the mount itself is the check.
  [[nodiscard]] virtual std::vector<std::string> check_argv(const std::string& device, const std::string& undo) const = 0;
  /// The whole check that an offline growth asks for, and the growth; empty: it grows mounted only.
  [[nodiscard]] virtual std::vector<std::string> whole_check_argv(const std::string& device, const std::string& undo) const = 0;
  [[nodiscard]] virtual std::vector<std::string> grow_argv(const std::string& device, const std::string& undo) const = 0;
  /// Puts back what the file has kept. Empty: nothing keeps any.
  [[nodiscard]] virtual std::vector<std::string> undo_argv(const std::string& device, const std::string& undo, UndoMode mode) const = 0;
  /// The command with which a person repairs it; `path` is a device or an image that nothing has attached.
  [[nodiscard]] virtual std::string repair_hint(const std::string& path) const = 0;
  /// Options that we mount it with, unless the caller's flags say otherwise.
  [[nodiscard]] virtual std::vector<std::string> mount_options(bool thick) const = 0;
  /// Turns the parameter `mkfsOptions` (`-i 8192 -m 1`) into arguments for a volume with blocks of so many bytes. invalid_argument: an
  /// option or a value that isn't on the list, one that is given twice, or sizes that don't go together, with both.
  [[nodiscard]] virtual Result<std::vector<std::string>> mkfs_options(std::string_view text, std::uint32_t block_size) const = 0;
  /// Whether the tool makes a filesystem of `size` bytes with the arguments that mkfs_options() answered for blocks of so many bytes: asked
  /// when a volume is promised, since by the time that it is made nobody can change them any more. invalid_argument: which don't go
  /// together, or not with the size. On the safe side: it refuses some that the tool takes, and none that the tool refuses passes.
  [[nodiscard]] virtual Result<void> mkfs_fits(std::span<const std::string> arguments, std::uint64_t size,
                                               std::uint32_t block_size) const = 0;
};

/// ext4, xfs or btrfs; nullptr for any other name.
const Filesystem* find_filesystem(std::string_view name);

/// Whether the check's outcome lets the filesystem be mounted: fsck(8)'s status is a bit mask, of which only 0 and 1 do.
/// failed_precondition: what the status says, the end of the tool's words, and what a person can run on `lasting_path`.
Result<void> judge_check(const Filesystem& filesystem, const std::string& device, const std::string& lasting_path,
                         const ToolOutcome& outcome);

/// success only for status 0. internal, with the end of the tool's words, otherwise.
Result<void> judge_tool(std::string_view what, const ToolOutcome& outcome);

}  // namespace ordinald::mount
