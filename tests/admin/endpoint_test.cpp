// The admin socket: its file, and clients that behave badly.
#include <sys/stat.h>
#include <sys/un.h>

#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <thread>
#include <vector>

#include "tests/admin/admin_http.hpp"
#include "tests/support/rig.hpp"

namespace ordinald::testing {
namespace {

fs::path socket_of(const Rig& rig) { return rig.root() / "run/admin.sock"; }

}  // namespace

TEST_CASE("admin socket: 0600 beneath the run directory, replaced when stale, refused when alive, and none on request", "[admin][root]") {
  Rig rig;
  const fs::path socket = socket_of(rig);
  struct stat info{};
  REQUIRE(::stat(socket.c_str(), &info) == 0);
  CHECK((info.st_mode & 07777) == 0600);
  CHECK(admin_get(socket, "/v1/status").status == 200);
  rig.crash();  // its file was left behind
  CHECK(admin_get(socket, "/v1/status").status == 200);

  AgentProcess second(ORDINALD_PROGRAM, rig.root() / "second", nlohmann::json{{"adminSocket", socket.string()}});
  const Ending ending = second.run_to_end();
  CHECK(ending.exited);
  CHECK(ending.status != 0);
  CHECK_THAT(second.log(), Catch::Contains("the admin socket") && Catch::Contains("another process listens on " + socket.string()));
  CHECK(admin_get(socket, "/v1/status").status == 200);  // its owner's still

  REQUIRE(rig.agent().stop().status == 0);
  CHECK_FALSE(fs::exists(socket));
  rig.agent().configuration()["adminSocket"] = "";
  rig.agent().start();
  CHECK_FALSE(fs::exists(socket));
}

TEST_CASE("admin socket: what is no request is refused or ended, and harms nobody", "[admin][root]") {
  Rig rig;
  const fs::path socket = socket_of(rig);
  const auto said = [&](const std::string& bytes) {
    RawClient client(socket);
    client.send(bytes);
    return parse_reply(client.read_all()).status;
  };
  CHECK(said("nonsense\r\n\r\n") == 400);
  CHECK(said(std::string("\x16\x03\x01\x02\x00\x01", 6) + std::string(64, '\0') + "\r\n\r\n") == 400);
  CHECK(said("GET /v1/status HTTP/9.9\r\n\r\n") == 400);
  CHECK(said("GET /v1/status HTTP/1.1\r\nContent-Length: -5\r\n\r\n") == 400);
  CHECK(said("GET /v1/status HTTP/1.1\r\nX: " + std::string(20 << 10, 'x') + "\r\n\r\n") == 431);
  CHECK(said("POST /v1/orphans/repair HTTP/1.1\r\nContent-Length: 70000\r\n\r\n" + std::string(1000, 'x')) == 413);
  CHECK(said("DELETE /v1/volumes HTTP/1.1\r\n\r\n") == 405);
  CHECK(said("GET / HTTP/1.1\r\n\r\n") == 404);
  CHECK(said("GET /v1/ HTTP/1.1\r\n\r\n") == 404);
  CHECK(said("GET /v1/nothing HTTP/1.1\r\n\r\n") == 404);
  CHECK(said("GET /v1/volumes/%zz HTTP/1.1\r\n\r\n") == 404);
  CHECK(said("GET /v1/volumes/none HTTP/1.1\r\n\r\n") == 404);
  CHECK(said("GET /v1/volumes/..%2f..%2fetc HTTP/1.1\r\n\r\n") == 404);
  CHECK(said("GET /v1/status?x=1 HTTP/1.0\r\n\r\n") == 200);
  // One that asks and goes at once.
  for (int i = 0; i < 50; ++i) {
    RawClient client(socket);
    client.send("GET /v1/volumes HTTP/1.1\r\n\r\n");
  }
  CHECK(said("GET /v1/status HTTP/1.1\r\n\r\n") == 200);
}

TEST_CASE("admin socket: silent clients are let go after a while, others are answered meanwhile, and many at once are", "[admin][root]") {
  Rig rig;
  const fs::path socket = socket_of(rig);
  std::vector<std::unique_ptr<RawClient>> silent;
  for (int i = 0; i < 40; ++i) {
    silent.push_back(std::make_unique<RawClient>(socket));
    silent.back()->send(i % 2 == 0 ? "" : "GET /v1/sta");
  }
  RawClient slow(socket);
  slow.send("GET /v1/status HT");
  const auto begin = std::chrono::steady_clock::now();
  CHECK(admin_get(socket, "/v1/status").status == 200);
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(3));

  std::atomic<int> answered = 0;
  std::vector<std::thread> clients;
  for (int i = 0; i < 100; ++i) {
    clients.emplace_back([&] {
      try {
        answered += admin_get(socket, "/v1/volumes").status == 200 ? 1 : 0;
      } catch (const std::exception&) {  // counted as not answered
      }
    });
  }
  for (std::thread& client : clients) client.join();
  CHECK(answered == 100);
  // As ordinalctl on a node where nobody gets the processor for a while.
  std::this_thread::sleep_until(begin + std::chrono::seconds(7));
  slow.send("TP/1.1\r\n\r\n");
  CHECK(parse_reply(slow.read_all()).status == 200);
  for (const auto& client : silent) {  // within their time
    const auto reply = parse_reply(client->read_all());
    CHECK(reply.status == 408);
    CHECK_THAT(reply.message(), Catch::Matchers::Contains("not there whole within 20 s"));
  }
  CHECK(rig.stage(rig.create("a", mount_capability(single_node_single_writer, "ext4")), mount_capability(single_node_single_writer, "ext4"),
                  rig.staging("a")) == OK);
}

TEST_CASE("admin socket: an agent that ends lets a silent client go at once", "[admin][root]") {
  Rig rig;
  RawClient silent(socket_of(rig));
  RawClient half(socket_of(rig));
  half.send("POST /v1/orphans/repair HTTP/1.1\r\nContent-Length: 100\r\n\r\n{");
  CHECK(admin_get(socket_of(rig), "/v1/status").status == 200);
  const auto begin = std::chrono::steady_clock::now();
  CHECK(rig.agent().stop().status == 0);
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(3));
  CHECK(silent.read_all() == "");
  CHECK(half.read_all() == "");
}

}  // namespace ordinald::testing
