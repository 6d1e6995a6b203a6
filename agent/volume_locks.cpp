#include "agent/volume_locks.hpp"

#include <algorithm>

#include "agent/clock_text.hpp"

namespace ordinald::agent {

VolumeLocks::Clock::time_point VolumeLocks::patience(const csi::CallContext& call, Clock::time_point now) {
  if (!call.deadline) {
    return now + std::chrono::seconds{60};
  }
  const auto remaining = std::max(*call.deadline - now, Clock::duration::zero());
  const auto spare = std::max<Clock::duration>(remaining / 10, std::chrono::milliseconds{200});
  return std::max(now, *call.deadline - spare);
}

Result<VolumeLocks::Guard> VolumeLocks::acquire(const std::string& key, std::string what, const csi::CallContext& call) {
  std::unique_lock lock{mutex_};
  const auto free = [&] { return !held_.contains(key); };
  if (!free() && !released_.wait_until(lock, patience(call, Clock::now()), free)) {
    return mount::make_error(mount::ErrorCode::aborted,
                             "volume " + key + ": " + held_.at(key).text() + "; " + what + " was not begun: call again");
  }
  held_.emplace(key, Holder{.what = std::move(what), .since = std::chrono::system_clock::now(), .started = Clock::now()});
  return Guard{*this, key};
}

std::optional<VolumeLocks::Guard> VolumeLocks::try_acquire(const std::string& key, std::string what) {
  const std::scoped_lock lock{mutex_};
  if (held_.contains(key)) {
    return std::nullopt;
  }
  held_.emplace(key, Holder{.what = std::move(what), .since = std::chrono::system_clock::now(), .started = Clock::now()});
  return std::optional<Guard>{std::in_place, *this, key};
}

std::string VolumeLocks::Holder::text() const {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(Clock::now() - started).count();
  return what + " has been running since " + utc_text(since) + " (" + std::to_string(seconds) + " s)";
}

std::string VolumeLocks::held_for(const std::string& key, Clock::duration at_least) {
  const std::scoped_lock lock{mutex_};
  const auto found = held_.find(key);
  return found == held_.end() || Clock::now() - found->second.started < at_least ? std::string{} : found->second.text();
}

std::vector<VolumeLocks::Running> VolumeLocks::list() {
  const std::scoped_lock lock{mutex_};
  std::vector<Running> list;
  list.reserve(held_.size());
  for (const auto& [key, holder] : held_) {
    list.push_back({.key = key, .what = holder.what, .since = holder.since, .lasts = Clock::now() - holder.started});
  }
  return list;
}

std::vector<std::string> VolumeLocks::held() {
  std::vector<std::string> texts;
  for (const Running& running : list()) {
    texts.push_back(running.what + " of " + running.key + " since " + utc_text(running.since));
  }
  return texts;
}

void VolumeLocks::release(const std::string& key) {
  {
    const std::scoped_lock lock{mutex_};
    held_.erase(key);
  }
  released_.notify_all();
}

}  // namespace ordinald::agent
