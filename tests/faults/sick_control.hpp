#pragma once

#include <atomic>
#include <cstdint>
#include <string_view>

/// What a test asks of its FUSE server (fuse_server.cpp), in memory that both map.
namespace ordinald::testing {

enum SickOp : std::uint32_t {
  sick_read = 1,
  sick_write = 2,
  sick_sync = 4,      ///< fsync
  sick_allocate = 8,  ///< fallocate, with what punches and zeroes holes
  sick_look = 16,     ///< getattr, getxattr, open
};

struct SickControl {
  static constexpr std::uint64_t everywhere = ~std::uint64_t{0};

  std::atomic<std::uint32_t> failing{0};  ///< of SickOp: these answer `error`
  std::atomic<std::uint32_t> error{5};    ///< EIO
  std::atomic<std::uint64_t> passing{0};  ///< so many of them still pass first, each counted down
  std::atomic<std::uint64_t> begin{0};    ///< reads and writes fail where they touch these bytes
  std::atomic<std::uint64_t> end{everywhere};
  std::atomic<std::uint32_t> held{0};            ///< of SickOp: these wait until it changes (a futex)
  std::atomic<std::uint32_t> refused{0};         ///< how many have answered `error`
  std::atomic<std::uint32_t> waiting{0};         ///< how many have waited (a futex, too)
  std::atomic<std::uint64_t> free_bytes{0};      ///< 0: what the file system below says
  std::atomic<std::uint64_t> allocate_limit{0};  ///< fallocate beyond this many bytes stops there, with ENOSPC; 0: no limit
  char only[128] = {};                           ///< only files whose path holds this; set while nothing fails or is held
};
static_assert(std::atomic<std::uint32_t>::is_always_lock_free && std::atomic<std::uint64_t>::is_always_lock_free);

}  // namespace ordinald::testing
