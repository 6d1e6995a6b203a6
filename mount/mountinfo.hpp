#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "mount/result.hpp"
#include "mount/types.hpp"

/// The mount table: /proc/PID/mountinfo (proc_pid_mountinfo(5)), parsed by libmount. One read at 5,000 mounts takes milliseconds:
/// for start and repair, not for a publish. Stateless; any thread.
namespace ordinald::mount {

/// The table in `text`, in the kernel's order. internal: a line that can't be read, with its number; half a table is never returned.
Result<std::vector<MountEntry>> parse_mountinfo(std::string_view text);

/// The table of this process's mount namespace.
Result<std::vector<MountEntry>> read_mount_table();

/// Whether it is a mount of what is on the device; of btrfs, whose number is anonymous, by its source.
bool is_of_device(const MountEntry& entry, const Device& device);

/// Whether `option` is one of those in a list such as `rw,errors=remount-ro`.
bool has_option(const std::string& options, const std::string& option);

/// The other mount namespaces in which the filesystem of this device is mounted, one for each namespace and mount point. What vanishes
/// while it is looked at is left out.
Result<std::vector<Pin>> find_pins(const Device& device);

}  // namespace ordinald::mount
