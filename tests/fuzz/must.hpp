#pragma once

#include <cstdio>
#include <cstdlib>
#include <source_location>

namespace ordinald::fuzz {

/// What must be so of every input; the line of what is not, and libFuzzer keeps the input.
inline void must(bool holds, std::source_location where = std::source_location::current()) {
  if (holds) return;
  std::fprintf(stderr, "%s:%u: not so\n", where.file_name(), where.line());
  std::abort();
}

}  // namespace ordinald::fuzz
