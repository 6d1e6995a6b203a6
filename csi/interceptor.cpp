#include "csi/interceptor.hpp"

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "csi/status.hpp"

namespace ordinald::csi {
namespace {

using grpc::experimental::InterceptionHookPoints;
using grpc::experimental::InterceptorBatchMethods;
using grpc::experimental::ServerRpcInfo;
using mount::ErrorCode;

class Interceptor final : public grpc::experimental::Interceptor {
 public:
  Interceptor(const CallEdge& edge, AnswerWatch& watch, ServerRpcInfo& info, std::string_view method)
      : edge_(edge), watch_(watch), info_(info), method_(method), running_(edge) {}
  Interceptor(const Interceptor&) = delete;
  Interceptor& operator=(const Interceptor&) = delete;
  ~Interceptor() override { taken(); }

  void Intercept(InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::PRE_SEND_STATUS)) {
      if (const grpc::Status status = methods->GetSendStatus(); !status.ok() && status.error_message().empty()) {
        const auto error = explain(status.error_code());
        edge_.log_foreign(method_, error);
        methods->ModifySendStatus(to_status(error));
      }
      if (!ticket_) {
        ticket_ = watch_.ready(*info_.server_context(), method_);
      }
    }
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::POST_RECV_CLOSE)) {
      taken();  // the call is over, and soon its context is gone
    }
    methods->Proceed();
  }

 private:
  void taken() {
    if (ticket_) {
      watch_.taken(*std::exchange(ticket_, std::nullopt));
    }
  }

  [[nodiscard]] mount::Error explain(grpc::StatusCode code) const {
    if (code == grpc::StatusCode::UNIMPLEMENTED) {
      return mount::make_error(ErrorCode::unimplemented, method_ + " is not served here, and no capability for it is advertised");
    }
    return mount::make_error(ErrorCode::invalid_argument, "the request is not a well-formed message of " + method_);
  }

  const CallEdge& edge_;
  AnswerWatch& watch_;
  ServerRpcInfo& info_;
  const std::string method_;
  std::optional<AnswerWatch::Ticket> ticket_;
  const CallEdge::Running running_;  // gRPC destroys this object when the answer has gone
};

class Factory final : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  Factory(const CallEdge& edge, AnswerWatch& watch) : edge_(edge), watch_(watch) {}

  grpc::experimental::Interceptor* CreateServerInterceptor(ServerRpcInfo* info) override {
    std::string_view method = info->method();  // `/csi.v1.Node/NodeStageVolume`
    method.remove_prefix(method.rfind('/') + 1);
    return new Interceptor(edge_, watch_, *info, method);  // gRPC owns it
  }

 private:
  const CallEdge& edge_;
  AnswerWatch& watch_;
};

}  // namespace

std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> make_interceptor(const CallEdge& edge, AnswerWatch& watch) {
  return std::make_unique<Factory>(edge, watch);
}

}  // namespace ordinald::csi
