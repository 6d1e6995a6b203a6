#include "agent/config.hpp"

#include <algorithm>
#include <array>
#include <filesystem>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <span>
#include <utility>

#include "agent/json_fields.hpp"
#include "agent/path_words.hpp"
#include "agent/strict_json.hpp"
#include "mount/result.hpp"

namespace ordinald::agent {
namespace {

using mount::Error;
using mount::ErrorCode;
using mount::make_error;
using mount::success;
using nlohmann::json;

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter_or_digit(char c) { return is_letter(c) || is_digit(c); }

constexpr std::array<std::string_view, 5> log_levels{"trace", "debug", "info", "warn", "error"};
constexpr std::array<std::string_view, 2> log_formats{"text", "json"};
constexpr std::array<std::string_view, 3> fs_types{"ext4", "xfs", "btrfs"};
constexpr std::array<std::string_view, 1> pool_kinds{"image"};
constexpr std::array<std::string_view, 2> provisionings{"thin", "thick"};

// --- rules ---

/// What begins and ends with a letter or a digit, with `middle` too in between.
bool is_name(std::string_view text, std::size_t longest, std::string_view middle) {
  return !text.empty() && text.size() <= longest && is_letter_or_digit(text.front()) && is_letter_or_digit(text.back()) &&
         std::ranges::all_of(text, [middle](char c) { return is_letter_or_digit(c) || middle.contains(c); });
}

/// A domain name that begins and ends with a letter: CSI's GetPluginInfo and the conformance suite.
bool is_plugin_name(std::string_view text) {
  return is_name(text, 63, "-.") && is_letter(text.front()) && is_letter(text.back()) && !text.contains("..") && !text.contains(".-") &&
         !text.contains("-.");
}

/// It is the value of the node's topology segment too, hence the characters.
bool is_node_id(std::string_view text) { return is_name(text, 128, "-_."); }

bool is_pool_name(std::string_view text) {
  return is_name(text, 63, "-") && std::ranges::none_of(text, [](char c) { return c >= 'A' && c <= 'Z'; });
}

/// `..` is refused because what it means depends on symlinks; control characters because the path is shown.
bool is_absolute_path(std::string_view text) {
  if (!text.starts_with('/') || text.size() >= 4096) {
    return false;
  }
  if (std::ranges::any_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; })) {
    return false;
  }
  return std::ranges::none_of(std::filesystem::path{text}, [](const auto& part) { return part == ".."; });
}

constexpr std::string_view absolute_path = "an absolute path without \"..\"";

constexpr std::size_t longest_socket_path = 107;  // sun_path of unix(7), less its NUL

bool is_endpoint(std::string_view text) {
  const std::string path = endpoint_path(text);
  return is_absolute_path(path) && !path.ends_with('/') && path.size() <= longest_socket_path;
}

/// Or none.
bool is_socket_path(std::string_view text) {
  return text.empty() || (is_absolute_path(text) && !text.ends_with('/') && text.size() <= longest_socket_path);
}

Result<std::string> read_path(const json& value, std::string_view path) {
  TRY(const std::string text, read_string(value, path, absolute_path, is_absolute_path));
  std::string normal = std::filesystem::path{text}.lexically_normal().string();
  // POSIX leaves the meaning of a leading `//` open; std::filesystem keeps what it was told.
  normal.erase(0, std::min(normal.find_first_not_of('/'), normal.size()));
  while (normal.ends_with('/')) {
    normal.pop_back();
  }
  return "/" + normal;
}

// --- the keys ---

constexpr Field<PoolConfig> pool_fields[] = {
    {"name",
     [](PoolConfig& pool, const json& value, const std::string& path) {
       return store(pool.name, read_string(value, path, "at most 63 lower-case letters and digits, with dashes between", is_pool_name));
     }},
    {"kind",
     [](PoolConfig& pool, const json& value, const std::string& path) { return store(pool.kind, read_word(value, path, pool_kinds)); }},
    {"directory",
     [](PoolConfig& pool, const json& value, const std::string& path) { return store(pool.directory, read_path(value, path)); }},
    {"provisioning", [](PoolConfig& pool, const json& value,
                        const std::string& path) { return store(pool.thick, read_choice(value, path, provisionings)); }},
    {"overcommit", [](PoolConfig& pool, const json& value,
                      const std::string& path) { return store(pool.overcommit, read_number(value, path, 0.1, 100)); }},
    {"reservePercent", [](PoolConfig& pool, const json& value,
                          const std::string& path) { return store(pool.reserve_percent, read_number(value, path, 0, 90)); }},
    {"nearlyFullPercent", [](PoolConfig& pool, const json& value,
                             const std::string& path) { return store(pool.nearly_full_percent, read_number(value, path, 50, 100)); }},
    {"default",
     [](PoolConfig& pool, const json& value, const std::string& path) { return store(pool.is_default, read_bool(value, path)); }},
};

/// What must hold of one pool as a whole.
Result<PoolConfig> read_pool(const json& value, const std::string& path) {
  PoolConfig pool;
  TRYV(read_object<PoolConfig>(pool, value, path, pool_fields));
  for (const std::string_view needed : {"name", "directory"}) {
    if (!value.contains(needed)) {
      return make_error(ErrorCode::invalid_argument, key_path(path, needed) + ": expected it to be given, found nothing");
    }
  }
  if (pool.thick && value.contains("overcommit")) {
    return unexpected(key_path(path, "overcommit"),
                      "it to be left out of a pool whose provisioning is \"thick\" (nothing is promised twice)", value.at("overcommit"));
  }
  return pool;
}

/// What must hold among pools.
Result<std::vector<PoolConfig>> read_pools(const json& value, const std::string& path) {
  if (!value.is_array() || value.empty()) {
    return unexpected(path, "an array of at least one pool", value);
  }
  std::vector<PoolConfig> pools;
  std::set<std::string> names;
  std::set<std::string> directories;
  bool has_default = false;
  for (std::size_t i = 0; i < value.size(); ++i) {
    const json& element = value.at(i);
    const std::string here = path + "[" + std::to_string(i) + "]";
    TRY(PoolConfig pool, read_pool(element, here));
    if (!names.insert(pool.name).second) {
      return unexpected(here + ".name", "a name that no other pool has", element.at("name"));
    }
    if (!directories.insert(pool.directory).second) {
      return unexpected(here + ".directory", "a directory that no other pool has", element.at("directory"));
    }
    for (const PoolConfig& other : pools) {
      if (is_within(pool.directory, other.directory) || is_within(other.directory, pool.directory)) {
        return unexpected(here + ".directory", "a directory apart from pool " + other.name + "'s, " + other.directory,
                          element.at("directory"));
      }
    }
    if (pool.is_default && std::exchange(has_default, true)) {
      return unexpected(here + ".default", "at most one pool with true", element.at("default"));
    }
    pools.push_back(std::move(pool));
  }
  if (!has_default) {
    pools.front().is_default = true;
  }
  return pools;
}

constexpr Field<Config> config_fields[] = {
    {"pluginName",
     [](Config& config, const json& value, const std::string& path) {
       return store(config.plugin_name,
                    read_string(value, path, "a domain name of at most 63 characters that begins and ends with a letter", is_plugin_name));
     }},
    {"nodeId",
     [](Config& config, const json& value, const std::string& path) {
       return store(config.node_id,
                    read_string(value, path, "at most 128 letters and digits, with dashes, dots and underscores between", is_node_id));
     }},
    {"endpoint",
     [](Config& config, const json& value, const std::string& path) {
       return store(config.endpoint,
                    read_string(value, path, "unix:// and an absolute path of at most 107 bytes without \"..\"", is_endpoint));
     }},
    {"adminSocket",
     [](Config& config, const json& value, const std::string& path) {
       return store(config.admin_socket,
                    read_string(value, path, "an absolute path of at most 107 bytes without \"..\", or \"\" for none", is_socket_path));
     }},
    {"stateDir",
     [](Config& config, const json& value, const std::string& path) { return store(config.state_dir, read_path(value, path)); }},
    {"runDir", [](Config& config, const json& value, const std::string& path) { return store(config.run_dir, read_path(value, path)); }},
    {"logLevel", [](Config& config, const json& value,
                    const std::string& path) { return store(config.log_level, read_choice(value, path, log_levels)); }},
    {"logFormat", [](Config& config, const json& value,
                     const std::string& path) { return store(config.log_format, read_choice(value, path, log_formats)); }},
    {"controllerExpansion",
     [](Config& config, const json& value, const std::string& path) { return store(config.controller_expansion, read_bool(value, path)); }},
    {"maxVolumesPerNode",
     [](Config& config, const json& value, const std::string& path) {
       return store(config.max_volumes_per_node, read_integer(value, path, 0, std::nullopt));
     }},
    {"maxThreads", [](Config& config, const json& value,
                      const std::string& path) { return store(config.max_threads, read_integer(value, path, 8, 4096)); }},
    {"drainSeconds",
     [](Config& config, const json& value, const std::string& path) { return store(config.drain, read_integer(value, path, 1, 600)); }},
    {"deviceTimeoutSeconds", [](Config& config, const json& value,
                                const std::string& path) { return store(config.device_timeout, read_integer(value, path, 1, 3600)); }},
    {"toolTimeoutSeconds", [](Config& config, const json& value,
                              const std::string& path) { return store(config.tool_timeout, read_integer(value, path, 1, 604800)); }},
    {"repairIntervalSeconds", [](Config& config, const json& value,
                                 const std::string& path) { return store(config.repair_interval, read_integer(value, path, 0, 86400)); }},
    {"toolMemoryMiB", [](Config& config, const json& value,
                         const std::string& path) { return store(config.tool_memory_mib, read_integer(value, path, 0, 16777216)); }},
    {"defaultFsType", [](Config& config, const json& value,
                         const std::string& path) { return store(config.default_fs_type, read_word(value, path, fs_types)); }},
    {"pools", [](Config& config, const json& value, const std::string& path) { return store(config.pools, read_pools(value, path)); }},
};

// --- what must hold among paths ---

/// What the agent keeps in its directories: nobody else's things may lie there.
constexpr std::array<std::string_view, 3> state_names{"volumes", "undo", "lock"};
constexpr std::array<std::string_view, 5> run_names{"ledger", "workers", "lock", "key", "pools.json"};

Error misplaced(const std::string& key, const std::string& expected, const std::string& found) {
  return make_error(ErrorCode::invalid_argument, key + ": expected " + expected + ", found " + found);
}

/// `path` is none of the agent's directories, and none of what it keeps in them.
Result<void> check_apart(const Config& config, const std::string& key, const std::string& path) {
  const auto check = [&](const std::string& own_key, const std::string& own, std::span<const std::string_view> names) -> Result<void> {
    if (path == own) {
      return misplaced(key, "another path than that of " + own_key, path);
    }
    for (const std::string_view name : names) {
      if (is_within(path, own + "/" + std::string{name})) {
        return misplaced(key, "a path apart from what the agent keeps in " + own_key + " as " + std::string{name}, path);
      }
    }
    return success();
  };
  TRYV(check("stateDir", config.state_dir, state_names));
  return check("runDir", config.run_dir, run_names);
}

/// A socket stands in nobody's place, and no directory is wanted beneath it.
Result<void> check_socket(const Config& config, const std::string& key, const std::string& path) {
  TRYV(check_apart(config, key, path));
  std::vector<std::string> directories{config.state_dir, config.run_dir};
  std::ranges::transform(config.pools, std::back_inserter(directories), &PoolConfig::directory);
  for (const std::string& directory : directories) {
    if (is_within(directory, path)) {
      return misplaced(key, "a path of its own, not the directory " + directory + " or one above it", path);
    }
  }
  return success();
}

Result<void> check_paths(const Config& config) {
  for (const auto& [key, path] : {std::pair{"stateDir", &config.state_dir}, std::pair{"runDir", &config.run_dir}}) {
    if (*path == "/") {
      return misplaced(key, "a directory of the agent's own", *path);
    }
  }
  if (is_within(config.run_dir, config.state_dir) || is_within(config.state_dir, config.run_dir)) {
    return misplaced("runDir", "a directory apart from stateDir, " + config.state_dir + ", neither in it nor above it", config.run_dir);
  }
  for (std::size_t i = 0; i < config.pools.size(); ++i) {
    TRYV(check_apart(config, "pools[" + std::to_string(i) + "].directory", config.pools[i].directory));
  }
  TRYV(check_socket(config, "endpoint", endpoint_path(config.endpoint)));
  return config.admin_socket->empty() ? success() : check_socket(config, "adminSocket", *config.admin_socket);
}

}  // namespace

Result<Config> parse_config(std::string_view text) {
  TRY(const json document, parse_strict_json(text, JsonLimits{.comments = true}));
  Config config;
  TRYV(read_object<Config>(config, document, "", config_fields));
  return config;
}

Result<void> set_string(Config& config, std::string_view key, std::string_view value, std::string_view origin) {
  const json text(std::string{value});
  // A file's strings are UTF-8 or it does not parse; flags and the environment can hold any bytes.
  if (text.dump(-1, ' ', true, json::error_handler_t::replace) != text.dump(-1, ' ', true, json::error_handler_t::ignore)) {
    return unexpected(origin, "UTF-8 text", text);
  }
  const auto* const field = std::ranges::find(config_fields, key, &Field<Config>::key);
  return field->read(config, text, std::string{origin});
}

Result<void> complete_config(Config& config, std::string_view hostname) {
  if (config.node_id.empty()) {
    TRYV(set_string(config, "nodeId", hostname, "nodeId (by default the host's name)"));
  }
  if (config.endpoint.empty()) {
    TRYV(set_string(config, "endpoint", "unix://" + config.run_dir + "/csi.sock", "endpoint (by default runDir/csi.sock)"));
  }
  if (!config.admin_socket) {
    TRYV(set_string(config, "adminSocket", config.run_dir + "/admin.sock", "adminSocket (by default runDir/admin.sock)"));
  }
  if (!config.admin_socket->empty() && *config.admin_socket == endpoint_path(config.endpoint)) {
    return make_error(ErrorCode::invalid_argument, "adminSocket: expected another path than the endpoint's, found " + *config.admin_socket);
  }
  if (config.pools.empty()) {
    PoolConfig pool;
    pool.name = "default";
    pool.directory = config.state_dir + "/pools/default";
    pool.is_default = true;
    config.pools.push_back(std::move(pool));
  }
  return check_paths(config);
}

std::string to_json(const Config& config) {
  nlohmann::ordered_json pools = nlohmann::ordered_json::array();
  for (const PoolConfig& pool : config.pools) {
    nlohmann::ordered_json each{
        {"name", pool.name}, {"kind", pool.kind}, {"directory", pool.directory}, {"provisioning", provisionings[pool.thick ? 1 : 0]}};
    if (!pool.thick) {
      each["overcommit"] = pool.overcommit;
    }
    each["reservePercent"] = pool.reserve_percent;
    each["nearlyFullPercent"] = pool.nearly_full_percent;
    each["default"] = pool.is_default;
    pools.push_back(std::move(each));
  }
  const nlohmann::ordered_json document{
      {"pluginName", config.plugin_name},
      {"nodeId", config.node_id},
      {"endpoint", config.endpoint},
      {"adminSocket", config.admin_socket.value_or("")},
      {"stateDir", config.state_dir},
      {"runDir", config.run_dir},
      {"logLevel", to_string(config.log_level)},
      {"logFormat", to_string(config.log_format)},
      {"controllerExpansion", config.controller_expansion},
      {"maxVolumesPerNode", config.max_volumes_per_node},
      {"maxThreads", config.max_threads},
      {"drainSeconds", config.drain.count()},
      {"deviceTimeoutSeconds", config.device_timeout.count()},
      {"toolTimeoutSeconds", config.tool_timeout.count()},
      {"repairIntervalSeconds", config.repair_interval.count()},
      {"toolMemoryMiB", config.tool_memory_mib},
      {"defaultFsType", config.default_fs_type},
      {"pools", std::move(pools)},
  };
  return document.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

std::string_view to_string(LogLevel level) { return log_levels.at(static_cast<std::size_t>(level)); }
std::string_view to_string(LogFormat format) { return log_formats.at(static_cast<std::size_t>(format)); }

std::string endpoint_path(std::string_view endpoint) {
  constexpr std::string_view scheme = "unix:";
  if (!endpoint.starts_with(scheme)) {
    return {};
  }
  endpoint.remove_prefix(scheme.size());
  if (endpoint.starts_with("//")) {
    endpoint.remove_prefix(2);
  }
  return std::string{endpoint};
}

}  // namespace ordinald::agent
