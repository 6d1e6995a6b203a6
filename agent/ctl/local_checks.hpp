#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

/// What `ordinalctl doctor` sees of the node by itself, also where no agent runs. Reads only; changes nothing. Single-threaded.
namespace ordinald::ctl {

enum class Verdict : std::uint8_t { ok, warning, failed };
std::string_view to_string(Verdict verdict);

struct Check {
  std::string name;
  Verdict verdict = Verdict::ok;
  std::string detail;  ///< what was found
  std::string remedy;  ///< what to do; empty where all is well
};

/// Where the node is looked at: `root` stands before /proc, /sys, /dev, /run, /usr and /lib, so that a test can build one.
struct Node {
  std::string root;
  std::string kernel_release;  ///< uname(2)'s
  unsigned user = 0;           ///< effective uid
};
Node this_node();

std::vector<Check> local_checks(const Node& node);

/// Whether a Unix socket of the agent answers and is closed to others.
Check check_socket(const std::string& name, const std::string& path);

}  // namespace ordinald::ctl
