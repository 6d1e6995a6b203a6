// The program itself: its socket, its start, its end.
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <thread>

#include "tests/support/rig.hpp"

namespace ordinald::testing {
namespace {

/// A socket at the path with somebody listening, or (`live` false) nobody any more.
int make_socket(const fs::path& path, bool live) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.string().copy(address.sun_path, sizeof(address.sun_path) - 1);
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  REQUIRE(::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0);
  if (live) REQUIRE(::listen(fd, 5) == 0);
  if (live) return fd;
  ::close(fd);
  return -1;
}

const auto ext4 = mount_capability(single_node_writer, "ext4");

}  // namespace

TEST_CASE("daemon: makes the socket, 0600, and no other file beside it", "[daemon][root]") {
  Rig rig({}, false);
  fs::create_directory(rig.root() / "socket");
  rig.agent().configuration()["endpoint"] = "unix://" + (rig.root() / "socket/csi.sock").string();
  rig.agent().start();
  struct stat info{};
  REQUIRE(::stat((rig.root() / "socket/csi.sock").c_str(), &info) == 0);
  CHECK((info.st_mode & 07777) == 0600);
  CHECK(std::distance(fs::directory_iterator(rig.root() / "socket"), {}) == 1);
  rig.agent().stop();
  CHECK(fs::is_empty(rig.root() / "socket"));
}

TEST_CASE("daemon: CSI_ENDPOINT names the socket, in both spellings", "[daemon][root]") {
  const std::string scheme = GENERATE("unix://", "unix:");
  Rig rig({}, false);
  rig.agent().configuration().erase("endpoint");
  const std::string path = rig.root() / "named.sock";
  rig.agent().start({}, {{"CSI_ENDPOINT", scheme + path}});
  CsiClient client("unix://" + path);
  CHECK(outcome(client.call(v1::ProbeRequest())) == OK);
}

TEST_CASE("daemon: a stale socket is replaced, a live one is not", "[daemon][root]") {
  Rig rig({}, false);
  make_socket(rig.agent().socket(), false);
  rig.agent().start();
  CHECK(outcome(rig.call(v1::ProbeRequest())) == OK);
  rig.agent().stop();
  const int listening = make_socket(rig.agent().socket(), true);
  const Ending ending = rig.agent().run_to_end();
  CHECK(ending.exited);
  CHECK(ending.status != 0);
  CHECK_THAT(rig.agent().log(), Catch::Contains(rig.agent().socket().string()));
  CHECK(fs::exists(rig.agent().socket()));
  ::close(listening);
}

TEST_CASE("daemon: a second agent on the same state directory is refused", "[daemon][root]") {
  Rig rig;
  fs::create_directory(rig.root() / "second");
  AgentProcess second(ORDINALD_PROGRAM, rig.root() / "second", {{"stateDir", (rig.root() / "state").string()}});
  const Ending ending = second.run_to_end();
  CHECK(ending.exited);
  CHECK(ending.status != 0);
  CHECK_THAT(second.log(), Catch::Contains((rig.root() / "state").string()));
  CHECK(outcome(rig.call(v1::ProbeRequest())) == OK);
}

TEST_CASE("daemon: SIGTERM ends it with status 0, and mounts stay", "[daemon][root]") {
  Rig rig;
  const LiveVolume volume = bring_up(rig, "v", ext4);
  const Ending ending = rig.agent().stop();
  CHECK(ending.exited);
  CHECK(ending.status == 0);
  CHECK_FALSE(fs::exists(rig.agent().socket()));
  CHECK(try_write(volume.target / "file") == 0);
}

TEST_CASE("daemon: SIGTERM does not wait for a client that is only connected", "[daemon][root]") {
  Rig rig;
  REQUIRE(outcome(rig.call(v1::ProbeRequest())) == OK);
  const Ending ending = rig.agent().stop(std::chrono::seconds(4));
  CHECK(ending.exited);
  CHECK(ending.status == 0);
}

TEST_CASE("daemon: SIGTERM waits for a running call", "[daemon][root]") {
  Rig rig;
  const std::string id = rig.create("v", ext4);
  ToolGate gate("/usr/sbin/mke2fs");
  Outcome staged;
  std::jthread staging([&] { staged = rig.stage(id, ext4, rig.staging("v")); });
  gate.wait_for_one();
  ::kill(rig.agent().pid(), SIGTERM);
  gate.let_one_through();
  staging.join();
  CHECK(staged == OK);
  const Ending ending = rig.agent().stop();
  CHECK(ending.exited);
  CHECK(ending.status == 0);
}

TEST_CASE("daemon: SIGTERM ends it within its deadline, whatever runs", "[daemon][root]") {
  Rig rig(Settings{{"drainSeconds", 1}});
  const std::string id = rig.create("v", ext4);
  ToolGate gate("/usr/sbin/mke2fs");
  Outcome staged;
  std::jthread staging([&] { staged = rig.stage(id, ext4, rig.staging("v")); });
  gate.wait_for_one();
  rig.agent().stop(std::chrono::seconds(5));
  staging.join();
  CHECK_FALSE(staged == OK);
  gate.let_one_through();
}

TEST_CASE("daemon: a bad configuration is refused with the key's path and status 2", "[daemon][root]") {
  Rig rig({}, false);
  std::string key;
  SECTION("an unknown key") {
    key = "colour";
    rig.agent().configuration()[key] = "red";
  }
  SECTION("a wrong type") {
    key = "controllerExpansion";
    rig.agent().configuration()[key] = "yes";
  }
  SECTION("a bad value within a list") {
    key = "pools[0].directory";
    rig.agent().configuration()["pools"][0]["directory"] = "images";
  }
  const Ending ending = rig.agent().run_to_end();
  CHECK(ending.exited);
  CHECK(ending.status == 2);
  CHECK_THAT(rig.agent().log(), Catch::Contains(key));
  const Ending checked = rig.agent().run_to_end({"--check-config"});
  CHECK(checked.exited);
  CHECK(checked.status == 2);
}

TEST_CASE("daemon: a second agent with other directories of its own is kept off another's pool", "[daemon][root]") {
  Rig first;
  const std::string id = first.create("v", ext4);
  REQUIRE(first.stage(id, ext4, first.staging("v")) == OK);
  const auto images = [&] { return std::distance(fs::directory_iterator{first.pool()}, fs::directory_iterator{}); };
  Rig second({}, false);
  second.agent().configuration()["pools"].push_back({{"name", "shared"}, {"directory", first.pool().string()}});
  const Ending ending = second.agent().run_to_end();
  CHECK(ending.exited);
  CHECK(ending.status == 1);
  CHECK_THAT(second.agent().log(), Catch::Contains("pools[1].directory") && Catch::Contains(first.pool().string()) &&
                                       Catch::Contains("process " + std::to_string(first.agent().pid()) + " (" + ORDINALD_PROGRAM));
  CHECK(images() == 1);

  // A killed agent's lock is gone with it; its successor has no trouble, and neither has whoever comes when it has ended.
  first.crash();
  CHECK(first.stage(id, ext4, first.staging("v")) == OK);
  CHECK(first.unstage(id, first.staging("v")) == OK);
  CHECK_FALSE(second.agent().run_to_end().status == 0);
  first.agent().stop();
  second.agent().start();
  CHECK(images() == 1);
}

TEST_CASE("daemon: --check-config and --version do only that", "[daemon][root]") {
  Rig rig({}, false);
  Ending ending = rig.agent().run_to_end({"--check-config"});
  CHECK(ending.exited);
  CHECK(ending.status == 0);
  ending = rig.agent().run_to_end({"--version"});
  CHECK(ending.status == 0);
  CHECK_FALSE(fs::exists(rig.agent().socket()));
  CHECK_FALSE(fs::exists(rig.root() / "state"));
}

TEST_CASE("daemon: flags are laid over the configuration", "[daemon][root]") {
  Rig rig({}, false);
  rig.agent().start({"--node-id", "from-flag", "--log-format", "json", "--log-level", "info"});
  CHECK(rig.call(v1::NodeGetInfoRequest())->node_id() == "from-flag");
  rig.create("v", ext4);
  const std::string log = rig.agent().log();
  std::size_t lines = 0;
  for (std::size_t at = 0; at < log.size();) {
    const std::size_t end = std::min(log.find('\n', at), log.size());
    INFO(log.substr(at, end - at));
    CHECK(nlohmann::json::accept(log.substr(at, end - at)));
    at = end + 1;
    ++lines;
  }
  CHECK(lines > 0);
  CHECK_THAT(log, Catch::Contains("CreateVolume"));
}

TEST_CASE("daemon: one line an operation, with method, volume, result and milliseconds", "[daemon][root]") {
  Rig rig(Settings{{"logLevel", "info"}});
  const std::string id = rig.create("v", ext4);
  rig.stage(id, ext4, rig.staging("v"));
  rig.publish(id, ext4, rig.root() / "nothing", rig.target("pod"));
  const std::string log = rig.agent().log();
  const auto line_with = [&](const std::string& word) {
    const std::size_t at = log.find(word);
    if (at == std::string::npos) return std::string();
    const std::size_t begin = log.rfind('\n', at) + 1;
    return log.substr(begin, log.find('\n', at) - begin);
  };
  CHECK_THAT(line_with("NodeStageVolume"), Catch::Contains(id) && Catch::Contains("result=ok") && Catch::Contains("ms="));
  CHECK_THAT(line_with("NodePublishVolume"), Catch::Contains(id) && Catch::Contains("result=failed_precondition"));
}

}  // namespace ordinald::testing
