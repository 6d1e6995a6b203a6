#include "tests/support/agent_process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <utility>

#include "tests/support/temp.hpp"

namespace ordinald::testing {
namespace fs = std::filesystem;
namespace {

using Clock = std::chrono::steady_clock;

/// Long enough for a sanitizer's build on a busy machine; nothing waits for it to pass.
constexpr std::chrono::seconds start_deadline(60);

[[noreturn]] void fail_errno(const std::string& what) { throw std::system_error(errno, std::generic_category(), what); }

/// The socket that sd_notify(3) sends to.
int open_notify_socket(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) throw std::runtime_error("too long for a socket: " + path);
  path.copy(address.sun_path, path.size());
  ::unlink(path.c_str());
  const int fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || ::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) fail_errno("bind " + path);
  return fd;
}

int remaining_ms(Clock::time_point deadline) {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
  return left < 0 ? 0 : static_cast<int>(left);
}

}  // namespace

AgentProcess::AgentProcess(fs::path program, fs::path root, const nlohmann::json& settings)
    : program_(std::move(program)), root_(std::move(root)) {
  fs::create_directories(pool());
  configuration_ = {
      {"nodeId", "node-1"},
      {"endpoint", endpoint()},
      {"stateDir", (root_ / "state").string()},
      {"runDir", (root_ / "run").string()},
      {"logLevel", "debug"},
      {"pools", {{{"name", "default"}, {"directory", pool().string()}, {"default", true}}}},
  };
  configuration_.merge_patch(settings);
}

AgentProcess::~AgentProcess() {
  client_.reset();  // gRPC's client may take seconds to see that a server wants to end, and would be waited for
  if (!running()) return;
  ::kill(pid_, SIGTERM);
  if (!wait_for_end(std::chrono::seconds(30)).exited && running()) kill();
}

std::chrono::microseconds AgentProcess::start(const std::vector<std::string>& arguments,
                                              const std::map<std::string, std::string>& environment) {
  if (running()) throw std::runtime_error("the agent runs already");
  const std::string notify_path = root_ / "notify.sock";
  const int notify = open_notify_socket(notify_path);
  const Clock::time_point begin = Clock::now();
  std::map<std::string, std::string> with_notify = environment;
  with_notify["NOTIFY_SOCKET"] = notify_path;
  pid_ = spawn(arguments, with_notify, notify);
  bool ready = false;
  bool ended = false;
  while (!ready && !ended) {
    pollfd waits[2] = {{notify, POLLIN, 0}, {pidfd_, POLLIN, 0}};
    const int count = ::poll(waits, 2, remaining_ms(begin + start_deadline));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    if ((waits[0].revents & POLLIN) != 0) {
      char text[4096];
      const ssize_t size = ::recv(notify, text, sizeof(text), MSG_DONTWAIT);
      if (size > 0) ready = ("\n" + std::string(text, static_cast<std::size_t>(size)) + "\n").find("\nREADY=1\n") != std::string::npos;
    } else {
      ended = true;
    }
  }
  const auto took = std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - begin);
  ::close(notify);
  ::unlink(notify_path.c_str());
  if (ended) {
    const Ending ending = wait_for_end(std::chrono::seconds(1));
    fail("the agent ended while starting, " + std::string(ending.exited ? "status " : "signal ") + std::to_string(ending.status));
  }
  if (!ready) fail("the agent did not say READY=1");
  client_ = std::make_unique<CsiClient>(endpoint());
  return took;
}

Ending AgentProcess::run_to_end(const std::vector<std::string>& arguments, const std::map<std::string, std::string>& environment) {
  if (running()) throw std::runtime_error("the agent runs already");
  pid_ = spawn(arguments, environment, -1);
  const Ending ending = wait_for_end(start_deadline);
  if (running()) {
    kill();
    fail("the agent runs where it should have refused");
  }
  return ending;
}

Ending AgentProcess::stop(std::chrono::seconds deadline) {
  if (!running()) throw std::runtime_error("the agent doesn't run");
  ::kill(pid_, SIGTERM);
  const Ending ending = wait_for_end(deadline);
  if (running()) fail("the agent did not end within " + std::to_string(deadline.count()) + " s of SIGTERM");
  return ending;
}

void AgentProcess::kill() {
  if (!running()) throw std::runtime_error("the agent doesn't run");
  ::kill(pid_, SIGKILL);
  wait_for_end(std::chrono::seconds(60));
  if (running()) fail("the agent did not end within 60 s of SIGKILL");
}

std::string AgentProcess::log() const { return read_file(root_ / "agent.log"); }

CsiClient& AgentProcess::client() {
  if (!client_) throw std::runtime_error("the agent was never started");
  return *client_;
}

pid_t AgentProcess::spawn(const std::vector<std::string>& arguments, const std::map<std::string, std::string>& environment,
                          int notify_socket) {
  write_file(root_ / "agent.json", configuration_.dump(2) + "\n");
  std::vector<std::string> words = {program_.string(), "--config", (root_ / "agent.json").string()};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<std::string> settings;
  for (char** entry = ::environ; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    if (text.starts_with("NOTIFY_SOCKET=") || text.starts_with("WATCHDOG_") || text.starts_with("CSI_ENDPOINT=")) continue;
    settings.emplace_back(text);
  }
  for (const auto& [name, value] : environment) settings.push_back(name + "=" + value);
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  std::vector<char*> envp;
  for (std::string& setting : settings) envp.push_back(setting.data());
  envp.push_back(nullptr);

  const std::string log_path = root_ / "agent.log";
  const int log = ::open(log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (log < 0) fail_errno("open " + log_path);
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) fail_errno("fork");
  if (pid == 0) {
    // Only async-signal-safe calls: the parent has gRPC's threads.
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (::getppid() != parent) ::_exit(127);
    ::setpgid(0, 0);
    ::dup2(log, STDOUT_FILENO);
    ::dup2(log, STDERR_FILENO);
    ::execve(argv[0], argv.data(), envp.data());
    ::_exit(127);
  }
  ::close(log);
  pidfd_ = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
  if (pidfd_ < 0) {
    const int error = errno;
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    if (notify_socket >= 0) ::close(notify_socket);
    errno = error;
    fail_errno("pidfd_open");
  }
  return pid;
}

Ending AgentProcess::wait_for_end(std::chrono::milliseconds deadline) {
  const Clock::time_point until = Clock::now() + deadline;
  pollfd wait = {pidfd_, POLLIN, 0};
  while (::poll(&wait, 1, remaining_ms(until)) < 0 && errno == EINTR) {
  }
  int status = 0;
  if ((wait.revents & POLLIN) == 0 || ::waitpid(pid_, &status, 0) != pid_) return {};
  ::close(pidfd_);
  pidfd_ = -1;
  pid_ = -1;
  if (WIFEXITED(status)) return {true, WEXITSTATUS(status)};
  return {false, WTERMSIG(status)};
}

void AgentProcess::fail(const std::string& what) const {
  std::string text = log();
  if (text.size() > 4000) text.erase(0, text.size() - 4000);
  throw std::runtime_error(what + "; the end of its log:\n" + text);
}

}  // namespace ordinald::testing
