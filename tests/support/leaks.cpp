#include "tests/support/leaks.hpp"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace ordinald::testing {
namespace fs = std::filesystem;

namespace {

bool is_beneath(std::string_view path, const std::string& directory) {
  return path.starts_with(directory) && (path.size() == directory.size() || path[directory.size()] == '/' || path[directory.size()] == ' ');
}

/// proc_pid_mountinfo(5): octal escapes for blank, tab, newline and backslash.
std::string unescape(std::string_view text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      int value = 0;
      std::from_chars(text.data() + i + 1, text.data() + i + 4, value, 8);
      plain += static_cast<char>(value);
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

std::string first_line(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

}  // namespace

std::vector<Mounted> mount_table() {
  std::ifstream file("/proc/self/mountinfo");
  if (!file) throw std::runtime_error("can't read /proc/self/mountinfo");
  std::vector<Mounted> table;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string skipped;
    std::string path;
    Mounted entry;
    words >> skipped >> skipped >> skipped >> skipped >> path >> entry.options;
    while (words >> skipped && skipped != "-") {
    }
    std::string source;
    words >> entry.fs_type >> source >> entry.super_options;
    entry.path = unescape(path);
    entry.source = unescape(source);
    table.push_back(std::move(entry));
  }
  return table;
}

Mounted mounted_at(const fs::path& path) {
  Mounted found;
  for (Mounted& entry : mount_table())
    if (entry.path == path) found = std::move(entry);
  return found;
}

std::vector<std::string> mounts_beneath(const fs::path& directory) {
  std::vector<std::string> found;
  for (const Mounted& entry : mount_table())
    if (is_beneath(entry.path, directory)) found.push_back(entry.path);
  return found;
}

std::vector<LoopDevice> loops_beneath(const fs::path& directory) {
  std::vector<LoopDevice> found;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator("/sys/block", error)) {
    const std::string name = entry.path().filename();
    if (!name.starts_with("loop")) continue;
    const std::string backing = first_line(entry.path() / "loop/backing_file");
    if (is_beneath(backing, directory)) found.push_back({"/dev/" + name, backing, first_line(entry.path() / "loop/autoclear") == "1"});
  }
  return found;
}

std::vector<pid_t> processes_of(const fs::path& program) {
  std::vector<pid_t> found;
  for (const fs::directory_entry& entry : fs::directory_iterator("/proc")) {
    pid_t pid = 0;
    const std::string name = entry.path().filename();
    if (std::from_chars(name.data(), name.data() + name.size(), pid).ptr != name.data() + name.size()) continue;
    std::error_code error;
    const fs::path exe = fs::read_symlink(entry.path() / "exe", error);  // a zombie has none
    if (!error && exe == program) found.push_back(pid);
  }
  return found;
}

std::string leaks_beneath(const fs::path& directory) {
  std::string text;
  for (const std::string& mount : mounts_beneath(directory)) text += "mounted: " + mount + "\n";
  for (const LoopDevice& loop : loops_beneath(directory)) text += "loop device: " + loop.path + " on " + loop.backing_file + "\n";
  return text;
}

}  // namespace ordinald::testing
