#include "agent/options.hpp"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <climits>
#include <cstdlib>
#include <utility>

#include "agent/durable_file.hpp"

namespace ordinald::agent {

using mount::ErrorCode;
using mount::make_error;

Result<Options> parse_options(int argc, const char* const* argv) {
  Options options;
  CLI::App app{"ordinald, the CSI storage agent of one node", "ordinald"};
  app.add_option("--config", options.config_file, "Configuration: a file of JSON, comments allowed")->type_name("FILE");
  app.add_option("--endpoint", options.endpoint, "The socket to serve on, over CSI_ENDPOINT; by default unix://RUN_DIR/csi.sock")
      ->type_name("URL");
  app.add_option("--node-id", options.node_id, "This node's id; by default the host's name")->type_name("ID");
  app.add_option("--state-dir", options.state_dir, "Where what must outlive a reboot is kept; by default /var/lib/ordinald")
      ->type_name("DIR");
  app.add_option("--run-dir", options.run_dir, "Where what ends with the boot is kept; by default /run/ordinald")->type_name("DIR");
  app.add_option("--log-level", options.log_level, "trace, debug, info, warn or error")->type_name("LEVEL");
  app.add_option("--log-format", options.log_format, "text or json, one object a line")->type_name("FORMAT");
  app.add_flag("--check-config", options.check_config, "Print the effective configuration as JSON and end");
  app.set_version_flag("--version", "ordinald " ORDINALD_VERSION);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    options.print = app.help();
  } catch (const CLI::CallForVersion&) {
    options.print = app.version() + "\n";
  } catch (const CLI::Error& error) {
    return make_error(ErrorCode::invalid_argument, std::string{error.what()} + " (--help lists the options)");
  }
  return options;
}

Surroundings surroundings() {
  Surroundings around;
  if (const char* endpoint = std::getenv("CSI_ENDPOINT"); endpoint != nullptr && *endpoint != '\0') {  // NOLINT(concurrency-mt-unsafe)
    around.csi_endpoint = endpoint;
  }
  std::array<char, HOST_NAME_MAX + 1> name{};
  if (::gethostname(name.data(), name.size() - 1) == 0) {
    around.hostname = name.data();
  }
  return around;
}

Result<Config> load_config(const Options& options, const Surroundings& around) {
  Config config;
  if (options.config_file) {
    TRY(const std::string text, read_file(*options.config_file));
    Result<Config> parsed = parse_config(text);
    if (!parsed) {
      return parsed.error().with_context(*options.config_file);
    }
    config = std::move(parsed).value();
  }
  struct Setting {
    const std::optional<std::string>& value;
    std::string_view key;
    std::string_view origin;
  };
  // Weakest first: a later one wins.
  for (const Setting& setting : {
           Setting{around.csi_endpoint, "endpoint", "CSI_ENDPOINT"},
           Setting{options.endpoint, "endpoint", "--endpoint"},
           Setting{options.node_id, "nodeId", "--node-id"},
           Setting{options.state_dir, "stateDir", "--state-dir"},
           Setting{options.run_dir, "runDir", "--run-dir"},
           Setting{options.log_level, "logLevel", "--log-level"},
           Setting{options.log_format, "logFormat", "--log-format"},
       }) {
    if (setting.value) {
      TRYV(set_string(config, setting.key, *setting.value, setting.origin));
    }
  }
  TRYV(complete_config(config, around.hostname));
  return config;
}

}  // namespace ordinald::agent
