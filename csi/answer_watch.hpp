#pragma once

#include <grpcpp/server_context.h>

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "mount/log.hpp"

namespace ordinald::csi {

/// Calls whose answer is ready and has not been taken: gRPC's synchronous server keeps a call's thread until then, so that a client that
/// reads nothing would take one thread after the other from everybody else. Each is cancelled after `patience`; where many are, after
/// `patience_in_crowd`.
///
/// Threading: thread safe; has a thread of its own. Errors: none; what is cancelled is logged.
class AnswerWatch {
 public:
  using Clock = std::chrono::steady_clock;
  struct Options {
    std::chrono::milliseconds patience{10'000};
    std::chrono::milliseconds patience_in_crowd{1000};
    std::size_t crowd = 64;  ///< this many are a crowd
  };
  struct Answer {
    const grpc::ServerContextBase* context;
    std::string method;
    Clock::time_point ready;
    bool cancelled = false;
  };
  using Ticket = std::list<Answer>::iterator;

  AnswerWatch(const Options& options, std::shared_ptr<const mount::Log> log);
  AnswerWatch(const AnswerWatch&) = delete;
  AnswerWatch& operator=(const AnswerWatch&) = delete;
  ~AnswerWatch();

  /// The context must live until the ticket is given back.
  Ticket ready(const grpc::ServerContextBase& context, const std::string& method);
  void taken(Ticket ticket);

 private:
  void run();
  void cancel_old();

  const Options options_;
  const std::shared_ptr<const mount::Log> log_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::list<Answer> answers_;  ///< the oldest first
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace ordinald::csi
