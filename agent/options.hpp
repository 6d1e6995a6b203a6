#pragma once

#include <optional>
#include <string>

#include "agent/config.hpp"
#include "mount/result.hpp"

/// The command line, and how it, the environment and the file become one Config.
///
/// Precedence, strongest first: flag, CSI_ENDPOINT (the endpoint only), file, default. Single-threaded, at start. Errors are
/// invalid_argument, worded for stderr; the caller ends with exit status 2.
namespace ordinald::agent {

struct Options {
  std::optional<std::string> config_file;
  std::optional<std::string> endpoint;
  std::optional<std::string> node_id;
  std::optional<std::string> state_dir;
  std::optional<std::string> run_dir;
  std::optional<std::string> log_level;
  std::optional<std::string> log_format;
  bool check_config = false;
  std::string print;  ///< for --help and --version: print this and end with 0
};

/// Where the process runs: what else a configuration depends on. Handed in, so that tests can choose it.
struct Surroundings {
  std::optional<std::string> csi_endpoint;  ///< CSI_ENDPOINT; empty counts as unset
  std::string hostname;
};

/// main()'s arguments. Values are checked by load_config.
Result<Options> parse_options(int argc, const char* const* argv);

/// The environment and the host of this process (getenv(3), gethostname(2)).
Surroundings surroundings();

/// The effective configuration, complete. Reads the file (at most 1 MiB of it).
Result<Config> load_config(const Options& options, const Surroundings& around);

}  // namespace ordinald::agent
