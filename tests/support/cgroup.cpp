#include "tests/support/cgroup.hpp"

#include <linux/magic.h>
#include <poll.h>
#include <signal.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <vector>

namespace ordinald::testing {
namespace {

/// Where the hierarchy is mounted; empty: none that the agent looks through.
std::string found_hierarchy() {
  for (const char* path : {"/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"}) {
    struct statfs status{};
    if (::statfs(path, &status) == 0 && (status.f_type == CGROUP2_SUPER_MAGIC || status.f_type == CGROUP_SUPER_MAGIC)) {
      return path;
    }
  }
  return {};
}

/// The groups beneath it, the deepest first, and itself.
std::vector<std::string> groups_in(const std::string& group) {
  std::vector<std::string> groups;
  for (const auto& entry : std::filesystem::directory_iterator{group}) {
    if (entry.is_directory()) {
      std::ranges::copy(groups_in(entry.path()), std::back_inserter(groups));
    }
  }
  groups.push_back(group);
  return groups;
}

std::vector<pid_t> processes(const std::string& group) {
  std::vector<pid_t> pids;
  for (const std::string& each : groups_in(group)) {
    std::ifstream file{each + "/cgroup.procs"};
    pids.insert(pids.end(), std::istream_iterator<pid_t>{file}, std::istream_iterator<pid_t>{});
  }
  return pids;
}

void move(const std::string& group, pid_t pid) {
  std::ofstream file{group + "/cgroup.procs"};
  file << pid << std::endl;  // flushed: one write a pid
  if (!file) {
    throw std::runtime_error("moving process " + std::to_string(pid) + " to " + group);
  }
}

}  // namespace

bool TestCgroup::possible() { return !found_hierarchy().empty() && ::access(found_hierarchy().c_str(), W_OK) == 0; }

TestCgroup::TestCgroup(const std::string& name, const std::string& hierarchy) : root_(hierarchy.empty() ? found_hierarchy() : hierarchy) {
  static int made = 0;
  parent_ = root_ + "/ordinald-test-" + std::to_string(::getpid()) + "-" + std::to_string(made++);
  path_ = parent_ + "/" + name;
  std::filesystem::create_directories(path_);
  if (::access((path_ + "/cgroup.procs").c_str(), W_OK) != 0) {
    throw std::runtime_error(path_ + " is no control group");
  }
}

TestCgroup::~TestCgroup() {
  for (const pid_t pid : processes(path_)) {
    try {
      move(root_, pid);
    } catch (const std::exception&) {  // it has ended
    }
  }
  for (const std::string& each : groups_in(path_)) {
    ::rmdir(each.c_str());
  }
  for (std::string path = path_; path.size() >= parent_.size(); path.resize(path.rfind('/'))) {
    ::rmdir(path.c_str());
  }
}

void TestCgroup::add(pid_t pid) { move(path_, pid); }

void TestCgroup::kill_all() {
  // Again for what was forked meanwhile. A process that was killed stays in its group until it has ended, which takes it no time.
  for (auto pids = processes(path_); !pids.empty(); pids = processes(path_)) {
    for (const pid_t pid : pids) {
      const int fd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
      ::kill(pid, SIGKILL);
      if (pollfd ended{.fd = fd, .events = POLLIN, .revents = 0}; fd >= 0) {
        ::poll(&ended, 1, -1);
        ::close(fd);
      }
    }
  }
}

}  // namespace ordinald::testing
