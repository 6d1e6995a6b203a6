#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string_view>

#include "mount/result.hpp"
#include "mount/tool_namespace.hpp"
#include "mount/types.hpp"

/// Child programs, by rule 8 of the design: absolute argv, no shell, a deadline, bounded output, a process group of its own, a clean
/// environment, no inherited descriptor, a mount namespace whose /dev holds `null` and its own device.
///
/// Threading: the calling process has one thread (a worker, a test): the child does more between fork and exec than others allow.
namespace ordinald::mount {

/// How much of stdout and stderr is kept: the end of it.
inline constexpr std::size_t kept_output = 16'384;

/// Called in the child before it can act, with its pid and start time: writes down that it runs. An error and the program is not started.
using ToolMark = std::function<Result<void>(pid_t pid, std::uint64_t start_time, std::string_view program)>;

/// Runs the program until it exits or its deadline passes; then its whole process group is killed and it is reaped. Descendants that
/// keep its output open are not waited for, and are killed with the group.
///
/// The child dies with the caller (PR_SET_PDEATHSIG). Its address space is bounded, it is the out-of-memory killer's first choice, and
/// leaves no core. Errors: invalid_argument: argv isn't absolute. internal: it could not be started; a program that isn't installed is
/// named.
Result<ToolOutcome> run_command(const ToolRequest& request, const ToolNamespace& tools, const ToolMark& mark);

}  // namespace ordinald::mount
