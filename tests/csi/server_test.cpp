// The socket and its file, starting and stopping.
#include "csi/server.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "csi/listener.hpp"
#include "tests/csi/running_server.hpp"

using namespace ordinald;
using namespace ordinald::csi;
using grpc::ClientContext;
using grpc::StatusCode;
using mount::ErrorCode;

namespace {

mount::Result<std::unique_ptr<Server>> start(const std::string& endpoint, FakeVolumeOps& ops, const MemoryLog& log) {
  return Server::start({.endpoint = endpoint, .plugin = {}}, ops, log.logger());
}

/// Whether a new connection is served.
bool serves(const std::string& endpoint) {
  grpc::ChannelArguments own_connection;
  own_connection.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  const auto channel = grpc::CreateCustomChannel(endpoint, grpc::InsecureChannelCredentials(), own_connection);
  v1::ProbeResponse response;
  ClientContext context;
  return v1::Identity::NewStub(channel)->Probe(&context, {}, &response).ok();
}

/// A socket file as a process leaves it that listens no more; `listening` keeps the descriptor open.
int make_socket(const std::string& path, bool listening, int type = SOCK_STREAM) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  const int fd = ::socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
  REQUIRE(::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  if (listening) {
    REQUIRE(::listen(fd, 1) == 0);
    return fd;
  }
  ::close(fd);
  return -1;
}

std::vector<std::string> files_in(const std::filesystem::path& directory) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator{directory}) {
    names.push_back(entry.path().filename());
  }
  return names;
}

v1::NodeUnpublishVolumeRequest unpublish_request() {
  v1::NodeUnpublishVolumeRequest request;
  request.set_volume_id("v-1");
  request.set_target_path("/target");
  return request;
}

/// A gate that calls wait at.
class Gate {
 public:
  void wait() {
    std::unique_lock lock{mutex_};
    ++waiting_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return open_; });
    --waiting_;
  }
  void await_waiting(int count) {
    std::unique_lock lock{mutex_};
    changed_.wait(lock, [&] { return waiting_ >= count; });
  }
  void open() {
    const std::lock_guard lock{mutex_};
    open_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int waiting_ = 0;
  bool open_ = false;
};

}  // namespace

TEST_CASE("endpoints: unix:///path and unix:/path, and clear words for the rest", "[csi][server]") {
  CHECK(parse_endpoint("unix:///run/csi.sock").value() == "/run/csi.sock");
  CHECK(parse_endpoint("unix:/run/csi.sock").value() == "/run/csi.sock");
  const std::string longest = "/" + std::string(106, 'p');
  CHECK(parse_endpoint("unix://" + longest).value() == longest);
  for (const std::string& bad :
       {std::string{}, std::string{"unix:"}, std::string{"unix://"}, std::string{"unix://relative"}, std::string{"unix:relative"},
        std::string{"/run/csi.sock"}, std::string{"tcp://1.2.3.4:5"}, std::string{"unix-abstract:x"}, std::string{"unix:///run/"},
        std::string{"unix:///a\0b", 11}, "unix://" + longest + "p"}) {
    CAPTURE(bad);
    const auto result = parse_endpoint(bad);
    REQUIRE_FALSE(result);
    CHECK(result.error().code == ErrorCode::invalid_argument);
    CHECK_THAT(result.error().message, Catch::Matchers::StartsWith("the endpoint"));
  }
}

TEST_CASE("the socket is 0600 under every umask, and is the only file", "[csi][server]") {
  const mode_t before = ::umask(GENERATE(0U, 022U, 077U));
  {
    RunningServer server;
    struct stat info{};
    REQUIRE(::lstat(server.server->path().c_str(), &info) == 0);
    CHECK(S_ISSOCK(info.st_mode));
    CHECK((info.st_mode & 07777) == 0600);
    CHECK(serves(server.endpoint()));
    CHECK(files_in(server.dir.path()) == std::vector<std::string>{"csi.sock"});
    REQUIRE(server.server->shutdown(std::chrono::seconds{5}));
    CHECK(files_in(server.dir.path()).empty());
  }
  ::umask(before);
}

TEST_CASE("both forms of the endpoint serve", "[csi][server]") {
  const testing::TempDir dir{"csi"};
  FakeVolumeOps ops;
  const MemoryLog log;
  const auto server = start("unix:" + (dir.path() / "csi.sock").string(), ops, log);
  REQUIRE(server);
  CHECK(serves("unix://" + (dir.path() / "csi.sock").string()));
}

TEST_CASE("a stale socket is replaced", "[csi][server]") {
  const testing::TempDir dir{"csi"};
  const std::string path = (dir.path() / "csi.sock").string();
  make_socket(path, false);
  FakeVolumeOps ops;
  const MemoryLog log;
  const auto server = start("unix://" + path, ops, log);
  REQUIRE(server);
  CHECK(serves("unix://" + path));
}

TEST_CASE("a live socket is refused and left alone", "[csi][server]") {
  const testing::TempDir dir{"csi"};
  const std::string path = (dir.path() / "csi.sock").string();
  FakeVolumeOps ops;
  const MemoryLog log;
  const auto first = start("unix://" + path, ops, log);
  REQUIRE(first);
  const auto second = start("unix://" + path, ops, log);
  REQUIRE_FALSE(second);
  CHECK(second.error().code == ErrorCode::failed_precondition);
  CHECK_THAT(second.error().message, Catch::Matchers::Contains("another process listens on " + path));
  CHECK(serves("unix://" + path));
}

TEST_CASE("a live socket whose backlog is full, or of another type, is refused too", "[csi][server]") {
  const testing::TempDir dir{"csi"};
  const std::string path = (dir.path() / "csi.sock").string();
  FakeVolumeOps ops;
  const MemoryLog log;
  const int live = make_socket(path, true);
  std::vector<int> queued;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  while (true) {
    queued.push_back(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (::connect(queued.back(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
      break;
    }
  }
  const auto full = start("unix://" + path, ops, log);
  REQUIRE_FALSE(full);
  CHECK(full.error().code == ErrorCode::failed_precondition);
  CHECK(std::filesystem::exists(path));
  for (const int fd : queued) {
    ::close(fd);
  }
  ::close(live);
  std::filesystem::remove(path);

  sockaddr_un datagram_address = address;
  const int datagram = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  REQUIRE(::bind(datagram, reinterpret_cast<const sockaddr*>(&datagram_address), sizeof datagram_address) == 0);
  const auto other = start("unix://" + path, ops, log);
  REQUIRE_FALSE(other);
  CHECK(other.error().code == ErrorCode::failed_precondition);
  ::close(datagram);
}

TEST_CASE("what is no socket is refused and left alone", "[csi][server]") {
  const testing::TempDir dir{"csi"};
  const std::string path = (dir.path() / "csi.sock").string();
  FakeVolumeOps ops;
  const MemoryLog log;
  const auto refused = [&] {
    const auto server = start("unix://" + path, ops, log);
    REQUIRE_FALSE(server);
    CHECK(server.error().code == ErrorCode::failed_precondition);
    CHECK_THAT(server.error().message, Catch::Matchers::Contains("is not a socket"));
    CHECK(std::filesystem::exists(std::filesystem::symlink_status(path)));
    std::filesystem::remove(path);
  };
  ::close(::open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  refused();
  std::filesystem::create_directory(path);
  refused();
  std::filesystem::create_symlink("elsewhere", path);
  refused();
}

TEST_CASE("a missing directory is named", "[csi][server]") {
  FakeVolumeOps ops;
  const MemoryLog log;
  const auto server = start("unix:///nowhere/at/all/csi.sock", ops, log);
  REQUIRE_FALSE(server);
  CHECK_THAT(server.error().message, Catch::Matchers::Contains("/nowhere/at/all/csi.sock") && Catch::Matchers::Contains("ENOENT"));
}

TEST_CASE("only our own file is removed at the end", "[csi][server]") {
  RunningServer server;
  const std::string path = server.server->path();
  std::filesystem::remove(path);
  make_socket(path, false);
  REQUIRE(server.server->shutdown(std::chrono::seconds{5}));
  CHECK(std::filesystem::exists(path));
}

TEST_CASE("shutdown waits for running calls, takes no new ones, and may be repeated", "[csi][server]") {
  RunningServer server;
  Gate gate;
  server.ops.hook = [&](const std::string& verb) -> Result<void> {
    if (verb == "unpublish") {
      gate.wait();
    }
    return mount::success();
  };
  std::atomic<bool> answered{false};
  std::thread caller{[&] {
    v1::NodeUnpublishVolumeResponse response;
    ClientContext context;
    answered = server.node->NodeUnpublishVolume(&context, unpublish_request(), &response).ok();
  }};
  gate.await_waiting(1);
  std::thread stopper{[&] { CHECK(server.server->shutdown(std::chrono::seconds{30})); }};
  while (std::filesystem::exists(server.server->path())) {
    std::this_thread::yield();
  }
  CHECK_FALSE(serves(server.endpoint()));
  StatusCode code = StatusCode::OK;
  while (code == StatusCode::OK) {  // until the refusal has begun, on the connection that is there already
    v1::ProbeResponse probe;
    ClientContext context;
    code = server.identity->Probe(&context, {}, &probe).error_code();
  }
  CHECK(code == StatusCode::UNAVAILABLE);
  gate.open();
  stopper.join();
  caller.join();
  CHECK(answered);
  CHECK(server.server->shutdown(std::chrono::milliseconds{0}));
}

TEST_CASE("a connection without a call delays no shutdown", "[csi][server]") {
  RunningServer server;
  v1::ProbeResponse response;
  ClientContext context;
  REQUIRE(server.identity->Probe(&context, {}, &response).ok());
  const auto begin = std::chrono::steady_clock::now();
  CHECK(server.server->shutdown(std::chrono::seconds{30}));
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds{3});
}

TEST_CASE("shutdown ends in time although a call hangs", "[csi][server]") {
  RunningServer server;
  Gate gate;
  server.ops.hook = [&](const std::string&) -> Result<void> {
    gate.wait();
    return mount::success();
  };
  StatusCode code = StatusCode::OK;
  std::thread caller{[&] {
    v1::NodeUnpublishVolumeResponse response;
    ClientContext context;
    code = server.node->NodeUnpublishVolume(&context, unpublish_request(), &response).error_code();
  }};
  gate.await_waiting(1);
  const auto begin = std::chrono::steady_clock::now();
  CHECK_FALSE(server.server->shutdown(std::chrono::milliseconds{50}));
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds{5});
  caller.join();  // told, although the work goes on
  CHECK(code != StatusCode::OK);
  gate.open();
  CHECK(server.server->shutdown(std::chrono::seconds{5}));
}

TEST_CASE("calls run beside one another up to max_threads, half of them of one client, and one more is told so", "[csi][server]") {
  constexpr int most = 8;
  ServerOptions options;
  options.max_threads = most;
  RunningServer server{{}, mount::LogLevel::trace, options};
  Gate gate;
  server.ops.hook = [&](const std::string& verb) -> Result<void> {
    if (verb == "unpublish") {
      gate.wait();
    }
    return mount::success();
  };
  std::vector<std::thread> callers;
  std::atomic<int> good{0};
  const auto second = v1::Node::NewStub(server.own_connection());
  const auto third = v1::Identity::NewStub(server.own_connection());
  const auto call_by = [&](v1::Node::Stub& stub) {
    callers.emplace_back([&] {
      v1::NodeUnpublishVolumeResponse response;
      ClientContext context;
      good += stub.NodeUnpublishVolume(&context, unpublish_request(), &response).ok() ? 1 : 0;
    });
  };
  for (int i = 0; i < most; ++i) {
    call_by(*server.node);  // the second half of these waits at the client
  }
  gate.await_waiting(most / 2);
  for (int i = 0; i < most / 2; ++i) {
    call_by(*second);
  }
  gate.await_waiting(most);
  v1::ProbeResponse probe;
  ClientContext context;
  const auto status = third->Probe(&context, {}, &probe);
  CHECK(status.error_code() == StatusCode::RESOURCE_EXHAUSTED);
  CHECK_FALSE(status.error_message().empty());
  gate.open();
  for (auto& caller : callers) {
    caller.join();
  }
  CHECK(good == most + most / 2);
  ClientContext again;
  CHECK(third->Probe(&again, {}, &probe).ok());
}
