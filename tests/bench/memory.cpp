#include "tests/bench/memory.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <fstream>
#include <stdexcept>
#include <string>
#include <unordered_set>

#include "mount/unique_fd.hpp"

namespace ordinald::bench {

std::uint64_t resident_together(const std::vector<pid_t>& pids) {
  constexpr std::uint64_t page = 4096;
  constexpr std::uint64_t present = std::uint64_t{1} << 63U;
  constexpr std::uint64_t frame_mask = (std::uint64_t{1} << 55U) - 1;
  std::unordered_set<std::uint64_t> frames;
  for (const pid_t pid : pids) {
    const std::string directory = "/proc/" + std::to_string(pid);
    const mount::UniqueFd pagemap{::open((directory + "/pagemap").c_str(), O_RDONLY | O_CLOEXEC)};
    std::ifstream maps{directory + "/maps"};
    if (!pagemap || !maps) {
      throw std::runtime_error("reading the pages of process " + std::to_string(pid));
    }
    std::string line;
    while (std::getline(maps, line)) {
      if (line.find("[vsyscall]") != std::string::npos) {
        continue;
      }
      const auto dash = line.find('-');
      const std::uint64_t begin = std::stoull(line.substr(0, dash), nullptr, 16);
      const std::uint64_t end = std::stoull(line.substr(dash + 1), nullptr, 16);
      std::vector<std::uint64_t> entries((end - begin) / page);
      const ssize_t got = ::pread(pagemap.get(), entries.data(), entries.size() * sizeof(std::uint64_t),
                                  static_cast<off_t>(begin / page * sizeof(std::uint64_t)));
      if (got < 0) {
        continue;  // the mapping went in between
      }
      for (std::size_t i = 0; i < static_cast<std::size_t>(got) / sizeof(std::uint64_t); ++i) {
        if ((entries[i] & present) != 0) {
          frames.insert(entries[i] & frame_mask);
        }
      }
    }
  }
  return frames.size() * page;
}

}  // namespace ordinald::bench
