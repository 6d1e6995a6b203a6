#pragma once

#include <sys/types.h>

#include <cstdint>
#include <vector>

namespace ordinald::bench {

/// Bytes resident of all these processes together, each page that several of them share counted once (/proc/PID/pagemap; needs root).
/// Throws std::runtime_error when one can't be read.
std::uint64_t resident_together(const std::vector<pid_t>& pids);

}  // namespace ordinald::bench
