#pragma once

#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

namespace ordinald::agent {

/// Looks at what may hang, for somebody who does not wait long: each runs on a thread of this pool, its asker gets the answer when it is
/// there in time, and else nothing. The same is looked at once at a time, whoever asks.
///
/// Threading: ask from any thread but the pool's own. Ends when its looks do: they have deadlines of their own.
template <class Answer>
class PatientLooks {
 public:
  explicit PatientLooks(std::size_t threads) : threads_(threads) {}
  PatientLooks(const PatientLooks&) = delete;
  PatientLooks& operator=(const PatientLooks&) = delete;
  ~PatientLooks() { threads_.join(); }

  /// `look`: an Answer(). Nothing: it was not there in time.
  template <class Look>
  std::optional<Answer> ask(const std::string& key, std::chrono::milliseconds patience, Look look) {
    std::unique_lock lock{mutex_};
    Entry& entry = entries_[key];  // stays where it is while somebody waits
    const std::uint64_t wanted = entry.answers + 1;
    if (!entry.running) {
      entry.running = true;
      boost::asio::post(threads_, [this, key, look = std::move(look)] {
        std::optional<Answer> answer;
        try {
          answer = look();
        } catch (...) {
          answer.reset();  // a bug: whoever waits is told nothing
        }
        const std::scoped_lock answered{mutex_};
        Entry& done = entries_[key];
        done.answer = std::move(answer);
        done.running = false;
        ++done.answers;
        if (done.waiting == 0) {
          entries_.erase(key);
        }
        told_.notify_all();
      });
    }
    ++entry.waiting;
    const bool in_time = told_.wait_for(lock, patience, [&] { return entry.answers >= wanted; });
    --entry.waiting;
    std::optional<Answer> answer = in_time ? entry.answer : std::nullopt;
    if (entry.waiting == 0 && !entry.running) {
      entries_.erase(key);
    }
    return answer;
  }

 private:
  struct Entry {
    bool running = false;
    std::uint64_t answers = 0;
    int waiting = 0;
    std::optional<Answer> answer{};
  };
  std::mutex mutex_;
  std::condition_variable told_;
  std::map<std::string, Entry> entries_;
  boost::asio::thread_pool threads_;  ///< the last: its threads use the others
};

}  // namespace ordinald::agent
