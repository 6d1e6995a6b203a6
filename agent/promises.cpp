#include "agent/promises.hpp"

#include <algorithm>
#include <string_view>
#include <unordered_map>

#include "agent/device_copy_name.hpp"

namespace ordinald::agent {

std::uint64_t promisable(const std::string& pool, const std::vector<PoolView>& pools, const std::vector<Promise>& promised) {
  const auto asked = std::ranges::find_if(pools, [&](const PoolView& view) { return view.pool->name == pool; });
  if (asked == pools.end() || asked->usage.read_only) {
    return 0;
  }
  const auto ratio = [](const PoolConfig& config) { return config.thick ? 1.0 : config.overcommit; };
  double room = static_cast<double>(asked->usage.free);
  double reserve_percent = 0;
  for (const PoolView& other : pools) {
    if (!other.usage.filesystem.empty() && other.usage.filesystem != asked->usage.filesystem) {
      continue;
    }
    reserve_percent = std::max(reserve_percent, other.pool->reserve_percent);
    for (const mount::PoolImage& image : other.usage.images) {
      if (!image.volume_id.empty() || is_device_copy(image.file)) {
        room += static_cast<double>(image.allocated);
      }
    }
    for (const Promise& promise : promised) {
      if (promise.pool == other.pool->name) {
        room -= static_cast<double>(promise.bytes) / ratio(*other.pool);
      }
    }
  }
  room -= static_cast<double>(asked->usage.total) * reserve_percent / 100.0;
  return room <= 0 ? 0 : static_cast<std::uint64_t>(room * ratio(*asked->pool));
}

Result<void> require_inode(const std::string& pool, const std::vector<PoolView>& pools) {
  const auto asked = std::ranges::find_if(pools, [&](const PoolView& view) { return view.pool->name == pool; });
  if (asked == pools.end() || asked->usage.inodes == 0 || asked->usage.inodes_free > 0) {
    return mount::success();
  }
  return mount::make_error(ErrorCode::resource_exhausted, "pool " + pool + " can't take another volume: the file system of " +
                                                              asked->pool->directory + " has none of its " +
                                                              std::to_string(asked->usage.inodes) +
                                                              " inodes left; delete other files that lie on it, or volumes");
}

PromiseBook::Reservation::~Reservation() {
  if (book_ != nullptr) {
    const std::scoped_lock lock{book_->mutex_};
    book_->pending_.erase(entry_);
  }
}

std::vector<Promise> PromiseBook::promised(const std::vector<PoolView>& pools,
                                           const std::vector<std::shared_ptr<const VolumeRecord>>& records) const {
  std::vector<Promise> result;
  std::unordered_map<std::string_view, std::uint64_t> known;
  for (const auto& record : records) {
    known.emplace(record->id, record->size);
    result.push_back(Promise{.pool = record->pool, .bytes = record->size});
  }
  for (const Promise& promise : pending_) {
    const auto counted = known.find(promise.volume);
    if (counted == known.end() || counted->second < promise.size) {
      result.push_back(promise);
    }
  }
  for (const PoolView& view : pools) {
    for (const mount::PoolImage& image : view.usage.images) {
      if (is_device_copy(image.file) || (!image.volume_id.empty() && !known.contains(image.volume_id))) {
        result.push_back(Promise{.pool = view.pool->name, .bytes = image.size});
      }
    }
  }
  return result;
}

Result<PromiseBook::Reservation> PromiseBook::reserve(const Promise& asked, const std::vector<PoolView>& pools,
                                                      const std::vector<std::shared_ptr<const VolumeRecord>>& records) {
  const std::string& pool = asked.pool;
  if (std::ranges::any_of(pools, [&](const PoolView& view) { return view.pool->name == pool && view.usage.read_only; })) {
    return mount::make_error(
        ErrorCode::failed_precondition,
        "pool " + pool + " can't promise anything: its file system is read-only; see dmesg for why, and make it writable again");
  }
  const std::scoped_lock lock{mutex_};
  const std::uint64_t room = promisable(pool, pools, promised(pools, records));
  if (asked.bytes > room) {
    return mount::make_error(ErrorCode::resource_exhausted,
                             "pool " + pool + " can't promise " + std::to_string(asked.bytes) + " bytes more, only " +
                                 std::to_string(room) +
                                 " (its free space and its images' less the reserve and what is promised already); delete volumes, enlarge "
                                 "its file system, or change reservePercent or overcommit");
  }
  pending_.push_front(asked);
  return Reservation{*this, pending_.begin()};
}

std::uint64_t PromiseBook::available(const std::string& pool, const std::vector<PoolView>& pools,
                                     const std::vector<std::shared_ptr<const VolumeRecord>>& records) {
  if (!require_inode(pool, pools)) {
    return 0;
  }
  const std::scoped_lock lock{mutex_};
  return promisable(pool, pools, promised(pools, records));
}

}  // namespace ordinald::agent
