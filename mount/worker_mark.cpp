#include "mount/worker_mark.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <utility>

#include "mount/crash_point.hpp"
#include "mount/process.hpp"

namespace ordinald::mount {
namespace {

/// Every write is that long: a shorter line leaves nothing of a longer one behind.
constexpr std::size_t mark_size = 512;

/// Tab and newline have a meaning in the line.
std::string escaped(std::string_view text) {
  std::string safe;
  for (const char c : text) {
    if (c == '\\' || c == '\t' || c == '\n') {
      safe += '\\';
      safe += c == '\\' ? '\\' : c == '\t' ? 't' : 'n';
    } else {
      safe += c;
    }
  }
  return safe;
}

std::string unescaped(std::string_view text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 1 < text.size()) {
      ++i;
      plain += text[i] == 't' ? '\t' : text[i] == 'n' ? '\n' : text[i];
    } else {
      plain += text[i];
    }
  }
  return plain;
}

template <class T>
bool take_number(std::string_view& text, T& number) {
  const auto [end, trouble] = std::from_chars(text.begin(), text.end(), number);
  if (trouble != std::errc{} || end == text.end() || *end != ' ') return false;
  text.remove_prefix(static_cast<std::size_t>(end - text.begin()) + 1);
  return true;
}

}  // namespace

std::string marks_directory(const std::string& run_dir) { return run_dir + "/workers"; }

bool parse_mark_name(std::string_view name, pid_t& pid, std::uint64_t& start_time) {
  const char* const end = name.end();
  const auto first = std::from_chars(name.begin(), end, pid);
  if (first.ec != std::errc{} || first.ptr == end || *first.ptr != '.' || pid <= 0) return false;
  const auto second = std::from_chars(first.ptr + 1, end, start_time);
  return second.ec == std::errc{} && second.ptr == end;
}

std::optional<Mark> parse_mark(std::string_view text) {
  if (text.empty()) return Mark{};
  const std::size_t end = text.find('\n');
  if (end == std::string_view::npos) return std::nullopt;
  std::string_view line = text.substr(0, end);
  const std::size_t tab = line.find('\t');
  Mark mark;
  mark.volume = unescaped(line.substr(0, tab));
  if (tab != std::string_view::npos) {
    line.remove_prefix(tab + 1);
    if (!take_number(line, mark.tool_pid) || !take_number(line, mark.tool_start) || mark.tool_pid <= 0) return std::nullopt;
    mark.tool = line;
  }
  return mark;
}

Result<WorkerMark> WorkerMark::open(const std::string& run_dir) {
  TRY(const std::uint64_t started, start_time_of(::getpid()));
  std::string path = marks_directory(run_dir) + "/" + std::to_string(::getpid()) + "." + std::to_string(started);
  UniqueFd fd{::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600)};
  if (!fd) return errno_error(errno, "create " + path);
  acted("making", path);
  return WorkerMark{std::move(fd), std::move(path)};
}

Result<void> WorkerMark::set_volume(std::string_view volume) {
  std::string safe = escaped(volume);
  if (safe == volume_) return success();
  TRYV(write(safe));
  volume_ = std::move(safe);
  return success();
}

Result<void> WorkerMark::set_tool(pid_t pid, std::uint64_t start_time, std::string_view program) {
  return write(volume_ + "\t" + std::to_string(pid) + " " + std::to_string(start_time) + " " + escaped(program.substr(0, 64)));
}

Result<void> WorkerMark::clear_tool() { return write(volume_); }

void WorkerMark::remove() { ::unlink(path_.c_str()); }

Result<void> WorkerMark::write(std::string line) {
  if (line.size() >= mark_size) return make_error(ErrorCode::invalid_argument, "a volume id is too long to be written to " + path_);
  line.resize(mark_size, '\n');
  const ssize_t written = ::pwrite(fd_.get(), line.data(), line.size(), 0);
  if (written == static_cast<ssize_t>(line.size())) {
    acted("marking", path_);
    return success();
  }
  return errno_error(written < 0 ? errno : ENOSPC, "write " + path_ + " (nothing is done to a volume before it is noted there)");
}

}  // namespace ordinald::mount
