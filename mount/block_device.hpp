#pragma once

#include <linux/loop.h>

#include <string>

#include "mount/kernel.hpp"
#include "mount/unique_fd.hpp"

/// Block devices by what they are (rule 3): opened by path, believed by number, diskseq and, for loops, backing file. Verbs of Kernel
/// (kernel.hpp has their errors); stateless, any thread. An open can hang with the device.
namespace ordinald::mount {

/// "/dev/loop7 (7:7, diskseq 12)", for messages.
std::string describe(const Device& device);

/// The device, opened, and proven to be the one described. not_found: no such node or no device behind it. failed_precondition: another
/// one; both are named. EBUSY of O_EXCL is failed_precondition with that errno.
Result<UniqueFd> open_verified(const Device& device, int flags);

/// What is behind the descriptor of a block device.
Result<Device> describe_open_device(int fd, const std::string& path);

/// LOOP_GET_STATUS64. not_found (ENXIO): the loop has no file, or is being taken away.
Result<loop_info64> loop_status(int fd, const std::string& path);

Result<Device> inspect_block_device(const Device& device);
Result<void> set_block_device_read_only(const Device& device, bool read_only);
Result<void> erase_block_device(const Device& device, bool thick);

}  // namespace ordinald::mount
