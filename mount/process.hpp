#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <string>

#include "mount/result.hpp"
#include "mount/unique_fd.hpp"

/// What is said of a process by its pid and its start time together: pids are reused, the pair is not (proc_pid_stat(5), pidfd_open(2)).
/// All of this needs the pid namespace in which the pid was given: the agent's container shares the host's.
///
/// Threading: free functions without state.
namespace ordinald::mount {

/// Field 22 of /proc/PID/stat, in clock ticks since boot. not_found: no such process.
Result<std::uint64_t> start_time_of(pid_t pid);

/// pidfd_open(2), which Debian 12's header declares without C linkage. Empty: errno says why.
UniqueFd open_pidfd(pid_t pid);

/// A pidfd of the process, if it is the one that started then (a zombie whose threads hang counts). Empty: it is gone.
UniqueFd open_process(pid_t pid, std::uint64_t start_time);

/// Whether the process, with every thread of it, is gone by then. No sleep: it polls the pidfd.
bool wait_gone(const UniqueFd& pidfd, std::chrono::steady_clock::time_point until);

/// `comm` of the process; empty when it is gone.
std::string command_of(pid_t pid);

/// `2026-01-31T21:03:04Z`: what hangs may hang for days.
std::string clock_text(std::chrono::system_clock::time_point when);

/// A name for ps and top, of 15 bytes at most; each signal as it was when the system started, none blocked.
void become_plain_process(const char* name);

}  // namespace ordinald::mount
