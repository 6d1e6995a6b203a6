#include "mount/left_behind.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <optional>
#include <utility>

#include "mount/process.hpp"
#include "mount/worker_mark.hpp"

namespace ordinald::mount {
namespace {

using std::chrono::steady_clock;

/// Names only: the files of the directory.
Result<std::vector<std::string>> list(const std::string& directory) {
  std::vector<std::string> names;
  DIR* const listing = ::opendir(directory.c_str());
  if (listing == nullptr) {
    if (errno == ENOENT) return names;
    return errno_error(errno, "read " + directory);
  }
  for (errno = 0; const dirent* entry = ::readdir(listing); errno = 0) {
    if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
  }
  const int sys_errno = errno;
  ::closedir(listing);
  if (sys_errno != 0) return errno_error(sys_errno, "read " + directory);
  return names;
}

void kill_process(const UniqueFd& pidfd) { ::syscall(SYS_pidfd_send_signal, pidfd.get(), SIGKILL, nullptr, 0); }

}  // namespace

/// One worker's file, with those of the worker and its tool that were alive when we looked.
struct LeftBehind::Entry {
  struct Alive {
    UniqueFd pidfd;
    Process process;
  };
  std::string path;
  bool any_volume = false;  ///< its mark can't be read: it may be at any
  std::vector<Alive> processes;

  void add(UniqueFd pidfd, pid_t pid, const Mark& mark, std::chrono::system_clock::time_point since) {
    processes.push_back({std::move(pidfd), {.pid = pid, .command = command_of(pid), .volume = mark.volume, .since = since}});
  }

  /// Reads what the worker wrote last, and ends the tool that it names.
  void read(UniqueFd worker, pid_t pid) {
    const UniqueFd file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW)};
    struct stat info{};
    char text[1024];
    const ssize_t size = file && ::fstat(file.get(), &info) == 0 ? ::read(file.get(), text, sizeof text) : -1;
    const auto mark = size < 0 ? std::nullopt : parse_mark({text, static_cast<std::size_t>(size)});
    const auto since = std::chrono::system_clock::from_time_t(info.st_mtim.tv_sec);
    any_volume = !mark;
    if (worker && !wait_gone(worker, {})) add(std::move(worker), pid, mark.value_or(Mark{}), since);
    if (!mark || mark->tool_pid == 0) return;
    if (UniqueFd tool = open_process(mark->tool_pid, mark->tool_start)) {
      ::kill(-mark->tool_pid, SIGKILL);
      kill_process(tool);  // alone too, in case it has no group yet
      add(std::move(tool), mark->tool_pid, *mark, since);
    }
  }

  /// The first of them that is not gone by then. Without any, the file has said all that it had to say.
  const Process* first_alive(steady_clock::time_point until) const {
    for (const Alive& alive : processes) {
      if (!wait_gone(alive.pidfd, until)) return &alive.process;
    }
    ::unlink(path.c_str());  // no other worker ever gets this name
    return nullptr;
  }
};

Result<LeftBehind> LeftBehind::collect(const std::string& run_dir) {
  const std::string directory = marks_directory(run_dir);
  TRY(const std::vector<std::string> names, list(directory));
  return collect_names(directory, names);
}

Result<LeftBehind> LeftBehind::collect_of(const std::string& run_dir, pid_t worker) {
  const std::string directory = marks_directory(run_dir);
  TRY(std::vector<std::string> names, list(directory));
  std::erase_if(names, [prefix = std::to_string(worker) + "."](const std::string& name) { return !name.starts_with(prefix); });
  return collect_names(directory, names);
}

void LeftBehind::merge(const LeftBehind& other) {
  entries_.insert(entries_.end(), other.entries_.begin(), other.entries_.end());
  std::erase_if(entries_, [](const auto& entry) { return entry->first_alive({}) == nullptr; });
}

Result<LeftBehind> LeftBehind::collect_names(const std::string& directory, const std::vector<std::string>& names) {
  struct Worker {
    std::string path;
    pid_t pid = 0;
    UniqueFd pidfd;
  };
  std::vector<Worker> workers;
  for (const std::string& name : names) {
    std::uint64_t start_time = 0;
    Worker worker;
    if (!parse_mark_name(name, worker.pid, start_time)) continue;
    worker.path = (directory + "/").append(name);
    worker.pidfd = open_process(worker.pid, start_time);
    if (worker.pidfd) kill_process(worker.pidfd);
    workers.push_back(std::move(worker));
  }
  // A mark is the last word only once its worker can't write any more: dead, or killed and in the kernel. Shared by all of them.
  const auto patience = steady_clock::now() + std::chrono::milliseconds{50};
  LeftBehind left;
  for (Worker& worker : workers) {
    if (worker.pidfd) wait_gone(worker.pidfd, patience);
    auto entry = std::make_shared<Entry>();
    entry->path = worker.path;
    entry->read(std::move(worker.pidfd), worker.pid);
    if (entry->first_alive({}) != nullptr) left.entries_.push_back(std::move(entry));
  }
  return left;
}

Result<void> LeftBehind::check(std::string_view volume, std::chrono::milliseconds patience) const {
  const auto until = steady_clock::now() + patience;
  for (const auto& entry : entries_) {
    const bool concerned = entry->any_volume || std::any_of(entry->processes.begin(), entry->processes.end(),
                                                            [&](const Entry::Alive& alive) { return alive.process.volume == volume; });
    if (!concerned) continue;
    if (const Process* process = entry->first_alive(until); process != nullptr) {
      return make_error(
          ErrorCode::unavailable,
          "volume " + std::string{volume} + " is not touched: process " + std::to_string(process->pid) + " (" + process->command +
              "), of an earlier agent or of a worker that died, is in it since " + clock_text(process->since) +
              " and can't be killed: its device does not answer (see dmesg). The volume is served again once that process is gone");
    }
  }
  return success();
}

std::vector<LeftBehind::Process> LeftBehind::alive() const {
  std::vector<Process> found;
  for (const auto& entry : entries_) {
    for (const Entry::Alive& alive : entry->processes) {
      if (!wait_gone(alive.pidfd, {})) found.push_back(alive.process);
    }
  }
  return found;
}

}  // namespace ordinald::mount
