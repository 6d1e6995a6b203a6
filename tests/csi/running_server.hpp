#pragma once

#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/security/credentials.h>

#include <future>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>

#include "csi.grpc.pb.h"
#include "csi/server.hpp"
#include "tests/csi/fake_volume_ops.hpp"
#include "tests/support/logs.hpp"
#include "tests/support/temp.hpp"

namespace ordinald::csi {

namespace v1 = ::csi::v1;

/// A logger into memory, `<level> <message>` a line.
class MemoryLog {
 public:
  explicit MemoryLog(mount::LogLevel level = mount::LogLevel::trace) : logger_(testing::log_into(text_, level)) {}
  [[nodiscard]] const std::shared_ptr<const mount::Log>& logger() const { return logger_; }
  /// What was written so far; only while nothing writes.
  [[nodiscard]] std::string text() const { return text_.str(); }

 private:
  std::ostringstream text_;
  std::shared_ptr<const mount::Log> logger_;
};

/// The services over a fake port, on a real socket, with clients.
struct RunningServer {
  /// `options`: but for endpoint and plugin.
  explicit RunningServer(const PluginInfo& plugin = {}, mount::LogLevel level = mount::LogLevel::trace, ServerOptions options = {})
      : log(level) {
    options.endpoint = endpoint();
    options.plugin = plugin;
    auto started = Server::start(options, ops, log.logger());
    if (!started) {
      throw std::runtime_error{started.error().message};
    }
    server = std::move(started).value();
    channel = own_connection();
    identity = v1::Identity::NewStub(channel);
    node = v1::Node::NewStub(channel);
    controller = v1::Controller::NewStub(channel);
  }

  [[nodiscard]] std::string endpoint() const { return "unix://" + (dir.path() / "csi.sock").string(); }

  /// One more client, over a connection of its own.
  [[nodiscard]] std::shared_ptr<grpc::Channel> own_connection() const {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return grpc::CreateCustomChannel(endpoint(), grpc::InsecureChannelCredentials(), arguments);
  }

  testing::TempDir dir{"csi"};
  FakeVolumeOps ops;
  MemoryLog log;
  std::unique_ptr<Server> server;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<v1::Identity::Stub> identity;
  std::unique_ptr<v1::Node::Stub> node;
  std::unique_ptr<v1::Controller::Stub> controller;
};

/// Sends the bytes to the method (`/csi.v1.Node/NodeStageVolume`) as they are.
inline grpc::Status raw_call(const std::shared_ptr<grpc::Channel>& channel, const std::string& method, const std::string& bytes) {
  const grpc::Slice slice{bytes};
  const grpc::ByteBuffer request{&slice, 1};
  grpc::ByteBuffer response;
  grpc::ClientContext context;
  std::promise<grpc::Status> done;
  grpc::GenericStub stub{channel};
  stub.UnaryCall(&context, method, {}, &request, &response, [&](grpc::Status status) { done.set_value(std::move(status)); });
  return done.get_future().get();
}

}  // namespace ordinald::csi
