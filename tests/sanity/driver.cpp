/// Runs the official conformance suite (csi-sanity, pinned by go.mod beside this) against the agent, once for each kind of volume:
///
///   ordinald-sanity CSI_SANITY [RUN…]
///
/// Closes each run with one line that tests/run counts: `sanity xfs: 55 passed, 0 failed, 48 not offered, 12 s`. A run in which fewer
/// specs ran than the agent's capabilities make is a failed one. Needs root.

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/support/agent_process.hpp"
#include "tests/support/leaks.hpp"
#include "tests/support/mount_namespace.hpp"
#include "tests/support/temp.hpp"

namespace ordinald::testing {
namespace {

/// The suite has 103; the capabilities of this agent bring at least so many of them.
constexpr int fewest_specs = 49;
/// Each filesystem can live in it.
constexpr std::int64_t volume_size = 320 * mebi;
constexpr std::int64_t expanded_size = 640 * mebi;

struct Run {
  std::string name;
  std::string access_type;
  std::string fs_type;
  nlohmann::json settings = nlohmann::json::object();
};

/// Without the controller's expansion NodeExpand grows a mounted filesystem: xfs, since a mounted ext4 needs CAP_SYS_RESOURCE.
const std::vector<Run> runs = {
    {"ext4", "mount", "ext4"},
    {"xfs", "mount", "xfs"},
    {"btrfs", "mount", "btrfs"},
    {"block", "block", ""},
    {"xfs, no controller expansion", "mount", "xfs", {{"controllerExpansion", false}}},
    {"block, no controller expansion", "block", "", {{"controllerExpansion", false}}},
};

struct Counts {
  int passed = 0;
  int failed = 0;
  int skipped = 0;
};

/// `name="12"` in the first tag that has it.
int attribute(const std::string& text, const std::string& name) {
  const std::size_t at = text.find(" " + name + "=\"");
  return at == std::string::npos ? 0 : std::atoi(text.c_str() + at + name.size() + 3);
}

/// The totals of ginkgo's JUnit report, in its first tag: `tests` holds all, `disabled` what was skipped by capability or is pending.
Counts read_report(const std::string& path) {
  std::string text = read_file(path);
  const std::size_t tag = text.find("<testsuite ");
  if (tag == std::string::npos) throw std::runtime_error("no <testsuite> in csi-sanity's report");
  text = text.substr(tag, text.find('>', tag) - tag);
  Counts counts;
  counts.failed = attribute(text, "failures") + attribute(text, "errors");
  counts.skipped = attribute(text, "skipped") + attribute(text, "disabled");
  counts.passed = attribute(text, "tests") - counts.failed - counts.skipped;
  return counts;
}

/// Runs a program to its end with its output in the file; its exit status.
int run_program(const std::vector<std::string>& words, const std::string& output) {
  std::vector<char*> argv;
  for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  const pid_t pid = ::fork();
  if (pid < 0) throw std::runtime_error("fork");
  if (pid == 0) {
    const int fd = ::open(output.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ::dup2(fd, STDOUT_FILENO);
    ::dup2(fd, STDERR_FILENO);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  int status = 0;
  ::waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

bool run_suite(const std::string& program, const Run& run) {
  const auto begin = std::chrono::steady_clock::now();
  const TempDir temp("sanity");
  const std::filesystem::path root = temp.path();
  AgentProcess agent(ORDINALD_PROGRAM, root, run.settings);
  agent.start();

  // The suite makes both directories itself; their parent must be there.
  std::filesystem::create_directory(root / "paths");
  std::vector<std::string> words = {
      program,
      "--csi.endpoint=" + agent.endpoint(),
      "--csi.mountdir=" + (root / "paths/mount").string(),
      "--csi.stagingdir=" + (root / "paths/stage").string(),
      "--csi.testvolumesize=" + std::to_string(volume_size),
      "--csi.testvolumeexpandsize=" + std::to_string(expanded_size),
      "--csi.testvolumeaccesstype=" + run.access_type,
      "--ginkgo.junit-report=" + (root / "junit.xml").string(),
      "--ginkgo.no-color",
  };
  if (!run.fs_type.empty()) {
    write_file(root / "parameters.yaml", "csi.storage.k8s.io/fstype: " + run.fs_type + "\n");
    words.push_back("--csi.testvolumeparameters=" + (root / "parameters.yaml").string());
  }
  const int status = run_program(words, root / "output");
  Counts counts;
  std::string trouble;
  try {
    counts = read_report(root / "junit.xml");
  } catch (const std::exception& error) {
    trouble = error.what();
  }
  if (status != 0 && counts.failed == 0) trouble = "csi-sanity ended with status " + std::to_string(status);
  if (counts.passed + counts.failed < fewest_specs) trouble = "fewer than " + std::to_string(fewest_specs) + " specs ran";
  if (agent.running()) {
    const Ending ending = agent.stop();
    if (!ending.exited || ending.status != 0) trouble = "the agent ended badly after SIGTERM";
  }
  if (const std::string left = leaks_beneath(root); !left.empty()) trouble = "left behind after the suite's own clean-up:\n" + left;
  if (!trouble.empty()) ++counts.failed;
  if (counts.failed > 0) {
    std::printf("%s\n--- the agent's log\n%s\n--- %s\n", read_file(root / "output").c_str(), agent.log().c_str(), trouble.c_str());
  }
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now() - begin).count();
  std::printf("sanity %s: %d passed, %d failed, %d not offered, %lld s\n", run.name.c_str(), counts.passed, counts.failed, counts.skipped,
              static_cast<long long>(seconds));
  std::fflush(stdout);
  return counts.failed == 0;
}

}  // namespace
}  // namespace ordinald::testing

int main(int argc, char** argv) {
  using namespace ordinald::testing;
  if (argc < 2) {
    std::fprintf(stderr, "usage: ordinald-sanity CSI_SANITY [RUN…]\n");
    return 2;
  }
  const std::set<std::string> chosen(argv + 2, argv + argc);
  try {
    enter_private_mount_namespace();
    bool good = true;
    for (const Run& run : runs)
      if (chosen.empty() || chosen.contains(run.name)) good = run_suite(argv[1], run) && good;
    return good ? 0 : 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "sanity: %s\n", error.what());
    return 1;
  }
}
