#pragma once

#include <optional>

#include "mount/kernel.hpp"
#include "mount/unique_fd.hpp"

/// Loop devices (loop(4)): one image, one loop. Verbs of Kernel (kernel.hpp has their errors); stateless, any thread. Two processes may
/// attach different images at the same time; of one image the volume's lock lets only one at a time.
///
/// A loop is ours by device and inode of its backing file; the name in sysfs only says which to ask. That nobody has the image open,
/// and so that no loop is on it, a write lease proves in one call (fcntl(2), F_SETLEASE).
///
///     free ──LOOP_CONFIGURE──▶ bound ──LOOP_CLR_FD──▶ winding down ──last close──▶ free (with another diskseq)
///                                └── still open elsewhere: bound, and marked autoclear
namespace ordinald::mount {

/// Whether nobody else has the file open, a loop included, by a write lease on the open descriptor (fcntl(2), F_SETLEASE), which is given
/// up again. False says nothing where errno is not EAGAIN: the file system knows no leases, or EACCES: the file is another user's, and the
/// process has no CAP_LEASE.
bool open_nowhere_else(int fd);

/// The file on a loop device that takes no writes, and goes when the descriptor is closed.
struct ReadOnlyLoop {
  UniqueFd fd;
  Device device;
};
Result<ReadOnlyLoop> attach_read_only(int file_fd, const std::string& path, std::uint32_t block_size);

Result<Device> attach_loop(const ImageRef& image, std::uint32_t block_size);
Result<std::optional<Device>> find_loop(const ImageRef& image);
Result<void> detach_loop(const Device& device);
Result<void> refuse_loop_discard(const Device& device);
Result<Device> refresh_loop_size(const Device& device);

}  // namespace ordinald::mount
