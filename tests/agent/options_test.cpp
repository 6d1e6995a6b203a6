#include "agent/options.hpp"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "tests/support/temp.hpp"

namespace ordinald::agent {
namespace {

Result<Options> parse(std::vector<const char*> words) {
  words.insert(words.begin(), "ordinald");
  return parse_options(static_cast<int>(words.size()), words.data());
}

Result<Config> load(const std::vector<const char*>& words, const Surroundings& around = {.csi_endpoint = {}, .hostname = "host"}) {
  TRY(const Options options, parse(words));
  return load_config(options, around);
}

}  // namespace

TEST_CASE("without options there are the defaults", "[options]") {
  const auto config = load({});
  REQUIRE(config);
  CHECK(config.value().endpoint == "unix:///run/ordinald/csi.sock");
  CHECK(config.value().node_id == "host");
  CHECK(config.value().pools.size() == 1);
}

TEST_CASE("a flag is stronger than CSI_ENDPOINT, that than the file, and the file than the default", "[options]") {
  const testing::TempDir temp{"options"};
  const std::string file = temp.path() / "agent.json";
  testing::write_file(
      file, R"({"endpoint":"unix:///f/s","nodeId":"f","stateDir":"/f/state","runDir":"/f/run","logLevel":"warn","logFormat":"json"})");
  const Surroundings around{.csi_endpoint = "unix:///e/s", .hostname = "host"};

  const auto from_file = load({"--config", file.c_str()});
  REQUIRE(from_file);
  CHECK(from_file.value().endpoint == "unix:///f/s");
  CHECK(from_file.value().node_id == "f");
  CHECK(from_file.value().state_dir == "/f/state");
  CHECK(from_file.value().run_dir == "/f/run");
  CHECK(from_file.value().log_level == LogLevel::warn);
  CHECK(from_file.value().log_format == LogFormat::json);
  CHECK(from_file.value().pools.at(0).directory == "/f/state/pools/default");

  const auto from_environment = load({"--config", file.c_str()}, around);
  REQUIRE(from_environment);
  CHECK(from_environment.value().endpoint == "unix:///e/s");
  CHECK(from_environment.value().node_id == "f");

  const auto from_flags = load({"--config", file.c_str(), "--endpoint", "unix:///a/s", "--node-id=a", "--state-dir=/a/state",
                                "--run-dir=/a/run", "--log-level=debug", "--log-format=text"},
                               around);
  REQUIRE(from_flags);
  CHECK(from_flags.value().endpoint == "unix:///a/s");
  CHECK(from_flags.value().node_id == "a");
  CHECK(from_flags.value().state_dir == "/a/state");
  CHECK(from_flags.value().run_dir == "/a/run");
  CHECK(from_flags.value().log_level == LogLevel::debug);
  CHECK(from_flags.value().log_format == LogFormat::text);
  CHECK(from_flags.value().pools.at(0).directory == "/a/state/pools/default");
}

TEST_CASE("an error names the flag, the variable or the file and its key", "[options]") {
  const testing::TempDir temp{"options"};
  const std::string file = temp.path() / "agent.json";
  testing::write_file(file, R"({"pools":[{"name":"a","directory":"/a"},{"name":"b","directory":"b"}]})");
  CHECK_THAT(load({"--config", file.c_str()}).error().message, Catch::StartsWith(file + ": pools[1].directory: expected an absolute path"));
  CHECK_THAT(load({"--config", "/nonexistent/x"}).error().message, Catch::Contains("/nonexistent/x") && Catch::Contains("ENOENT"));
  CHECK_THAT(load({"--state-dir", "x"}).error().message, Catch::StartsWith("--state-dir: expected an absolute path"));
  CHECK_THAT(load({}, {.csi_endpoint = "tcp://x", .hostname = "h"}).error().message, Catch::StartsWith("CSI_ENDPOINT: expected unix://"));
}

TEST_CASE("a command line that makes no sense is refused", "[options]") {
  for (const std::vector<const char*>& words :
       std::vector<std::vector<const char*>>{{"--nope"}, {"--config"}, {"stray"}, {"--node-id", "a", "--node-id", "b"}}) {
    INFO(words[0]);
    const auto options = parse(words);
    REQUIRE_FALSE(options);
    CHECK(options.error().code == mount::ErrorCode::invalid_argument);
    CHECK_FALSE(options.error().message.empty());
  }
}

TEST_CASE("--version and --help are texts to print", "[options]") {
  CHECK(parse({"--version"}).value().print == "ordinald " ORDINALD_VERSION "\n");
  CHECK_THAT(parse({"--help"}).value().print, Catch::Contains("--check-config"));
  CHECK(parse({"--check-config"}).value().check_config);
}

}  // namespace ordinald::agent
