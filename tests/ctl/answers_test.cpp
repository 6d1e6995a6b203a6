// The program against a server that answers as the agent does, and as none would.
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdio>
#include <filesystem>
#include <string>

#include "agent/ctl/admin_client.hpp"
#include "tests/ctl/ctl_program.hpp"
#include "tests/ctl/fake_agent.hpp"
#include "tests/support/temp.hpp"

namespace ordinald::testing {
namespace {

using Catch::Contains;
using nlohmann::json;

struct World {
  TempDir temp{"ctl"};
  FakeAgent agent{(temp.path() / "admin.sock").string()};
  Ctl ctl{agent.path()};
};

const json holder{{"namespace", "prod"}, {"name", "db-0"}, {"uid", "0b8f-1"}, {"text", "prod/db-0 (uid 0b8f-1)"}};

json a_volume() {
  return {
      {"id", "data-db-0-0a1b2c3d"},
      {"name", "pvc-1"},
      {"claim", "prod/data-db-0"},
      {"identity", "ordinal"},
      {"pool", "default"},
      {"size", 1610612736},
      {"fsType", "ext4"},
      {"content", "formatted"},
      {"blockSize", 4096},
      {"state", "published"},
      {"stages", {{{"path", "/stage/1"}, {"mode", "SINGLE_NODE_SINGLE_WRITER"}, {"readOnly", false}, {"since", "2026-01-01T00:00:00Z"}}}},
      {"publications",
       {{{"target", "/pods/0b8f-1/volume"},
         {"mode", "SINGLE_NODE_SINGLE_WRITER"},
         {"readOnly", false},
         {"since", "2026-01-01T00:00:00Z"},
         {"holder", holder}}}},
      {"health", json::array()}};
}

/// How often a text is in another one.
std::size_t occurrences(const std::string& text, const std::string& part) {
  std::size_t number = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++number;
  return number;
}

}  // namespace

TEST_CASE("ctl: no agent, a dead one and a socket that we may not use are told apart, with status 3") {
  const TempDir temp{"ctl"};
  const std::string path = (temp.path() / "admin.sock").string();
  const Ctl ctl{path};
  for (const std::string command : {"status", "volumes", "pools", "orphans"}) {
    const Ran none = ctl({command});
    INFO(none);
    CHECK(none.status == 3);
    CHECK(none.out.empty());
    CHECK_THAT(none.err, Contains(path) && Contains("systemctl status ordinald"));
  }
  CHECK(ctl({"show", "x"}).status == 3);
  CHECK(ctl({"adopt", "/dev/null", "--yes"}).status == 3);

  const int socket = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, path.size());
  REQUIRE(::bind(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  const Ran dead = ctl({"status"});
  ::close(socket);
  CHECK(dead.status == 3);
  CHECK_THAT(dead.err, Contains("nobody listens") && Contains("journalctl"));

  const Ran json_error = ctl({"status", "--output", "json"});
  CHECK(json_error.status == 3);
  CHECK(json_error.out.empty());
  CHECK(json::parse(json_error.err, nullptr, false).at("error").at("message").get<std::string>().find("nobody listens") !=
        std::string::npos);
}

TEST_CASE("ctl: volumes says of what was found mounted that its holder is unknown, and where it is") {
  World world;
  json volume = a_volume();
  volume["publications"] = json::array();
  volume["found"] = {{{"path", "/pods/0b8f-1/volume"}, {"since", "2026-01-01T00:00:00Z"}}};
  world.agent.answer("GET /v1/volumes", {{"volumes", {volume}}});
  const Ran ran = world.ctl({"volumes"});
  INFO(ran);
  CHECK_THAT(ran.out, Contains("unknown") && Contains("/pods/0b8f-1/volume") && !Contains("/stage/1"));
}

TEST_CASE("ctl: explain says of others' processes that they block nothing only where the holder's are known") {
  World world;
  const bool told_apart = GENERATE(false, true);
  const json hold{{"holder", {{"text", "an unnamed workload"}}}, {"target", "/pods/a"}, {"mounted", true}, {"toldApart", told_apart}};
  const json others{{{"pid", 7}, {"command", "postgres"}, {"mountPoint", "/data"}}};
  world.agent.answer("GET /v1/volumes/v/explain", {{"volume", "v"}, {"holds", {hold}}, {"others", others}});
  const Ran explained = world.ctl({"explain", "v"});
  CHECK_THAT(explained.out, Contains("process 7 (postgres)") && Contains(told_apart ? "by others, which blocks nothing" : "can't be told"));
  CHECK((explained.out.find("blocks nothing") != std::string::npos) == told_apart);
  const Ran shown = world.ctl({"release", "v", "--holder", "unknown"});
  CHECK(shown.status == 5);
  CHECK((shown.out.find("process 7 (postgres)") == std::string::npos) == told_apart);
}

TEST_CASE("ctl: orphans says of nothing that a repair takes it away where it does not") {
  World world;
  world.agent.answer("GET /v1/orphans", {{"findings", json::array()}, {"leftovers", {"/pool/a.img: a repair leaves it alone"}}});
  CHECK_THAT(world.ctl({"orphans"}).out, Contains("Left behind, each with what a repair does about it") && !Contains("takes away"));
}

TEST_CASE("ctl: who isn't root is told to use sudo", "[root]") {
  World world;
  ::chmod(world.temp.path().c_str(), 0755);
  ::chmod(world.agent.path().c_str(), 0600);
  const Ran ran = run_program(
      {"/usr/bin/setpriv", "--reuid=65534", "--clear-groups", ORDINALCTL_PROGRAM, "--admin-socket", world.agent.path(), "status"});
  INFO(ran);
  if (ran.status == 126 || ran.status == 127) {
    std::puts("SKIPPED: nobody may not run programs in the build directory");
    return;
  }
  CHECK(ran.status == 3);
  CHECK_THAT(ran.err, Contains("permission denied") && Contains("sudo"));
}

TEST_CASE("ctl: wrong usage is status 2, and asks the agent nothing") {
  World world;
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{{},
                                                                                     {"frobnicate"},
                                                                                     {"show"},
                                                                                     {"show", "a", "b"},
                                                                                     {"status", "--output", "yaml"},
                                                                                     {"volumes", "--interval", "0"},
                                                                                     {"release", "x"},
                                                                                     {"rebind", "x", "no-slash"},
                                                                                     {"rebind", "x", "/claim"},
                                                                                     {"rebind", "x", "a/b/c"},
                                                                                     {"--admin-socket", std::string(200, 'x'), "status"}}) {
    const Ran ran = world.ctl(words);
    INFO(ran);
    CHECK(ran.status == 2);
    CHECK(ran.out.empty());
    CHECK_THAT(ran.err, Catch::StartsWith("ordinalctl: "));
  }
  CHECK(world.agent.requests().empty());
  CHECK(world.ctl({"--help"}).status == 0);
  CHECK(world.ctl({"show", "--help"}).status == 0);
  CHECK(world.ctl({"--version"}).out == "ordinalctl 0.1.0\n");
}

TEST_CASE("ctl: the agent's refusal is status 1 with its words, busy is 4") {
  World world;
  world.agent.answer("GET /v1/volumes/x", {{"error", {{"code", "NOT_FOUND"}, {"message", "there is no volume 'x'"}}}}, 404);
  world.agent.answer("GET /v1/volumes/y", {{"error", {{"code", "ABORTED"}, {"message", "another call runs on y"}}}}, 409);
  const Ran refused = world.ctl({"show", "x"});
  CHECK(refused.status == 1);
  CHECK(refused.err == "ordinalctl: there is no volume 'x'\n");
  CHECK(world.ctl({"show", "y"}).status == 4);
  const Ran in_json = world.ctl({"show", "x", "--output", "json"});
  CHECK(in_json.status == 1);
  CHECK(json::parse(in_json.err) == json{{"error", {{"code", "NOT_FOUND"}, {"message", "there is no volume 'x'"}}}});
}

TEST_CASE("ctl: an agent that does not answer is given up in time, and the message says that it may be stuck") {
  World world;
  world.agent.be_silent("GET /v1/status");
  const auto answer = ctl::AdminClient{world.agent.path(), std::chrono::milliseconds{200}}.get("/v1/status");
  REQUIRE_FALSE(answer);
  CHECK(answer.error().status == ctl::Exit::unreachable);
  CHECK_THAT(answer.error().message, Contains("did not answer /v1/status within 1 s") && Contains("journalctl"));
}

TEST_CASE("ctl: what is no agent's answer is said so, and never printed raw") {
  World world;
  const auto status = [&](const std::string& bytes) {
    world.agent.answer_raw("GET /v1/status", bytes);
    Ran ran = world.ctl({"status"});
    INFO(ran);
    CHECK_THAT(ran.err, Catch::StartsWith("ordinalctl: "));
    CHECK(ran.err.find('\033') == std::string::npos);
    CHECK(ran.out.empty());
    return ran.status;
  };
  const auto http = [](int code, const std::string& body) {
    return "HTTP/1.1 " + std::to_string(code) + " x\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
  };
  CHECK(status("") == 3);
  CHECK(status("SSH-2.0-OpenSSH\r\n\r\n") == 3);
  CHECK(status("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"version\":") == 3);
  CHECK(status(http(200, "<html>\033[2J</html>")) == 1);
  CHECK(status(http(200, "")) == 1);
  CHECK(status(http(200, "[1]")) == 1);
  CHECK(status(http(200, std::string(3000, '[') + std::string(3000, ']'))) == 1);
  CHECK(status(http(500, "")) == 1);
  CHECK(status(http(500, "\033[31mboom")) == 1);
  CHECK(status(http(503, R"({"error": "a text"})")) == 1);
  CHECK(status(http(400, R"({"error": {"code": 7, "message": ["x"]}})")) == 1);
}

TEST_CASE("ctl: answers of another version, with members missing, added or of other types, are shown as far as they go") {
  World world;
  for (const json& answer : {json::object(), json{{"volumes", nullptr}, {"pools", 3}, {"healthy", "yes"}, {"hung", "x"}, {"new", {1, 2}}},
                             json{{"volumes", {1, "x", nullptr, json::object()}},
                                  {"pools", {1, json::object()}},
                                  {"findings", json::array()},
                                  {"checks", {1, json::object()}},
                                  {"holds", {1}},
                                  {"remedies", {1, "do it"}},
                                  {"leftovers", {1, "x"}}}}) {
    for (const std::string target : {"status", "volumes", "pools", "orphans", "doctor", "volumes/x", "volumes/x/explain"}) {
      world.agent.answer("GET /v1/" + target, answer);
    }
    for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{
             {"status"}, {"volumes"}, {"pools"}, {"orphans"}, {"doctor"}, {"show", "x"}, {"explain", "x"}, {"rebind", "x", "a/b"}}) {
      const Ran ran = world.ctl(words);
      INFO(answer.dump() << "\n" << ran);
      CHECK_THAT(ran.err, !Contains("bug"));
      CHECK((ran.status == 0 || ran.status == 5 || ran.status == 6));
    }
  }
}

TEST_CASE("ctl: numbers beyond all sense and texts that are no UTF-8 are no bug of ordinalctl's") {
  World world;
  world.agent.answer("GET /v1/pools", {{"pools",
                                        {{{"name", "a"}, {"total", 5}, {"used", INT64_MAX}, {"healthy", true}},
                                         {{"name", "b"}, {"total", INT64_MAX}, {"used", INT64_MAX - 1}, {"healthy", true}},
                                         {{"name", "c"}, {"total", 1e300}, {"used", -1e300}, {"healthy", true}}}}});
  const Ran pools = world.ctl({"pools"});
  INFO(pools);
  CHECK(pools.status == 0);
  CHECK_THAT(pools.out, Contains("a") && Contains("b") && Contains("c"));

  world.agent.answer("POST /v1/adopt", {{"holds", {{"total", 5}, {"names", {"x"}}, {"nameCount", INT64_MIN}}}});
  const Ran adopt = world.ctl({"adopt", "/nowhere/\xff"});
  INFO(adopt);
  CHECK(adopt.status == 5);
  CHECK_THAT(adopt.out, !Contains("more"));
}

TEST_CASE("ctl: names and messages with terminal escapes are harmless in every command's text") {
  World world;
  const std::string evil = "x\033]0;owned\a\033[2J\n\u202e";
  json volume = a_volume();
  volume["id"] = evil;
  volume["claim"] = evil;
  volume["name"] = evil;
  volume["state"] = evil;
  volume["fsType"] = evil;
  volume["health"] = {{{"status", evil}, {"reason", evil}, {"message", evil}}};
  volume["publications"][0]["target"] = evil;
  volume["publications"][0]["since"] = evil;
  volume["publications"][0]["holder"] = {{"namespace", "prod"}, {"name", "db-0"}, {"text", evil}};
  volume["record"] = {{evil, evil}, {"parameters", {{evil, evil}}}};
  volume["history"] = {{{"holder", {{"text", evil}}}, {"target", evil}, {"from", evil}, {"to", evil}, {"ended", evil}}};
  volume["device"] = {{"path", evil}, {"backingFile", evil}};
  volume["mounts"] = {{{"path", evil}, {"options", evil}}};
  volume["found"] = {{{"path", evil}, {"since", evil}}};
  volume["lastErrors"] = {{{"time", evil}, {"call", evil}, {"code", evil}, {"message", evil}}};
  world.agent.answer("GET /v1/volumes", {{"volumes", {volume}}});
  world.agent.answer("GET /v1/volumes/v", volume);
  world.agent.answer("GET /v1/volumes/v/explain",
                     {{"volume", evil},
                      {"refusal", {{"time", evil}, {"call", evil}, {"code", evil}, {"message", evil}}},
                      {"holds",
                       {{{"holder", volume["publications"][0]["holder"]},
                         {"target", evil},
                         {"since", evil},
                         {"mounted", true},
                         {"processes", {{{"pid", 7}, {"command", evil}, {"namespace", evil}, {"mountPoint", evil}}}}}}},
                      {"remedies", {evil}}});
  const json problems{{{"reason", evil}, {"message", evil}}};
  const json pool{{"name", evil}, {"kind", evil}, {"directory", evil}, {"provisioning", evil}, {"problems", problems}};
  const json call{{"call", evil}, {"volume", evil}, {"seconds", 5}, {"holds", evil}};
  world.agent.answer("GET /v1/pools", {{"pools", {pool}}});
  world.agent.answer("GET /v1/status", {{"version", evil},
                                        {"nodeId", evil},
                                        {"pluginName", evil},
                                        {"endpoint", evil},
                                        {"problems", problems},
                                        {"pools", {pool}},
                                        {"running", {call}},
                                        {"hung", {call}},
                                        {"repairs", {{evil, 3}}}});
  world.agent.answer("GET /v1/orphans", {{"findings", {{{"message", evil}, {"command", evil}}}}, {"leftovers", {evil, {{"path", evil}}}}});
  world.agent.answer("GET /v1/doctor", {{"checks", {{{"name", evil}, {"verdict", evil}, {"detail", evil}, {"remedy", evil}}}}});
  world.agent.answer("POST /v1/adopt", {{"holds", {{"label", evil}, {evil, evil}}}, {"volume", nullptr}});
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{{"volumes"},
                                                                                     {"show", "v"},
                                                                                     {"explain", "v"},
                                                                                     {"pools"},
                                                                                     {"status"},
                                                                                     {"orphans"},
                                                                                     {"doctor"},
                                                                                     {"adopt", "/dev/x"},
                                                                                     {"rebind", "v", "a/b"},
                                                                                     {"release", "v", "--holder", "prod/db-0"}}) {
    const Ran ran = world.ctl(words);
    INFO(words.front() << ": " << ran);
    CHECK(ran.status != 1);
    CHECK((ran.out + ran.err).find('\033') == std::string::npos);
    CHECK((ran.out + ran.err).find('\a') == std::string::npos);
    CHECK((ran.out + ran.err).find("\u202e") == std::string::npos);
    CHECK_THAT(ran.out, Contains("\\u001b]0;owned"));
  }
  // JSON has escapes of its own, and the names as they are.
  const Ran in_json = world.ctl({"volumes", "--output", "json"});
  CHECK(in_json.out.find('\033') == std::string::npos);
  CHECK(in_json.json().at("volumes").at(0).at("id") == evil);
}

TEST_CASE("ctl: volumes fits its table to the terminal, in colour there and not elsewhere") {
  World world;
  json sick = a_volume();
  sick["id"] = "data-db-1-99999999";
  sick["health"] = {{{"status", "DEGRADED"}, {"reason", "GrowthPending"}, {"message", "it grows when it is staged next"}}};
  sick["publications"] = json::array();
  sick["state"] = "staged";
  world.agent.answer("GET /v1/volumes", {{"volumes", {a_volume(), sick}}});

  const Ran piped = world.ctl({"volumes"});
  CHECK(piped.out.find('\033') == std::string::npos);
  CHECK_THAT(piped.out, Contains("prod/db-0 (uid 0b8f-1)") && Contains("/pods/0b8f-1/volume") && Contains("1.5 GiB") &&
                            Contains("GrowthPending: it grows when it is staged next"));
  const Ran shown = world.ctl.on_terminal({"volumes"}, 90);
  INFO(shown);
  CHECK(shown.status == 0);
  CHECK_THAT(shown.out, Contains("data-db-0-0a1b2c3d") && Contains("…") && Contains("\033[1;31m"));
  const Ran narrow = world.ctl.on_terminal({"volumes", "--color", "never"}, 90);
  CHECK(narrow.out.find('\033') == std::string::npos);
  CHECK(narrow.out.substr(0, narrow.out.find("it grows")).find(std::string(91, ' ')) == std::string::npos);
  CHECK(world.ctl.on_terminal({"volumes"}, 90, {{"NO_COLOR", "1"}}).out.find('\033') == std::string::npos);
  CHECK(world.ctl.on_terminal({"volumes"}, 90, {{"TERM", "dumb"}}).out.find('\033') == std::string::npos);
  CHECK(world.ctl({"volumes", "--color", "always"}).out.find('\033') != std::string::npos);

  world.agent.answer("GET /v1/volumes", {{"volumes", json::array()}});
  CHECK(world.ctl({"volumes"}).out == "no volumes\n");
}

TEST_CASE("ctl: status is 0 when all is well and 6 when it isn't") {
  World world;
  json answer{{"version", "0.1.0"},
              {"nodeId", "node-1"},
              {"pid", 12},
              {"startedAt", "2026-01-01T00:00:00Z"},
              {"healthy", true},
              {"problems", json::array()},
              {"volumes", {{"total", 3}, {"staged", 2}, {"published", 2}, {"unhealthy", 0}}},
              {"pools",
               {{{"name", "default"},
                 {"kind", "image"},
                 {"directory", "/pool"},
                 {"provisioning", "thin"},
                 {"total", 1LL << 40},
                 {"used", 1LL << 39},
                 {"available", 1LL << 38},
                 {"promised", 3LL << 38},
                 {"volumes", 3},
                 {"healthy", true}}}},
              {"hung", json::array()},
              {"running", json::array()},
              {"repairs", {{"loop detached", 2}}},
              {"findings", 1}};
  world.agent.answer("GET /v1/status", answer);
  const Ran well = world.ctl({"status"});
  INFO(well);
  CHECK(well.status == 0);
  CHECK_THAT(well.out, Catch::StartsWith("healthy") && Contains("3 volumes: 2 published, 2 staged, 0 unhealthy") &&
                           Contains("512 GiB (50%)") && Contains("loop detached 2") &&
                           Contains("1 finding that needs a person: `ordinalctl orphans`"));
  CHECK(world.ctl.json({"status"}) == answer);

  answer["hung"] = {
      {{"call", "NodePublishVolume"}, {"volume", "data-db-1"}, {"since", "x"}, {"seconds", 7300}, {"holds", "a read of /dev/loop7"}}};
  world.agent.answer("GET /v1/status", answer);
  const Ran hung = world.ctl({"status"});
  CHECK(hung.status == 6);
  CHECK_THAT(hung.out, Contains("NodePublishVolume of data-db-1 for 2 h: a read of /dev/loop7"));

  answer["healthy"] = false;
  answer["problems"] = {{{"reason", "PoolNearlyFull"}, {"message", "pool default is 95% full"}}};
  world.agent.answer("GET /v1/status", answer);
  const Ran sick = world.ctl({"status"});
  CHECK(sick.status == 6);
  CHECK_THAT(sick.out, Catch::StartsWith("NOT HEALTHY") && Contains("PoolNearlyFull: pool default is 95% full"));
}

TEST_CASE("ctl: nothing is changed without --yes") {
  World world;
  json volume = a_volume();
  volume["publications"] = json::array();
  const json hold{{"holder", holder},
                  {"target", "/pods/0b8f-1/volume"},
                  {"since", "2026-01-01T00:00:00Z"},
                  {"mounted", true},
                  {"processes", {{{"pid", 4711}, {"command", "postgres"}, {"namespace", "4026531840"}, {"mountPoint", "/data"}}}}};
  world.agent.answer("GET /v1/volumes/v", volume);
  world.agent.answer("GET /v1/volumes/v/explain", {{"volume", "v"}, {"refusal", nullptr}, {"holds", {hold}}, {"remedies", json::array()}});
  world.agent.answer("GET /v1/orphans", {{"findings", json::array()}, {"leftovers", json::array()}});
  world.agent.answer("POST /v1/adopt", {{"holds", {{"type", "ext4"}, {"label", "pg"}, {"size", 1LL << 30}}}, {"volume", nullptr}});

  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{
           {"rebind", "v", "prod/data-db-1"}, {"release", "v", "--holder", "prod/db-0"}, {"orphans", "--repair"}, {"adopt", "/dev/vdb"}}) {
    const Ran ran = world.ctl(words);
    INFO(ran);
    CHECK(ran.status == 5);
    CHECK_THAT(ran.err, Contains("--yes"));
    CHECK_FALSE(ran.out.empty());
    CHECK_FALSE(world.ctl.json(words, 5).empty());
  }
  for (const std::string& request : world.agent.requests()) {
    INFO(request);
    CHECK((request.starts_with("GET ") || request.find("\"dryRun\":true") != std::string::npos));
  }
  const Ran release = world.ctl({"release", "v", "--holder", "0b8f-1"});  // by uid
  CHECK(release.status == 5);
  CHECK_THAT(release.out, Contains("process 4711 (postgres), which has it at /data") && Contains("end them first"));
  const Ran nobody = world.ctl({"release", "v", "--holder", "prod/db-9"});
  CHECK(nobody.status == 1);
  CHECK_THAT(nobody.err, Contains("held by prod/db-0 (uid 0b8f-1) at /pods/0b8f-1/volume"));
  CHECK(world.ctl({"release", "v", "--holder", "unknown"}).status == 1);
  CHECK(world.ctl({"release", "v", "--holder", "prod/db-0", "--target", "/elsewhere"}).status == 1);
}

TEST_CASE("ctl: with --yes the agent is asked for just that") {
  World world;
  json volume = a_volume();
  world.agent.answer("GET /v1/volumes/prod%2Fdata-db-0", volume);
  const Ran held = world.ctl({"rebind", "prod/data-db-0", "prod/data-db-1", "--yes"});
  INFO(held);
  CHECK(held.status == 4);
  CHECK_THAT(held.err, Contains("held by prod/db-0 (uid 0b8f-1)"));

  volume["publications"] = json::array();
  world.agent.answer("GET /v1/volumes/prod%2Fdata-db-0", volume);
  volume["claim"] = "prod/data-db-1";
  world.agent.answer("POST /v1/volumes/data-db-0-0a1b2c3d/rebind", volume);
  const Ran rebound = world.ctl({"rebind", "prod/data-db-0", "prod/data-db-1", "--yes"});
  CHECK(rebound.status == 0);
  CHECK_THAT(rebound.out, Contains("belongs to prod/data-db-1"));
  CHECK(world.agent.requests().back() == R"(POST /v1/volumes/data-db-0-0a1b2c3d/rebind {"claim":"data-db-1","namespace":"prod"})");

  world.agent.answer("POST /v1/volumes/data-db-0-0a1b2c3d/rebind",
                     {{"error", {{"code", "FAILED_PRECONDITION"}, {"message", "volume x is held by prod/db-0"}}}}, 409);
  CHECK(world.ctl({"rebind", "prod/data-db-0", "prod/data-db-1", "--yes"}).status == 4);  // taken meanwhile

  world.agent.answer("POST /v1/adopt", {{"holds", {{"type", "xfs"}}}, {"volume", {{"id", "pg-01234567"}}}});
  const Ran adopted =
      world.ctl({"adopt", "vdb", "--name", "pg", "--pool", "disks", "--claim", "prod/data-pg-0", "--identity", "claim", "--yes"});
  CHECK(adopted.status == 0);
  CHECK_THAT(adopted.out, Contains("pg-01234567"));
  CHECK(json::parse(world.agent.requests().back().substr(14)) == json{{"dryRun", false},
                                                                      {"name", "pg"},
                                                                      {"pool", "disks"},
                                                                      {"namespace", "prod"},
                                                                      {"claim", "data-pg-0"},
                                                                      {"identity", "claim"},
                                                                      {"path", (std::filesystem::current_path() / "vdb").string()}});
  world.agent.answer("POST /v1/adopt", {{"holds", json::object()}, {"volume", {{"id", "pg-01234567"}}}});
  const Ran again = world.ctl({"adopt", "vdb"});  // it was before
  CHECK(again.status == 0);
  CHECK_THAT(again.out, Contains("pg-01234567 already"));
  world.agent.answer("POST /v1/adopt",
                     {{"holds", {{"kind", "block device"}}}, {"refusals", {"it is a block device: dd if=…"}}, {"volume", nullptr}});
  const Ran refused = world.ctl({"adopt", "vdb"});
  CHECK(refused.status == 1);
  CHECK_THAT(refused.out, Contains("dd if="));
  CHECK(world.ctl({"adopt", "vdb", "--claim", "data"}).status == 2);
  CHECK(world.ctl({"adopt", "vdb", "--identity", "mine"}).status == 2);
}

TEST_CASE("ctl: volumes --watch shows what changes, and outlives the agent") {
  World world;
  world.agent.answer("GET /v1/volumes", {{"volumes", {a_volume()}}});
  const auto watch = [&](const std::string& path) {
    // It ends by a signal only: `timeout` sends it.
    return run_program(
        {"/usr/bin/timeout", "-s", "INT", "1", ORDINALCTL_PROGRAM, "--admin-socket", path, "volumes", "--watch", "--interval", "0.1"});
  };
  const Ran same = watch(world.agent.path());
  INFO(same);
  CHECK(same.status == 124);
  CHECK(occurrences(same.out, "HOLDER") == 1);  // nothing has changed, and this is no terminal
  CHECK(world.agent.requests().size() > 3);
  const Ran gone = watch("/nowhere/admin.sock");
  CHECK(gone.status == 124);
  CHECK(occurrences(gone.err, "no agent") == 1);
  const Ran terminal = run_on_terminal({"/usr/bin/timeout", "--foreground", "-s", "INT", "1", ORDINALCTL_PROGRAM, "--admin-socket",
                                        world.agent.path(), "volumes", "--watch", "--interval", "0.1"},
                                       120);
  CHECK(occurrences(terminal.out, "\033[H\033[2J") > 3);
}

TEST_CASE("ctl: doctor merges what the agent sees with what it sees itself, the worst first") {
  World world;
  ::chmod(world.agent.path().c_str(), 0600);
  world.agent.answer("GET /v1/doctor",
                     {{"checks",
                       {{{"name", "capabilities"}, {"verdict", "ok"}, {"detail", "all of them"}, {"remedy", ""}},
                        {{"name", "kernel"}, {"verdict", "failed"}, {"detail", "too old"}, {"remedy", "boot another"}}}}});
  const json answer = world.ctl.json({"doctor"}, 6);
  CHECK(answer.at("healthy") == false);
  std::map<std::string, json> checks;
  for (const json& check : answer.at("checks")) {
    CHECK(checks.emplace(check.at("name"), check).second);  // none twice
    CHECK((check.at("verdict") == "ok" || !check.at("remedy").get<std::string>().empty()));
  }
  CHECK(checks.at("kernel").at("detail") == "too old");
  CHECK(checks.at("agent").at("verdict") == "ok");
  CHECK(checks.at("CSI socket").at("verdict") == "failed");
  for (const std::string name :
       {"capabilities", "loop devices", "filesystems", "tools", "permissions", "mount propagation", "udev", "clock"}) {
    CHECK(checks.contains(name));
  }
  CHECK(answer.at("checks").at(0).at("verdict") == "failed");
  CHECK(answer.at("checks").back().at("verdict") == "ok");
  const Ran text = world.ctl({"doctor"});
  CHECK(text.status == 6);
  CHECK_THAT(text.out, Contains("→ boot another"));

  ::chmod(world.agent.path().c_str(), 0666);
  const json open = world.ctl.json({"doctor"}, 6);
  const auto named_agent = [](const json& check) { return check.at("name") == "agent"; };
  const auto found = std::ranges::find_if(open.at("checks"), named_agent);
  REQUIRE(found != open.at("checks").end());
  CHECK_THAT(found->at("detail").get<std::string>(), Contains("open to others"));
}

}  // namespace ordinald::testing
