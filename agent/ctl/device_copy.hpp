#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "agent/ctl/failure.hpp"
#include "mount/unique_fd.hpp"

/// The bytes of a block device, copied into a file of a pool so that they can be adopted. The device is only read.
///
///     made, with its size (which promises it) ─▶ copied, zeros left as holes ─▶ fsync ─▶ compared byte by byte ─▶ kept, once it is a
///     volume
///        └── any failure, or a signal: removed. kill -9: it stays under a name that no volume has, and the next copy begins anew there
///
/// Compared, and not only asked for its UUID: both are read once more, past the page cache, so that what an hour's copy is believed for is
/// what both disks have. A device that somebody wrote to meanwhile (who has it open without O_EXCL, which nothing can keep out) differs.
namespace ordinald::ctl {

struct CopyOrder {
  std::string device;
  std::string file;             ///< in the pool, absolute
  std::uint64_t size = 0;       ///< of the device, as it was surveyed
  bool thick = false;           ///< every block allocated, before anything is copied
  std::uint64_t keep_free = 0;  ///< bytes that stay free on the pool's file system
};

/// Of so many bytes so many are done; `comparing`: copied they all are. Called a few times a second at most.
using CopyProgress = std::function<void(bool comparing, std::uint64_t done)>;

class DeviceCopy {
 public:
  /// Makes and compares it. The device stays ours alone (O_EXCL) as long as this lives, so that nothing mounts it until it is adopted. The
  /// file is closed: an adoption asks that nobody has it open. Single-threaded; a signal ends it between two pieces.
  static Result<DeviceCopy> make(const CopyOrder& order, const CopyProgress& progress);

  DeviceCopy(DeviceCopy&& other) noexcept;
  DeviceCopy(const DeviceCopy&) = delete;
  DeviceCopy& operator=(const DeviceCopy&) = delete;
  DeviceCopy& operator=(DeviceCopy&&) = delete;
  /// Removes the file, where it is still there and was not kept.
  ~DeviceCopy();
  void keep() { kept_ = true; }
  [[nodiscard]] std::uint64_t written() const { return written_; }  ///< bytes; the rest is holes

 private:
  DeviceCopy() = default;
  Result<void> open(const CopyOrder& order);
  Result<void> open_file(const CopyOrder& order);
  Result<void> fill(const CopyOrder& order, const CopyProgress& progress);
  Result<void> compare(const CopyOrder& order, const CopyProgress& progress);
  Result<void> check_room(const CopyOrder& order) const;

  mount::UniqueFd device_;
  mount::UniqueFd file_;
  mount::UniqueFd directory_;
  std::string name_;
  std::uint64_t inode_ = 0;
  std::uint64_t written_ = 0;
  bool kept_ = true;
};

}  // namespace ordinald::ctl
