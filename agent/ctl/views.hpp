#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "agent/ctl/console.hpp"

/// Parts of the agent's answers as people read them; shared by several commands. Pure, but for what a Console prints.
namespace ordinald::ctl {

/// `NodeFull: what it means`, one a line, in `tone`, each after two blanks and a mark.
void print_problems(Console& console, const nlohmann::json& problems, Tone tone);

/// The pools as a table: used, promised and free space.
void print_pools(Console& console, const nlohmann::json& pools);

/// `3 volumes`, `1 volume`.
std::string counted(std::int64_t number, std::string_view noun);

}  // namespace ordinald::ctl
