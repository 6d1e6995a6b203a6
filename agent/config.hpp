#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mount/log.hpp"
#include "mount/result.hpp"

/// What the agent is told: a plain struct with its defaults, read from JSON with comments, or from single settings.
///
/// Everything here is pure: no file, environment or host is looked at (options.hpp does that). Value types; no locking.
/// Errors are invalid_argument with the key's path, what was expected and what was found: `pools[1].directory: expected an absolute
/// path without "..", found "images"`.
namespace ordinald::agent {

using mount::LogLevel;
using mount::Result;

enum class LogFormat : std::uint8_t { text, json };

/// Where volumes come from.
struct PoolConfig {
  std::string name;                 ///< like a DNS label; unique
  std::string kind = "image";       ///< images on loop devices: the only kind for now
  std::string directory;            ///< absolute, normal; apart from every other pool's
  bool thick = false;               ///< every image allocated in full
  double overcommit = 1.0;          ///< thin only: promised bytes for each byte that there is
  double reserve_percent = 10;      ///< of the file system's size, never promised
  double nearly_full_percent = 90;  ///< used space from which the pool's health says so
  bool is_default = false;          ///< for volumes that name no pool; exactly one has it
  bool operator==(const PoolConfig&) const = default;
};

struct Config {
  std::string plugin_name = "csi.ordinald.io";
  std::string node_id;                      ///< empty until complete_config
  std::string endpoint;                     ///< empty until complete_config
  std::optional<std::string> admin_socket;  ///< its path; empty: none. Not set until complete_config
  std::string state_dir = "/var/lib/ordinald";
  std::string run_dir = "/run/ordinald";
  LogLevel log_level = LogLevel::info;
  LogFormat log_format = LogFormat::text;
  bool controller_expansion = true;           ///< advertise the controller's EXPAND_VOLUME
  std::int64_t max_volumes_per_node = 0;      ///< 0: no limit
  int max_threads = 256;                      ///< that serve calls
  std::chrono::seconds drain{20};             ///< from SIGTERM to the end, at most
  std::chrono::seconds device_timeout{60};    ///< for what waits for a device
  std::chrono::seconds tool_timeout{14400};   ///< for mkfs, fsck and their like
  std::chrono::seconds repair_interval{300};  ///< between rounds of repairs; 0: only at start
  std::uint64_t tool_memory_mib = 0;          ///< that each of them may take; 0: half of the node's
  std::string default_fs_type = "ext4";
  std::vector<PoolConfig> pools;  ///< empty until complete_config where none is configured
  bool operator==(const Config&) const = default;
};

/// The configuration file's text. A key that is left out keeps its default. Refuses text over 1 MiB, nesting over 64, unknown and duplicate
/// keys. Never throws.
Result<Config> parse_config(std::string_view text);

/// Sets one top-level key whose value is a string, under the file's rules; `origin` (`--endpoint`) is named in an error in place of the
/// key.
Result<void> set_string(Config& config, std::string_view key, std::string_view value, std::string_view origin);

/// Fills in what depends on other settings: the host's name as node id, the endpoint `<runDir>/csi.sock`, the admin socket
/// `<runDir>/admin.sock`, and one thin pool `default` at
/// `<stateDir>/pools/default`. Then what must hold among paths, by their text: state and run directory, and what the agent keeps in
/// them, are nobody else's.
Result<void> complete_config(Config& config, std::string_view hostname);

/// As the file would say it; parse_config reads it back to the same.
std::string to_json(const Config& config);

/// The names that the file uses.
std::string_view to_string(LogLevel level);
std::string_view to_string(LogFormat format);

/// The file system path of an endpoint that parse_config or set_string took: `unix:///run/x.sock` and `unix:/run/x.sock` give
/// `/run/x.sock`.
std::string endpoint_path(std::string_view endpoint);

}  // namespace ordinald::agent
