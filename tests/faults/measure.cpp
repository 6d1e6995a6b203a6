#include "tests/faults/measure.hpp"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <map>
#include <mutex>

namespace ordinald::testing {
namespace fs = std::filesystem;
namespace {

std::mutex mutex;
std::map<std::string, int> faults;

std::string directory_of(pid_t pid) { return "/proc/" + std::to_string(pid); }

/// The state and the parent, of /proc/PID/stat; the program's name before them may hold anything but a `)`.
bool read_stat(pid_t pid, char& state, pid_t& parent) {
  std::ifstream file(directory_of(pid) + "/stat");
  std::string text;
  if (!std::getline(file, text)) return false;
  const auto end = text.rfind(')');
  return end != std::string::npos && std::sscanf(text.c_str() + end + 1, " %c %d", &state, &parent) == 2;
}

}  // namespace

void count_fault(const std::string& group) {
  const std::lock_guard lock(mutex);
  ++faults[group];
}

void print_fault_counts() {
  const std::lock_guard lock(mutex);
  std::string text;
  for (const auto& [group, number] : faults) text += (text.empty() ? "" : ", ") + group + " " + std::to_string(number);
  if (!text.empty()) print_figure("faults: " + text);
}

void print_figure(const std::string& text) {
  std::printf("COUNT: %s\n", text.c_str());
  std::fflush(stdout);
}

double timed_ms(const std::function<void()>& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

std::string two_digits(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f", value);
  return text;
}

std::vector<pid_t> process_tree(pid_t root) {
  std::multimap<pid_t, pid_t> children;
  for (const fs::directory_entry& entry : fs::directory_iterator("/proc")) {
    const std::string name = entry.path().filename();
    pid_t pid = 0;
    if (std::from_chars(name.data(), name.data() + name.size(), pid).ptr != name.data() + name.size()) continue;
    char state = '?';
    pid_t parent = 0;
    if (read_stat(pid, state, parent)) children.emplace(parent, pid);
  }
  std::vector<pid_t> tree = {root};
  for (std::size_t i = 0; i < tree.size(); ++i) {
    const auto [begin, end] = children.equal_range(tree[i]);
    for (auto child = begin; child != end; ++child) tree.push_back(child->second);
  }
  return tree;
}

std::uint64_t resident(const std::vector<pid_t>& pids) {
  std::uint64_t kibibytes = 0;
  for (const pid_t pid : pids) {
    std::ifstream file(directory_of(pid) + "/smaps_rollup");
    for (std::string line; std::getline(file, line);) {
      unsigned long long value = 0;
      if (std::sscanf(line.c_str(), "Pss: %llu kB", &value) == 1) kibibytes += value;
    }
  }
  return kibibytes * 1024;
}

std::size_t open_descriptors(pid_t pid) {
  std::error_code error;
  std::size_t number = 0;
  for (fs::directory_iterator entry(directory_of(pid) + "/fd", error), end; !error && entry != end; entry.increment(error)) ++number;
  return number;
}

char state_of(pid_t pid) {
  char state = '?';
  pid_t parent = 0;
  read_stat(pid, state, parent);
  return state;
}

}  // namespace ordinald::testing
