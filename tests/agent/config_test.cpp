#include "agent/config.hpp"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "agent/strict_json.hpp"

namespace ordinald::agent {
namespace {

std::string refusal(std::string_view text) {
  const Result<Config> config = parse_config(text);
  if (config) {
    return "accepted";
  }
  CHECK(config.error().code == mount::ErrorCode::invalid_argument);
  return config.error().message;
}

std::string top(const std::string& member) { return "{" + member + "}"; }
std::string pool(const std::string& members) { return R"({"pools":[{"name":"a","directory":"/a"},{)" + members + "}]}"; }
/// The second pool, good but for one member.
std::string pool_with(const std::string& member) { return pool(R"("name":"b","directory":"/b",)" + member); }

Config parsed(std::string_view text) {
  Result<Config> config = parse_config(text);
  INFO((config ? "" : config.error().message));
  REQUIRE(config);
  return std::move(config).value();
}

}  // namespace

TEST_CASE("nothing configured is a working default", "[config]") {
  Config config = parsed("{}");
  CHECK(config == Config{});
  REQUIRE(complete_config(config, "node-7"));
  CHECK(config.plugin_name == "csi.ordinald.io");
  CHECK(config.node_id == "node-7");
  CHECK(config.endpoint == "unix:///run/ordinald/csi.sock");
  CHECK(config.state_dir == "/var/lib/ordinald");
  CHECK(config.run_dir == "/run/ordinald");
  CHECK(config.controller_expansion);
  REQUIRE(config.pools.size() == 1);
  CHECK(config.pools[0].name == "default");
  CHECK(config.pools[0].kind == "image");
  CHECK(config.pools[0].directory == "/var/lib/ordinald/pools/default");
  CHECK_FALSE(config.pools[0].thick);
  CHECK(config.pools[0].overcommit == 1.0);
  CHECK(config.pools[0].reserve_percent == 10);
  CHECK(config.pools[0].is_default);
}

TEST_CASE("every key is read, comments are skipped", "[config]") {
  const Config config = parsed(R"(// the node
    {
      "pluginName": "storage.example.org", /* ours */
      "nodeId": "n_1.example-2",
      "endpoint": "unix:/run/x/csi.sock",
      "adminSocket": "/run/x/a.sock",
      "stateDir": "//var/lib//x/./",
      "runDir": "/run/x/",
      "logLevel": "trace",
      "logFormat": "json",
      "controllerExpansion": false,
      "maxVolumesPerNode": 200,
      "maxThreads": 8,
      "drainSeconds": 600,
      "deviceTimeoutSeconds": 5,
      "toolTimeoutSeconds": 86400,
      "repairIntervalSeconds": 60,
      "toolMemoryMiB": 512,
      "defaultFsType": "btrfs",
      "pools": [
        {"name": "fast", "kind": "image", "directory": "/mnt/fast", "provisioning": "thin", "overcommit": 2.5,
         "reservePercent": 0, "nearlyFullPercent": 95.5},
        {"name": "safe-1", "directory": "/mnt/safe/", "provisioning": "thick", "default": true}
      ]
    })");
  CHECK(config.plugin_name == "storage.example.org");
  CHECK(config.node_id == "n_1.example-2");
  CHECK(config.endpoint == "unix:/run/x/csi.sock");
  CHECK(endpoint_path(config.endpoint) == "/run/x/csi.sock");
  CHECK(config.admin_socket == "/run/x/a.sock");
  CHECK(config.state_dir == "/var/lib/x");
  CHECK(config.run_dir == "/run/x");
  CHECK(config.log_level == LogLevel::trace);
  CHECK(config.log_format == LogFormat::json);
  CHECK_FALSE(config.controller_expansion);
  CHECK(config.max_volumes_per_node == 200);
  CHECK(config.max_threads == 8);
  CHECK(config.drain == std::chrono::seconds{600});
  CHECK(config.device_timeout == std::chrono::seconds{5});
  CHECK(config.tool_timeout == std::chrono::seconds{86400});
  CHECK(config.repair_interval == std::chrono::seconds{60});
  CHECK(config.tool_memory_mib == 512);
  CHECK(config.default_fs_type == "btrfs");
  REQUIRE(config.pools.size() == 2);
  CHECK(config.pools[0] == PoolConfig{.name = "fast",
                                      .kind = "image",
                                      .directory = "/mnt/fast",
                                      .thick = false,
                                      .overcommit = 2.5,
                                      .reserve_percent = 0,
                                      .nearly_full_percent = 95.5,
                                      .is_default = false});
  CHECK(config.pools[1].directory == "/mnt/safe");
  CHECK(config.pools[1].thick);
  CHECK(config.pools[1].is_default);
}

TEST_CASE("without a default the first pool is it", "[config]") {
  const Config config = parsed(R"({"pools":[{"name":"a","directory":"/a"},{"name":"b","directory":"/b","default":false}]})");
  CHECK(config.pools[0].is_default);
  CHECK_FALSE(config.pools[1].is_default);
}

TEST_CASE("what --check-config prints is read back to the same", "[config]") {
  Config config = parsed(R"({"nodeId":"n","logLevel":"warn","pools":[
    {"name":"a","directory":"/a","overcommit":1.5},{"name":"b","directory":"/b","provisioning":"thick","default":true}]})");
  REQUIRE(complete_config(config, "ignored"));
  CHECK(parsed(to_json(config)) == config);
}

TEST_CASE("a bad value is refused with the path of its key and what was expected", "[config]") {
  struct Case {
    std::string key;
    std::string expected;          ///< begins so
    std::vector<std::string> bad;  ///< JSON
  };
  const std::string path = R"(expected an absolute path without "..")";
  const std::vector<std::string> bad_paths{
      "1", "null", R"("")", R"("var/lib")", R"("/a/../b")", R"("/a\u0000b")", R"("/a\nb")", "\"/" + std::string(4096, 'x') + "\""};
  const std::vector<Case> cases{
      {"pluginName",
       "expected a domain name",
       {"1", R"("")", R"("1a.io")", R"("a.io1")", R"("a..io")", R"("a_b.io")", R"("a.-b")", R"("-a")", "\"" + std::string(64, 'a') + "\""}},
      {"nodeId", "expected at most 128 letters", {"[]", R"("")", R"("a/b")", R"("a b")", R"("-a")", "\"" + std::string(129, 'a') + "\""}},
      {"endpoint",
       "expected unix://",
       {"{}", R"("")", R"("/run/x.sock")", R"("tcp://127.0.0.1:1")", R"("unix://run/x.sock")", R"("unix:///run/")", R"("unix:///a/../b")",
        "\"unix:///" + std::string(107, 'x') + "\""}},
      {"adminSocket",
       "expected an absolute path of at most 107 bytes",
       {"1", R"("run/x.sock")", R"("unix:///x")", R"("/a/")", R"("/a/../b")", "\"/" + std::string(107, 'x') + "\""}},
      {"stateDir", path, bad_paths},
      {"runDir", path, bad_paths},
      {"logLevel", R"(expected "trace", "debug", "info", "warn" or "error")", {"3", R"("INFO")", R"("verbose")"}},
      {"logFormat", R"(expected "text" or "json")", {"true", R"("xml")"}},
      {"controllerExpansion", "expected true or false", {"0", R"("true")", "null"}},
      {"maxVolumesPerNode",
       "expected an integer of at least 0",
       {"-1", "1.5", "1.0", R"("1")", "18446744073709551615", "9223372036854775808"}},
      {"maxThreads", "expected an integer from 8 to 4096", {"7", "4097", "-8", "8.5", R"("8")", "18446744073709551615"}},
      {"drainSeconds", "expected an integer from 1 to 600", {"0", "601", "false"}},
      {"deviceTimeoutSeconds", "expected an integer from 1 to 3600", {"0", "3601", "[1]"}},
      {"toolTimeoutSeconds", "expected an integer from 1 to 604800", {"0", "604801", "1e3"}},
      {"toolMemoryMiB", "expected an integer from 0 to 16777216", {"-1", "16777217", "\"1\""}},
      {"defaultFsType", R"(expected "ext4", "xfs" or "btrfs")", {"4", R"("ext3")"}},
      {"pools", "expected an array of at least one pool", {"{}", "[]", R"("default")", "null"}},
  };
  for (const Case& each : cases) {
    for (const std::string& bad : each.bad) {
      INFO(each.key << ": " << bad);
      CHECK_THAT(refusal(top("\"" + each.key + "\":" + bad)),
                 Catch::StartsWith(each.key + ": " + each.expected) && Catch::Contains(", found "));
    }
  }
  const std::vector<Case> pool_cases{
      {"kind", R"(expected "image")", {"1", R"("lvm")"}},
      {"provisioning", R"(expected "thin" or "thick")", {"true", R"("fat")"}},
      {"overcommit", "expected a number from 0.1 to 100", {"0", "0.09", "100.5", "-1", R"("2")"}},
      {"reservePercent", "expected a number from 0.0 to 90.0", {"-0.5", "91", R"("10%")"}},
      {"nearlyFullPercent", "expected a number from 50.0 to 100.0", {"49", "101", "null"}},
      {"default", "expected true or false", {"1", R"("yes")"}},
  };
  for (const Case& each : pool_cases) {
    for (const std::string& bad : each.bad) {
      INFO(each.key << ": " << bad);
      CHECK_THAT(refusal(pool_with("\"" + each.key + "\":" + bad)),
                 Catch::StartsWith("pools[1]." + each.key + ": " + each.expected) && Catch::Contains(", found "));
    }
  }
  for (const std::string& bad : bad_paths) {
    INFO(bad);
    CHECK_THAT(refusal(pool(R"("name":"b","directory":)" + bad)), Catch::StartsWith("pools[1].directory: " + path));
  }
  for (const std::string bad : {"1", R"("")", R"("A")", R"("a_b")", R"("-a")", R"("a-")", R"("a/b")"}) {
    INFO(bad);
    CHECK_THAT(refusal(pool(R"("directory":"/b","name":)" + bad)), Catch::StartsWith("pools[1].name: expected at most 63 lower-case"));
  }
}

TEST_CASE("edges of what is good are good", "[config]") {
  for (const std::string& good : {
           top(R"("pluginName":")" + std::string(63, 'a') + "\""),
           top(R"("nodeId":")" + std::string(128, '1') + "\""),
           top(R"("endpoint":"unix:///)" + std::string(106, 'x') + "\""),
           top(R"("maxVolumesPerNode":9223372036854775807)"),
           pool_with(R"("overcommit":0.1)"),
           pool_with(R"("overcommit":100,"reservePercent":90,"nearlyFullPercent":100)"),
           pool_with(R"("provisioning":"thick")"),
       }) {
    INFO(good);
    CHECK(parse_config(good));
  }
}

TEST_CASE("a value that was found is shown, but briefly", "[config]") {
  CHECK(refusal(R"({"drainSeconds":"20"})") == R"(drainSeconds: expected an integer from 1 to 600, found "20")");
  CHECK(refusal(R"({"drainSeconds":{"a":1}})") == "drainSeconds: expected an integer from 1 to 600, found an object");
  CHECK(refusal(R"({"pools":[1]})") == "pools[0]: expected an object, found 1");
  CHECK(refusal(R"({"logLevel":"a\u001b[31m"})").ends_with(R"(found "a\u001b[31m")"));
  CHECK(refusal(R"({"logLevel":")" + std::string(5000, 'x') + "\"}").size() < 200);
}

TEST_CASE("an unknown key is refused with its path", "[config]") {
  CHECK_THAT(refusal(R"({"stateDirectory":"/x"})"), Catch::StartsWith("stateDirectory: unknown key; expected one of pluginName, "));
  CHECK_THAT(refusal(pool_with(R"("path":"/x")")),
             Catch::StartsWith("pools[1].path: unknown key; expected one of name, kind, directory, "));
  CHECK_THAT(refusal(R"({"a b\n":1})"), Catch::StartsWith(R"(["a b\n"]: unknown key)"));
  CHECK_THAT(refusal(R"({"":1})"), Catch::StartsWith(R"([""]: unknown key)"));
}

TEST_CASE("a key given twice is refused with its path", "[config]") {
  CHECK(refusal(R"({"runDir":"/a","logLevel":"info","runDir":"/a"})") == "runDir: the key is given twice");
  CHECK(refusal(pool_with(R"("default":true,"default":true)")) == "pools[1].default: the key is given twice");
  CHECK(refusal(R"({"x":[[],[0,{"y":{}, "y":1}]]})") == "x[1][1].y: the key is given twice");
}

TEST_CASE("what must hold among a pool's keys and among pools", "[config]") {
  CHECK_THAT(refusal(pool(R"("name":"b")")), Catch::StartsWith("pools[1].directory: expected it to be given"));
  CHECK_THAT(refusal(pool(R"("directory":"/b")")), Catch::StartsWith("pools[1].name: expected it to be given"));
  CHECK_THAT(refusal(pool(R"("name":"a","directory":"/b")")), Catch::StartsWith("pools[1].name: expected a name that no other pool has"));
  CHECK_THAT(refusal(pool(R"("name":"b","directory":"/./a/")")),
             Catch::StartsWith("pools[1].directory: expected a directory that no other pool has"));
  CHECK_THAT(refusal(pool(R"("name":"b","directory":"/a/b")")),
             Catch::StartsWith("pools[1].directory: expected a directory apart from pool a's, /a, found"));
  CHECK_THAT(refusal(pool(R"("name":"b","directory":"/")")),
             Catch::StartsWith("pools[1].directory: expected a directory apart from pool a's"));
  CHECK(refusal(pool(R"("name":"b","directory":"/ab")")) == "accepted");
  CHECK_THAT(refusal(pool_with(R"("provisioning":"thick","overcommit":1)")),
             Catch::StartsWith("pools[1].overcommit: expected it to be left out"));
  CHECK_THAT(refusal(R"({"pools":[{"name":"a","directory":"/a","default":true},{"name":"b","directory":"/b","default":true}]})"),
             Catch::StartsWith("pools[1].default: expected at most one pool with true"));
}

TEST_CASE("text that isn't one JSON object within bounds is refused", "[config]") {
  CHECK_THAT(refusal(""), Catch::StartsWith("not valid JSON: line 1, column 1"));
  CHECK_THAT(refusal("{\n  \"runDir\": /run\n}"), Catch::StartsWith("not valid JSON: line 2, column 14"));
  CHECK_THAT(refusal("{} {}"), Catch::StartsWith("not valid JSON"));
  CHECK_THAT(refusal("{\"runDir\":\"/\xff\"}"), Catch::StartsWith("not valid JSON"));
  CHECK_THAT(refusal(R"({"drainSeconds":1e999})"), Catch::StartsWith("not valid JSON"));
  CHECK_THAT(refusal("/* open"), Catch::StartsWith("not valid JSON"));
  CHECK(refusal("[]") == "expected an object at the top, found an array");
  CHECK(refusal("null") == "expected an object at the top, found null");
  CHECK(refusal(std::string(65, '[')) == "nested deeper than 64 levels");
  CHECK(refusal(std::string(1 << 20, '[')) == "nested deeper than 64 levels");
  CHECK(refusal("{}" + std::string((1 << 20) - 1, ' ')) == "longer than 1048576 bytes");
  CHECK(parse_config("{}" + std::string((1 << 20) - 2, ' ')));
  CHECK(parse_strict_json(std::string(64, '[') + std::string(64, ']'), {}));
}

TEST_CASE("a single setting follows the file's rules and names its origin", "[config]") {
  Config config;
  REQUIRE(set_string(config, "stateDir", "/x/", "--state-dir"));
  CHECK(config.state_dir == "/x");
  CHECK(set_string(config, "logLevel", "loud", "--log-level").error().message ==
        R"(--log-level: expected "trace", "debug", "info", "warn" or "error", found "loud")");
  CHECK(set_string(config, "runDir", "/\xff", "--run-dir").error().message == R"(--run-dir: expected UTF-8 text, found "/\ufffd")");
}

TEST_CASE("no two things are told to lie in one place", "[config]") {
  const auto completed = [](const std::string& members) {
    Config config = parsed(R"({"nodeId":"n",)" + members + "}");
    const Result<void> done = complete_config(config, "");
    CHECK((done || done.error().code == mount::ErrorCode::invalid_argument));
    return done ? "accepted" : done.error().message;
  };
  const auto with_pool = [&](const std::string& directory) {
    return completed(R"("stateDir":"/s","runDir":"/r","pools":[{"name":"a","directory":"/a"},{"name":"b","directory":")" + directory +
                     "\"}]");
  };
  struct Case {
    std::string members;
    std::string expected;
  };
  for (const Case& each : std::vector<Case>{
           {R"("stateDir":"/")", "stateDir: expected a directory of the agent's own, found /"},
           {R"("runDir":"/")", "runDir: expected a directory of the agent's own, found /"},
           {R"("stateDir":"/x","runDir":"/x/")",
            "runDir: expected a directory apart from stateDir, /x, neither in it nor above it, found /x"},
           {R"("stateDir":"/x","runDir":"/x/run")", "runDir: expected a directory apart from stateDir, /x,"},
           {R"("stateDir":"/x/state","runDir":"/x")", "runDir: expected a directory apart from stateDir, /x/state,"},
           {R"("runDir":"/r","adminSocket":"/r/ledger")",
            "adminSocket: expected a path apart from what the agent keeps in runDir as ledger, found /r/ledger"},
           {R"("runDir":"/r","adminSocket":"/r")", "adminSocket: expected another path than that of runDir, found /r"},
           {R"("stateDir":"/s","endpoint":"unix:///s/volumes/csi.sock")",
            "endpoint: expected a path apart from what the agent keeps in stateDir as volumes, found /s/volumes/csi.sock"},
           {R"("runDir":"/r","endpoint":"unix:///r/lock")", "endpoint: expected a path apart from what the agent keeps in runDir as lock"},
           {R"("runDir":"/x/r","endpoint":"unix:///x")", "endpoint: expected a path of its own, not the directory /x/r or one above it"},
           {R"("adminSocket":"/a","pools":[{"name":"a","directory":"/a"}])",
            "adminSocket: expected a path of its own, not the directory /a or one above it, found /a"},
       }) {
    INFO(each.members);
    CHECK_THAT(completed(each.members), Catch::StartsWith(each.expected));
  }
  CHECK(with_pool("/s") == "pools[1].directory: expected another path than that of stateDir, found /s");
  CHECK(with_pool("/r") == "pools[1].directory: expected another path than that of runDir, found /r");
  for (const std::string own : {"volumes", "volumes/b", "undo", "lock"}) {
    CHECK_THAT(with_pool("/s/" + own),
               Catch::StartsWith("pools[1].directory: expected a path apart from what the agent keeps in stateDir as"));
  }
  for (const std::string own : {"ledger", "ledger/b", "workers", "lock", "key", "pools.json"}) {
    CHECK_THAT(with_pool("/r/" + own),
               Catch::StartsWith("pools[1].directory: expected a path apart from what the agent keeps in runDir as"));
  }
  for (const std::string good : {"/s/pools/b", "/s/volumes2", "/s/b", "/sb"}) {
    CHECK(with_pool(good) == "accepted");
  }
  CHECK(completed(R"("stateDir":"/x","runDir":"/x-run","endpoint":"unix:///x/csi.sock","adminSocket":"/x-run/a")") == "accepted");
}

TEST_CASE("what is filled in follows the other settings, and the same rules", "[config]") {
  Config config = parsed(R"({"stateDir":"/s","runDir":"/r"})");
  REQUIRE(complete_config(config, "host"));
  CHECK(config.endpoint == "unix:///r/csi.sock");
  CHECK(config.admin_socket == "/r/admin.sock");
  CHECK(config.pools.at(0).directory == "/s/pools/default");
  Config silent = parsed(R"({"nodeId":"n","adminSocket":""})");
  REQUIRE(complete_config(silent, ""));
  CHECK(silent.admin_socket == "");
  Config one = parsed(R"({"nodeId":"n","endpoint":"unix:///r/a","adminSocket":"/r/a"})");
  CHECK_THAT(complete_config(one, "").error().message, Catch::StartsWith("adminSocket: expected another path than the endpoint's"));

  Config nameless;
  CHECK_THAT(complete_config(nameless, "(none)").error().message, Catch::StartsWith("nodeId (by default the host's name): expected"));
  Config deep = parsed(R"({"nodeId":"n","runDir":"/)" + std::string(100, 'x') + "\"}");
  CHECK_THAT(complete_config(deep, "").error().message, Catch::StartsWith("endpoint (by default runDir/csi.sock): expected"));
}

}  // namespace ordinald::agent
