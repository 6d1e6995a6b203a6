#include "csi/call_edge.hpp"

#include <fmt/core.h>
#include <google/protobuf/descriptor.h>
#include <grpc/support/time.h>

#include "csi/redact.hpp"
#include "csi/status.hpp"

namespace ordinald::csi {
namespace {

using google::protobuf::Message;

/// `NodeStageVolume` of a NodeStageVolumeRequest.
std::string_view method_of(const Message& request) {
  std::string_view name = request.GetDescriptor()->name();
  constexpr std::string_view suffix = "Request";
  if (name.ends_with(suffix)) {
    name.remove_suffix(suffix.size());
  }
  return name;
}

/// ` volume="…"`: the id, or the name that one is asked for; nothing for calls about no one volume.
std::string volume_of(const Message& request) {
  const auto& descriptor = *request.GetDescriptor();
  const auto* field = descriptor.FindFieldByName("volume_id");
  field = field != nullptr ? field : descriptor.FindFieldByName("name");
  if (field == nullptr) {
    return {};
  }
  std::string scratch;
  return " volume=" + quote(request.GetReflection()->GetStringReference(request, field, &scratch));
}

CallEdge::Level level_of(const mount::Error& error) {
  return error.code == mount::ErrorCode::internal ? CallEdge::Level::error : CallEdge::Level::warn;
}

}  // namespace

CallEdge::Running::Running(const CallEdge& edge) : edge_(edge) {
  const std::lock_guard lock{edge_.mutex_};
  ++edge_.running_;
}

CallEdge::Running::~Running() {
  const std::lock_guard lock{edge_.mutex_};
  --edge_.running_;
  edge_.ended_.notify_all();
}

CallEdge::Working::Working(const CallEdge& edge, const Message& request, std::chrono::steady_clock::time_point begin) : edge_(edge) {
  const std::lock_guard lock{edge_.mutex_};
  call_ = edge_.calls_.insert(edge_.calls_.end(), Call{.request = &request, .begin = begin});
}

CallEdge::Working::~Working() {
  const std::lock_guard lock{edge_.mutex_};
  edge_.calls_.erase(call_);
}

std::vector<std::string> CallEdge::working() const {
  const auto now = std::chrono::steady_clock::now();
  std::vector<std::string> texts;
  const std::lock_guard lock{mutex_};
  for (const Call& call : calls_) {
    const std::chrono::duration<double> lasts = now - call.begin;
    texts.push_back(fmt::format("{}{} for {:.1f} s", method_of(*call.request), volume_of(*call.request), lasts.count()));
  }
  return texts;
}

bool CallEdge::draining() const {
  const std::lock_guard lock{mutex_};
  return draining_;
}

void CallEdge::drain(std::chrono::milliseconds grace) {
  std::unique_lock lock{mutex_};
  draining_ = true;
  (void)ended_.wait_for(lock, grace, [this] { return running_ == 0; });
}

mount::Error CallEdge::stopping() {
  return mount::make_error(mount::ErrorCode::unavailable, "the agent is stopping; call again when it is back");
}

CallContext CallEdge::call_context(const grpc::ServerContext& context) {
  const auto given_up = [&context] { return context.IsCancelled(); };
  const gpr_timespec deadline = context.raw_deadline();
  const gpr_timespec left = gpr_time_sub(deadline, gpr_now(deadline.clock_type));  // keeps an infinite one infinite
  // A client may name a deadline millions of hours away; what is a year away is none.
  constexpr std::int64_t year = 365LL * 24 * 3600;
  if (left.tv_sec > year) {
    return {.deadline = {}, .given_up = given_up};
  }
  return {.deadline = std::chrono::steady_clock::now() + std::chrono::seconds{left.tv_sec} + std::chrono::nanoseconds{left.tv_nsec},
          .given_up = given_up};
}

mount::Error CallEdge::bug(std::string_view what) { return mount::make_error(mount::ErrorCode::internal, "bug: " + std::string{what}); }

void CallEdge::log_request(const Message& request) const {
  if (log_->writes(Level::debug)) {
    log_->debug("{} request {}", method_of(request), redact(request));
  }
}

grpc::Status CallEdge::finish(const Message& request, const mount::Result<void>& result, Level level,
                              std::chrono::steady_clock::time_point begin) const {
  const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - begin;
  if (result) {
    log_->write(level, "{}{} result=ok ms={:.1f}", method_of(request), volume_of(request), took.count());
    return grpc::Status::OK;
  }
  const auto& error = result.error();
  log_->write(level_of(error), "{}{} result={} ms={:.1f} error=\"{}\"", method_of(request), volume_of(request),
              mount::to_string(error.code), took.count(), one_line(error.message, 16384));
  return to_status(error);
}

void CallEdge::log_foreign(std::string_view method, const mount::Error& error) const {
  log_->write(level_of(error), "{} result={} error=\"{}\"", method, mount::to_string(error.code), one_line(error.message));
}

}  // namespace ordinald::csi
