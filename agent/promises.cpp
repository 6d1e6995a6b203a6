#include "agent/promises.hpp"

#include <algorithm>
#include <string_view>
#include <unordered_set>

namespace ordinald::agent {

std::uint64_t promisable(const std::string& pool, const std::vector<PoolView>& pools, const std::vector<Promise>& promised) {
  const auto asked = std::ranges::find_if(pools, [&](const PoolView& view) { return view.pool->name == pool; });
  if (asked == pools.end()) {
    return 0;
  }
  const auto ratio = [](const PoolConfig& config) { return config.thick ? 1.0 : config.overcommit; };
  double room = static_cast<double>(asked->usage.free);
  double reserve_percent = 0;
  for (const PoolView& other : pools) {
    if (other.usage.device != asked->usage.device) {
      continue;
    }
    reserve_percent = std::max(reserve_percent, other.pool->reserve_percent);
    for (const mount::PoolImage& image : other.usage.images) {
      if (!image.volume_id.empty()) {
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

PromiseBook::Reservation::~Reservation() {
  if (book_ != nullptr) {
    const std::scoped_lock lock{book_->mutex_};
    book_->pending_.erase(entry_);
  }
}

std::vector<Promise> PromiseBook::promised(const std::vector<PoolView>& pools,
                                           const std::vector<std::shared_ptr<const VolumeRecord>>& records) const {
  std::vector<Promise> result{pending_.begin(), pending_.end()};
  std::unordered_set<std::string_view> known;
  for (const auto& record : records) {
    known.insert(record->id);
    result.push_back(Promise{.pool = record->pool, .bytes = record->size});
  }
  for (const PoolView& view : pools) {
    for (const mount::PoolImage& image : view.usage.images) {
      if (!image.volume_id.empty() && !known.contains(image.volume_id)) {
        result.push_back(Promise{.pool = view.pool->name, .bytes = image.size});
      }
    }
  }
  return result;
}

Result<PromiseBook::Reservation> PromiseBook::reserve(const std::string& pool, std::uint64_t bytes, const std::vector<PoolView>& pools,
                                                      const std::vector<std::shared_ptr<const VolumeRecord>>& records) {
  const std::scoped_lock lock{mutex_};
  const std::uint64_t room = promisable(pool, pools, promised(pools, records));
  if (bytes > room) {
    return mount::make_error(ErrorCode::resource_exhausted,
                             "pool " + pool + " can't promise " + std::to_string(bytes) + " bytes more, only " + std::to_string(room) +
                                 " (its free space and its images' less the reserve and what is promised already); delete volumes, enlarge "
                                 "its file system, or change reservePercent or overcommit");
  }
  pending_.push_front(Promise{.pool = pool, .bytes = bytes});
  return Reservation{*this, pending_.begin()};
}

std::uint64_t PromiseBook::available(const std::string& pool, const std::vector<PoolView>& pools,
                                     const std::vector<std::shared_ptr<const VolumeRecord>>& records) {
  const std::scoped_lock lock{mutex_};
  return promisable(pool, pools, promised(pools, records));
}

}  // namespace ordinald::agent
