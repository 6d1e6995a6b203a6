#pragma once

#include <string>
#include <string_view>

#include "mount/result.hpp"

/// A file that others read, changed as a whole. Any thread.
namespace ordinald::ctl {

/// Puts the text in the file's place so that it is there after a power loss, and a reader sees the old or the new: a temporary file beside
/// it, fsync, rename, fsync of the directory. Mode and owner stay what they were; a new file gets 0644. A symlink is followed. Refuses a
/// file that is a mount of its own, as a container's /etc/hosts is.
mount::Result<void> replace_text_file(const std::string& path, std::string_view text);

/// Gives it another name in its directory, durably; what had that is replaced. No such file is success: it was done.
mount::Result<void> rename_text_file(const std::string& path, const std::string& to);

/// Removes it, durably. No such file is success.
mount::Result<void> remove_text_file(const std::string& path);

}  // namespace ordinald::ctl
