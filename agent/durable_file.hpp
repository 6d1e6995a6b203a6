#pragma once

#include <string>
#include <string_view>

#include "mount/result.hpp"

namespace ordinald::agent {

using mount::Result;

/// Whether a file must be there after a power loss.
enum class Durability : bool { until_reboot, power_loss };

/// Writes `<directory>/<name>` whole: a temporary file, [fsync,] rename, [fsync of the directory]. Mode 0600. A reader sees the old text or
/// the new.
Result<void> write_file(const std::string& directory, const std::string& name, std::string_view text, Durability durability);

/// Writes the text over that of a file of at least the same length, in one write(2) that needs no room; what is left is filled with
/// blanks. For files that need not survive a power loss, where there is no room for write_file.
Result<void> overwrite_file(const std::string& directory, const std::string& name, std::string_view text);

/// Removes it [and fsyncs the directory]. No such file is success.
Result<void> remove_file(const std::string& directory, const std::string& name, Durability durability);

/// Gives a file that can't be used, or whatever else has its name, the name `<name>.damaged` (or `.damaged.2` …, where that is taken), and
/// answers its path.
Result<std::string> set_aside(const std::string& directory, const std::string& name);

/// Makes durable what was done to names in the directory, be it by an agent that died before it could.
Result<void> sync_directory(const std::string& directory);

/// The file's text. not_found: no such file. Refuses files over 16 MiB.
Result<std::string> read_file(const std::string& path);

/// The temporary name's ending; what a crash leaves under it is nobody's.
inline constexpr std::string_view temporary_ending = ".tmp";

}  // namespace ordinald::agent
