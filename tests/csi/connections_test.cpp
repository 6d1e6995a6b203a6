// Clients that behave badly: what they can take is bounded, and the others are served.
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "tests/csi/running_server.hpp"
#include "tests/support/raw_connection.hpp"

using namespace ordinald;
using namespace ordinald::csi;
using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::http2_call;
using testing::http2_greeting;
using testing::http2_ping;
using testing::http2_pong;
using testing::RawConnection;
using Clock = std::chrono::steady_clock;

namespace {

constexpr int patience_ms = 20'000;
const std::string list = "/csi.v1.Controller/ListVolumes";

/// A server with these limits.
struct Limited : RunningServer {
  explicit Limited(const Connections::Limits& limits) : RunningServer({}, mount::LogLevel::trace, with(limits)) {}
  static ServerOptions with(const Connections::Limits& limits) {
    ServerOptions options;
    options.connections = limits;
    return options;
  }
};

/// A connection that gRPC serves.
bool is_served(RawConnection& connection) {
  connection.send(http2_ping());
  return connection.read_until(http2_pong(), patience_ms);
}

std::unique_ptr<RawConnection> greeted(const RunningServer& server) {
  auto connection = std::make_unique<RawConnection>(server.server->path());
  connection->send(http2_greeting());
  return connection;
}

/// Whether one more connection is served; the server learns a moment later that others have hung up.
bool soon_served(const RunningServer& server) {
  const auto until = Clock::now() + milliseconds{patience_ms};
  bool served = false;
  while (!served && Clock::now() < until) served = is_served(*greeted(server));
  return served;
}

}  // namespace

TEST_CASE("who says nothing is closed, and who was served stays silent for as long as it likes", "[csi][server]") {
  Limited server{{.greeting = milliseconds{200}}};
  const auto served = greeted(server);
  REQUIRE(is_served(*served));
  const auto begin = Clock::now();
  const RawConnection silent{server.server->path()};
  RawConnection half{server.server->path()};
  half.send(http2_greeting().substr(0, 10));
  CHECK(silent.hung_up(patience_ms));
  CHECK(half.hung_up(patience_ms));
  CHECK(Clock::now() - begin >= milliseconds{200});
  CHECK(Clock::now() - begin < seconds{10});
  CHECK(is_served(*served));
}

TEST_CASE("who hangs up amid the greeting is let go at once", "[csi][server]") {
  const std::size_t bytes = GENERATE(as<std::size_t>{}, 0, 1, 23);
  Limited server{{.most = 16, .greeting = hours{1}}};
  {
    std::vector<std::unique_ptr<RawConnection>> mine;  // as many as one process gets, and all accepted
    for (int i = 0; i < 8; ++i) {
      mine.push_back(std::make_unique<RawConnection>(server.server->path()));
      mine.back()->send(http2_greeting().substr(0, bytes));
    }
    CHECK(greeted(server)->hung_up(patience_ms));
  }
  CHECK(soon_served(server));
}

TEST_CASE("a greeting may come in pieces", "[csi][server]") {
  Limited server{{.greeting = hours{1}}};
  RawConnection slow{server.server->path()};
  for (const char byte : http2_greeting()) slow.send(std::string(1, byte));
  CHECK(is_served(slow));
}

TEST_CASE("who speaks no HTTP/2 is closed at once, and told of once", "[csi][server]") {
  {
    Limited server{{.greeting = hours{1}}};
    for (int i = 0; i < 20; ++i) {
      RawConnection web{server.server->path()};
      web.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
      CHECK(web.hung_up(patience_ms));
    }
    const RawConnection whole{server.server->path()};  // accepted before it says anything
    v1::ProbeResponse response;
    grpc::ClientContext context;
    CHECK(server.identity->Probe(&context, {}, &response).ok());
    REQUIRE(server.server->shutdown(seconds{5}));
    CHECK(whole.hung_up(patience_ms));
    const std::string log = server.log.text();
    const std::string line = "does not speak HTTP/2";
    const auto first = log.find(line);
    REQUIRE(first != std::string::npos);
    CHECK(log.find(line, first + 1) == std::string::npos);
    CHECK_THAT(log, Catch::Matchers::Contains("process " + std::to_string(::getpid()) + " ("));
  }
}

TEST_CASE("one process gets half of the connections; the others find room; ended ones count no more", "[csi][server]") {
  Limited server{{.most = 16}};
  std::vector<std::unique_ptr<RawConnection>> mine;
  for (int i = 0; i < 8; ++i) {
    mine.push_back(greeted(server));
    REQUIRE(is_served(*mine.back()));
  }
  CHECK(greeted(server)->hung_up(patience_ms));
  const pid_t other = ::fork();
  if (other == 0) {
    const auto theirs = greeted(server);
    ::_exit(is_served(*theirs) ? 0 : 1);
  }
  int status = -1;
  REQUIRE(::waitpid(other, &status, 0) == other);
  CHECK(status == 0);
  mine.pop_back();
  CHECK(soon_served(server));
}

TEST_CASE("who leaves unread what was sent to it is closed", "[csi][server]") {
  Limited server{{.unread = milliseconds{200}}};
  const auto reader = greeted(server);
  REQUIRE(is_served(*reader));
  const auto deaf = greeted(server);
  deaf->send(http2_ping());
  CHECK(deaf->hung_up(patience_ms));
  CHECK(is_served(*reader));
}

TEST_CASE("answers that nobody takes keep no threads", "[csi][server]") {
  ServerOptions options;
  options.max_threads = 8;
  SECTION("one by one") { options.answers = {.patience = milliseconds{200}, .patience_in_crowd = hours{1}, .crowd = 64}; }
  SECTION("in a crowd") { options.answers = {.patience = hours{1}, .patience_in_crowd = milliseconds{200}, .crowd = 6}; }
  RunningServer server{{}, mount::LogLevel::trace, options};
  server.ops.volumes.entries.assign(600, Volume{.id = std::string(120, 'v'), .capacity = 1, .context = {}, .topology = {}});
  // More than 64 KiB for each answer, which is what a client that reads nothing takes.
  std::vector<std::unique_ptr<RawConnection>> deaf;
  for (int i = 0; i < 4; ++i) {
    deaf.push_back(greeted(server));
    for (std::uint32_t stream = 1; stream < 9; stream += 2) deaf.back()->send(http2_call(stream, list));
  }
  const auto until = Clock::now() + seconds{20};
  int in_a_row = 0;
  while (in_a_row < 20 && Clock::now() < until) {
    v1::ProbeResponse response;
    grpc::ClientContext context;
    in_a_row = server.identity->Probe(&context, {}, &response).ok() ? in_a_row + 1 : 0;
  }
  CHECK(in_a_row == 20);
}
