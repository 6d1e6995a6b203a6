#pragma once

#include <CLI/App.hpp>
#include <nlohmann/json.hpp>
#include <string>

#include "agent/ctl/console.hpp"
#include "agent/ctl/text.hpp"

/// Parts of the agent's answers as people read them; shared by several commands. Pure, but for what a Console prints.
namespace ordinald::ctl {

/// `NodeFull: what it means`, one a line, in `tone`, each after two blanks and a mark.
void print_problems(Console& console, const nlohmann::json& problems, Tone tone);

/// The pools as a table: used, promised and free space.
void print_pools(Console& console, const nlohmann::json& pools);

/// The HOLDER object: `prod/db-1 (uid …)`.
std::string holder_text(const nlohmann::json& holder);

/// Holds or publications: who, where, since when, whether it is mounted still, and the processes behind it.
void print_holds(Console& console, const nlohmann::json& holds, Time now);

/// Whether the hold's own processes are known from others', so that these are in nobody's way. An older agent does not say.
bool is_told_apart(const nlohmann::json& hold);

/// Processes that have a volume, one a line.
void print_processes(Console& console, const nlohmann::json& processes);

/// A volume's past holders, oldest first.
void print_history(Console& console, const nlohmann::json& volume, Time now);

/// What a release left: holds of others, mounts that were busy.
void print_left(Console& console, const nlohmann::json& answer);

/// The positional VOLUME of a command.
void add_volume_argument(CLI::App& command, std::string& volume);

/// `/v1/volumes/V`; the volume is named as the person did: its id, its name or its claim.
std::string volume_path(const std::string& volume);

/// `3 volumes`, `1 volume`.
std::string counted(std::int64_t number, std::string_view noun, std::string_view plural = "");

}  // namespace ordinald::ctl
