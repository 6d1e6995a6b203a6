#include "agent/volume_locks.hpp"

#include <algorithm>

#include "agent/clock_text.hpp"

namespace ordinald::agent {
namespace {

constexpr std::chrono::seconds between_looks{1};

}  // namespace

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
  if (const std::string why = wait_for(key, call, lock); !why.empty()) {
    return mount::make_error(mount::ErrorCode::aborted, "volume " + key + ": " + why + "; " + what + " was not begun: call again");
  }
  held_.emplace(key, Holder{.what = std::move(what), .since = std::chrono::system_clock::now(), .started = Clock::now()});
  return Guard{*this, key};
}

std::string VolumeLocks::wait_for(const std::string& key, const csi::CallContext& call, std::unique_lock<std::mutex>& lock) {
  const auto begin = Clock::now();
  const auto until = patience(call, begin);
  auto held = held_.find(key);
  if (held != held_.end() && waiting_ >= most_waiting_) {
    return held->second.text() + ", and " + std::to_string(waiting_) + " calls wait like this one already";
  }
  ++waiting_;
  std::string why;
  auto next_look = begin + between_looks;  // nothing tells when a caller hangs up
  for (; held != held_.end() && why.empty(); held = held_.find(key)) {
    released_.wait_until(lock, std::min(until, next_look));
    const auto now = Clock::now();
    if (now >= until) {
      held = held_.find(key);
      why = held == held_.end() ? "" : held->second.text();
      break;
    }
    if (now < next_look) {
      continue;
    }
    next_look = now + between_looks;
    if (call.given_up) {
      lock.unlock();
      const bool given_up = call.given_up();
      lock.lock();
      why = given_up ? "the caller hung up while it waited" : "";
    }
  }
  --waiting_;
  return why;
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

void VolumeLocks::release(const std::string& key) {
  {
    const std::scoped_lock lock{mutex_};
    held_.erase(key);
  }
  released_.notify_all();
}

}  // namespace ordinald::agent
