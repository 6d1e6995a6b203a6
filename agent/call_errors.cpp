#include "agent/call_errors.hpp"

#include <algorithm>
#include <chrono>
#include <ranges>

#include "agent/clock_text.hpp"

namespace ordinald::agent {

void CallErrors::failed(const std::string& id, const std::string& call, const mount::Error& error) {
  constexpr std::size_t longest = 4096;
  const std::scoped_lock lock{mutex_};
  Volume& volume = volumes_[id];
  volume.used = ++count_;
  Entry entry{
      .time = utc_text(std::chrono::system_clock::now()), .call = call, .code = error.code, .message = error.message.substr(0, longest)};
  // Orchestrators ask again and again: one refusal, however often it is told, doesn't push out the others.
  std::erase_if(volume.entries,
                [&](const Entry& old) { return old.call == call && old.code == entry.code && old.message == entry.message; });
  volume.entries.push_back(std::move(entry));
  if (volume.entries.size() > most_errors) {
    volume.entries.erase(volume.entries.begin());
  }
  if (volumes_.size() > most_volumes) {
    volumes_.erase(std::ranges::min_element(volumes_, {}, [](const auto& each) { return each.second.used; }));
  }
  size_ = volumes_.size();
}

void CallErrors::went_well(const std::string& id, const std::string& call) {
  if (size_ == 0) {
    return;
  }
  const std::scoped_lock lock{mutex_};
  if (const auto found = volumes_.find(id); found != volumes_.end()) {
    for (Entry& entry : found->second.entries) {
      entry.settled = entry.settled || entry.call == call;
    }
  }
}

void CallErrors::forget(const std::string& id) {
  const std::scoped_lock lock{mutex_};
  volumes_.erase(id);
  size_ = volumes_.size();
}

std::vector<CallErrors::Entry> CallErrors::of(const std::string& id) const {
  const std::scoped_lock lock{mutex_};
  const auto found = volumes_.find(id);
  return found == volumes_.end() ? std::vector<Entry>{} : found->second.entries;
}

std::optional<CallErrors::Entry> CallErrors::refusal(const std::string& id) const {
  const auto entries = of(id);
  for (const Entry& entry : std::ranges::reverse_view{entries}) {
    if (!entry.settled) {
      return entry;
    }
  }
  return std::nullopt;
}

}  // namespace ordinald::agent
