#pragma once

#include <optional>

#include "mount/kernel.hpp"

/// Loop devices (loop(4)): one image, one loop. Verbs of Kernel (kernel.hpp has their errors); stateless, any thread. Two processes may
/// attach different images at the same time; of one image the volume's lock lets only one at a time.
///
/// A loop is ours by device and inode of its backing file; the name in sysfs only says which to ask. That nobody has the image open,
/// and so that no loop is on it, a write lease proves in one call (fcntl(2), F_SETLEASE).
///
///     free ──LOOP_CONFIGURE──▶ bound ──LOOP_CLR_FD──▶ winding down ──last close──▶ free (with another diskseq)
///                                └── still open elsewhere: bound, and marked autoclear
namespace ordinald::mount {

Result<Device> attach_loop(const ImageRef& image, std::uint32_t block_size);
Result<std::optional<Device>> find_loop(const ImageRef& image);
Result<void> detach_loop(const Device& device);
Result<Device> refresh_loop_size(const Device& device);

}  // namespace ordinald::mount
