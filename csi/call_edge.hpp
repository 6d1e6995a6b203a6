#pragma once

#include <google/protobuf/message.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/status.h>

#include <chrono>
#include <condition_variable>
#include <exception>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "csi/volume_ops.hpp"
#include "mount/log.hpp"
#include "mount/result.hpp"

namespace ordinald::csi {

/// The edge of every call, one of the three places where an exception is caught (it is a bug, and becomes INTERNAL). Measures the call,
/// writes its one log line (`<method> volume="…" result=… ms=… [error="…"]`) and makes the status.
///
/// Levels: info for operations, debug for what orchestrators ask all the time, warn for a refusal, error for INTERNAL. At debug each
/// request is written too, redacted.
///
/// Threading: shared by all calls. Errors: none of its own.
class CallEdge {
 public:
  using Level = mount::LogLevel;
  static constexpr Level quiet = Level::debug;  ///< of what orchestrators ask all the time

  explicit CallEdge(std::shared_ptr<const mount::Log> log) : log_(std::move(log)) {}

  /// Runs `body`, a `Result<void>(const CallContext&)`, for the request.
  template <class Body>
  grpc::Status run(const grpc::ServerContext& context, const google::protobuf::Message& request, Body&& body,
                   Level level = Level::info) const {
    const auto begin = std::chrono::steady_clock::now();
    const Working working{*this, request, begin};
    log_request(request);
    if (draining()) {
      return finish(request, stopping(), level, begin);
    }
    mount::Result<void> result = mount::success();
    try {
      result = std::forward<Body>(body)(call_context(context));
    } catch (const std::exception& e) {
      result = bug(e.what());
    } catch (...) {
      result = bug("an unknown exception");
    }
    return finish(request, result, level, begin);
  }

  /// Counts a call while it lives: from its beginning until gRPC has sent its answer, which is later than run's end (interceptor holds one
  /// a call).
  class Running {
   public:
    explicit Running(const CallEdge& edge);
    Running(const Running&) = delete;
    Running& operator=(const Running&) = delete;
    ~Running();

   private:
    const CallEdge& edge_;
  };

  /// The calls that are being worked on, for people: `NodeStageVolume volume="data-db-0-1a2b3c4d" for 12.3 s`.
  [[nodiscard]] std::vector<std::string> working() const;

  /// From now on calls are refused as UNAVAILABLE; waits until those that run have been answered, at most so long.
  void drain(std::chrono::milliseconds grace);

  /// The log line of a call that gRPC answered by itself.
  void log_foreign(std::string_view method, const mount::Error& error) const;

 private:
  struct Call {
    const google::protobuf::Message* request;
    std::chrono::steady_clock::time_point begin;
  };
  /// Lists a call while its body runs.
  class Working {
   public:
    Working(const CallEdge& edge, const google::protobuf::Message& request, std::chrono::steady_clock::time_point begin);
    Working(const Working&) = delete;
    Working& operator=(const Working&) = delete;
    ~Working();

   private:
    const CallEdge& edge_;
    std::list<Call>::iterator call_;
  };

  [[nodiscard]] bool draining() const;
  static mount::Error stopping();
  static CallContext call_context(const grpc::ServerContext& context);
  static mount::Error bug(std::string_view what);
  void log_request(const google::protobuf::Message& request) const;
  grpc::Status finish(const google::protobuf::Message& request, const mount::Result<void>& result, Level level,
                      std::chrono::steady_clock::time_point begin) const;

  std::shared_ptr<const mount::Log> log_;
  mutable std::mutex mutex_;
  mutable std::condition_variable ended_;
  mutable int running_ = 0;        ///< under mutex_
  bool draining_ = false;          ///< under mutex_
  mutable std::list<Call> calls_;  ///< under mutex_
};

}  // namespace ordinald::csi
