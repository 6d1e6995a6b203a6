#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "agent/config.hpp"
#include "agent/volume_record.hpp"
#include "mount/types.hpp"

namespace ordinald::agent {

/// A pool with what it looks like now.
struct PoolView {
  const PoolConfig* pool = nullptr;
  mount::PoolUsage usage;
};

/// One volume's weight on its pool.
struct Promise {
  std::string pool;
  std::uint64_t bytes = 0;
  std::string volume{};    ///< of one that is being made: whose, and
  std::uint64_t size = 0;  ///< which size its record has once it counts itself
};

/// Bytes that `pool` may still promise; never negative. Pure.
///
/// Pools on one file system share one promise: what is free there plus what the pools' own images hold, less the reserve (a share of the
/// file system's size, the largest of the pools'). Each volume weighs on it: a thick one with its size, a thin one with its size over its
/// pool's overcommit ratio. A pool on a file system that is read-only promises nothing. `pools`: every pool that could be looked at; one
/// without a file system may be on any.
/// `promised`: every volume's promise.
std::uint64_t promisable(const std::string& pool, const std::vector<PoolView>& pools, const std::vector<Promise>& promised);

/// resource_exhausted: the pool's file system has no inode for another image. File systems that make inodes as they need them always do.
Result<void> require_inode(const std::string& pool, const std::vector<PoolView>& pools);

/// Promises that are being made, and have no record yet: each counts from the moment it was found to fit. Thread safe.
class PromiseBook {
 public:
  /// Gives the promise back when it ends; by then the record counts, or nothing was made.
  class Reservation {
   public:
    Reservation(PromiseBook& book, std::list<Promise>::iterator entry) : book_(&book), entry_(entry) {}
    Reservation(const Reservation&) = delete;
    Reservation& operator=(const Reservation&) = delete;
    Reservation(Reservation&& other) noexcept : book_(std::exchange(other.book_, nullptr)), entry_(other.entry_) {}
    Reservation& operator=(Reservation&&) = delete;
    ~Reservation();

   private:
    PromiseBook* book_;
    std::list<Promise>::iterator entry_;
  };

  /// resource_exhausted: its pool can't promise that much more; the text says what it can. failed_precondition: its file system is
  /// read-only.
  Result<Reservation> reserve(const Promise& asked, const std::vector<PoolView>& pools,
                              const std::vector<std::shared_ptr<const VolumeRecord>>& records);
  /// What could be reserved for a new volume.
  std::uint64_t available(const std::string& pool, const std::vector<PoolView>& pools,
                          const std::vector<std::shared_ptr<const VolumeRecord>>& records);

 private:
  /// Of records, of calls that are under way and not in those yet, of images whose record is lost, and of copies of devices: those weigh
  /// what they are.
  [[nodiscard]] std::vector<Promise> promised(const std::vector<PoolView>& pools,
                                              const std::vector<std::shared_ptr<const VolumeRecord>>& records) const;

  std::mutex mutex_;
  std::list<Promise> pending_;
};

}  // namespace ordinald::agent
