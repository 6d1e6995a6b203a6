#include "csi/answer_watch.hpp"

#include <pthread.h>

#include <algorithm>
#include <utility>

namespace ordinald::csi {

AnswerWatch::AnswerWatch(const Options& options, std::shared_ptr<const mount::Log> log) : options_(options), log_(std::move(log)) {
  thread_ = std::thread{[this] {
    ::pthread_setname_np(::pthread_self(), "csi-answers");
    run();
  }};
}

AnswerWatch::~AnswerWatch() {
  {
    const std::lock_guard lock{mutex_};
    ending_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

AnswerWatch::Ticket AnswerWatch::ready(const grpc::ServerContextBase& context, const std::string& method) {
  const std::lock_guard lock{mutex_};
  const Ticket ticket = answers_.insert(answers_.end(), Answer{.context = &context, .method = method, .ready = Clock::now()});
  if (answers_.size() == options_.crowd) {
    changed_.notify_all();  // below that the thread looks when it looks: nobody is woken for a call that goes well
  }
  return ticket;
}

void AnswerWatch::taken(Ticket ticket) {
  const std::lock_guard lock{mutex_};
  answers_.erase(ticket);
}

void AnswerWatch::run() {
  std::unique_lock lock{mutex_};
  while (!ending_) {
    cancel_old();
    if (answers_.size() >= options_.crowd) {
      changed_.wait_for(lock, options_.patience_in_crowd / 4, [this] { return ending_; });
    } else {
      changed_.wait_for(lock, options_.patience / 2, [this] { return ending_ || answers_.size() >= options_.crowd; });
    }
  }
}

/// With the lock held: no call ends meanwhile.
void AnswerWatch::cancel_old() {
  const auto now = Clock::now();
  const auto patience = answers_.size() >= options_.crowd ? options_.patience_in_crowd : options_.patience;
  std::size_t number = 0;
  std::string method;
  for (Answer& answer : answers_) {
    if (now - answer.ready < patience) {
      break;
    }
    if (!std::exchange(answer.cancelled, true)) {
      answer.context->TryCancel();
      method = answer.method;
      ++number;
    }
  }
  if (number > 0) {
    log_->warn("{} answers, to {} at last, were ready for {} ms and their client did not take them: cancelled, what they tell is done",
               number, method, std::chrono::milliseconds{patience}.count());
  }
}

}  // namespace ordinald::csi
