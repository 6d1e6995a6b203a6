#include "csi/interceptor.hpp"

#include <string>
#include <string_view>

#include "csi/status.hpp"

namespace ordinald::csi {
namespace {

using grpc::experimental::InterceptionHookPoints;
using grpc::experimental::InterceptorBatchMethods;
using grpc::experimental::ServerRpcInfo;
using mount::ErrorCode;

class Interceptor final : public grpc::experimental::Interceptor {
 public:
  Interceptor(const CallEdge& edge, std::string_view method) : edge_(edge), method_(method), running_(edge) {}

  void Intercept(InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::PRE_SEND_STATUS)) {
      if (const grpc::Status status = methods->GetSendStatus(); !status.ok() && status.error_message().empty()) {
        const auto error = explain(status.error_code());
        edge_.log_foreign(method_, error);
        methods->ModifySendStatus(to_status(error));
      }
    }
    methods->Proceed();
  }

 private:
  [[nodiscard]] mount::Error explain(grpc::StatusCode code) const {
    if (code == grpc::StatusCode::UNIMPLEMENTED) {
      return mount::make_error(ErrorCode::unimplemented, method_ + " is not served here, and no capability for it is advertised");
    }
    return mount::make_error(ErrorCode::invalid_argument, "the request is not a well-formed message of " + method_);
  }

  const CallEdge& edge_;
  const std::string method_;
  const CallEdge::Running running_;  // gRPC destroys this object when the answer has gone
};

class Factory final : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  explicit Factory(const CallEdge& edge) : edge_(edge) {}

  grpc::experimental::Interceptor* CreateServerInterceptor(ServerRpcInfo* info) override {
    std::string_view method = info->method();  // `/csi.v1.Node/NodeStageVolume`
    method.remove_prefix(method.rfind('/') + 1);
    return new Interceptor(edge_, method);  // gRPC owns it
  }

 private:
  const CallEdge& edge_;
};

}  // namespace

std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> make_interceptor(const CallEdge& edge) {
  return std::make_unique<Factory>(edge);
}

}  // namespace ordinald::csi
