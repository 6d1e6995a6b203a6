#pragma once

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "agent/config.hpp"
#include "mount/kernel.hpp"

/// What only the agent can see of the node it runs on, each with a verdict (`ok`, `warning`, `failed`) and a remedy.
namespace ordinald::agent {

nlohmann::json check(const char* name, const char* verdict, const std::string& detail, const std::string& remedy);

/// Those that wait for nothing: kernel, capabilities, loop devices, mount propagation, the agent's directories.
nlohmann::json quick_checks(const Config& config);

/// By the tool's name; empty: it was asked, and did not say.
using ToolVersions = std::map<std::string, std::string>;
/// Runs each in a worker, as the agent runs them.
ToolVersions tool_versions(mount::Kernel& kernel);
nlohmann::json check_tools(const ToolVersions& versions);

}  // namespace ordinald::agent
