#include "tests/support/cgroup.hpp"

#include <linux/magic.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <stdexcept>

namespace ordinald::testing {
namespace {

/// Where the hierarchy is mounted; empty: none that the agent looks through.
std::string hierarchy() {
  for (const char* path : {"/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"}) {
    struct statfs status{};
    if (::statfs(path, &status) == 0 && (status.f_type == CGROUP2_SUPER_MAGIC || status.f_type == CGROUP_SUPER_MAGIC)) {
      return path;
    }
  }
  return {};
}

void move(const std::string& group, pid_t pid) {
  std::ofstream file{group + "/cgroup.procs"};
  file << pid << std::endl;  // flushed: one write a pid
  if (!file) {
    throw std::runtime_error("moving process " + std::to_string(pid) + " to " + group);
  }
}

}  // namespace

bool TestCgroup::possible() { return !hierarchy().empty() && ::access(hierarchy().c_str(), W_OK) == 0; }

TestCgroup::TestCgroup(const std::string& name) {
  static int made = 0;
  parent_ = hierarchy() + "/ordinald-test-" + std::to_string(::getpid()) + "-" + std::to_string(made++);
  path_ = parent_ + "/" + name;
  std::filesystem::create_directories(path_);
}

TestCgroup::~TestCgroup() {
  std::ifstream left{path_ + "/cgroup.procs"};
  for (pid_t pid = 0; left >> pid;) {
    try {
      move(hierarchy(), pid);
    } catch (const std::exception&) {  // it has ended
    }
  }
  ::rmdir(path_.c_str());
  ::rmdir(parent_.c_str());
}

void TestCgroup::add(pid_t pid) { move(path_, pid); }

}  // namespace ordinald::testing
