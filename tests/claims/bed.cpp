#include "tests/claims/bed.hpp"

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <stdexcept>

#include "agent/ctl/admin_client.hpp"
#include "tests/support/leaks.hpp"
#include "tests/support/program_words.hpp"

namespace ordinald::testing {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int minute_ms = 60000;

/// In the child: never returns. Only async-signal-safe calls: the parent has gRPC's threads, and a lock of the allocator's or of the
/// environment's that one of them had at the fork is never let go here.
[[noreturn]] void run(char* const* argv, char* const* environment, Running::User user, int out, int err) {
  ::setpgid(0, 0);
  const int null = ::open("/dev/null", O_RDONLY);
  if (null < 0 || ::dup2(null, 0) < 0 || ::dup2(out, 1) < 0 || ::dup2(err, 2) < 0) ::_exit(126);
  if (user.uid != 0 && (::setgroups(0, nullptr) != 0 || ::setgid(user.gid) != 0 || ::setuid(user.uid) != 0)) ::_exit(126);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // after setuid(2), which takes it away
  if (::chdir("/") != 0) ::_exit(126);
  ::execve(argv[0], argv, environment);
  ::_exit(127);
}

/// This process's environment, with that laid over it.
std::vector<std::string> environment_with(const std::map<std::string, std::string>& settings) {
  std::vector<std::string> all;
  for (char** entry = ::environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    if (!settings.contains(text.substr(0, text.find('=')))) all.push_back(text);
  }
  for (const auto& [key, value] : settings) all.push_back(key + "=" + value);
  return all;
}

}  // namespace

Running::Running(const std::vector<std::string>& argv, const std::map<std::string, std::string>& environment, User user) {
  int out[2];
  int err[2];
  if (::pipe2(out, O_CLOEXEC) != 0 || ::pipe2(err, O_CLOEXEC) != 0) throw std::runtime_error("no pipe");
  const ProgramWords words{argv, environment_with(environment)};
  pid_ = ::fork();
  if (pid_ == 0) run(words.argv(), words.environment(), user, out[1], err[1]);
  ::close(out[1]);
  ::close(err[1]);
  out_ = out[0];
  err_ = err[0];
  if (pid_ < 0) throw std::runtime_error("no process for " + argv[0]);
}

Running::Running(Running&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      out_(std::exchange(other.out_, -1)),
      err_(std::exchange(other.err_, -1)),
      ended_(std::move(other.ended_)) {}

Running::~Running() {
  kill();
  ::close(out_);
  ::close(err_);
}

void Running::kill() {
  if (pid_ <= 0) return;
  ::kill(-pid_, SIGKILL);
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
  pid_ = -1;
  ended_.status = 1000 + SIGKILL;
}

bool Running::read_more(int timeout_ms) {
  pollfd fds[2] = {{.fd = out_, .events = POLLIN, .revents = 0}, {.fd = err_, .events = POLLIN, .revents = 0}};
  if (::poll(fds, 2, timeout_ms) <= 0) return false;
  bool open = false;
  for (int i = 0; i < 2; ++i) {
    if (fds[i].revents == 0) {
      open = open || fds[i].fd >= 0;
      continue;
    }
    char buffer[4096];
    const ssize_t got = ::read(fds[i].fd, buffer, sizeof buffer);
    if (got > 0) {
      (i == 0 ? ended_.out : ended_.err).append(buffer, static_cast<std::size_t>(got));
      open = true;
    } else {
      int& fd = i == 0 ? out_ : err_;
      ::close(std::exchange(fd, -1));
    }
  }
  return open;
}

bool Running::prints(const std::string& text) {
  const auto printed = [&] { return ended_.out.contains(text) || ended_.err.contains(text); };
  while (!printed() && read_more(minute_ms)) {
  }
  return printed();
}

Ended Running::wait() {
  const auto deadline = Clock::now() + std::chrono::milliseconds(minute_ms);
  while (Clock::now() < deadline && read_more(minute_ms)) {
  }
  int status = 0;
  if (out_ >= 0 || err_ >= 0 || ::waitpid(pid_, &status, 0) != pid_) {
    kill();
    throw std::runtime_error("it did not end; it printed: " + ended_.out + ended_.err);
  }
  pid_ = -1;
  ended_.status = WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
  return ended_;
}

ClaimBed::ClaimBed(const nlohmann::json& settings)
    : temp_("claims"), agent_(std::make_unique<AgentHandle>(temp_.path() / "agent", settings)), client_(agent_->endpoint()) {
  fs::create_directory(claims_dir());
  write_file(hosts(), "127.0.0.1\tlocalhost\n");
}

ClaimBed::~ClaimBed() {
  agent_.reset();
  release_everything_beneath("/srv");
}

nlohmann::json ClaimBed::set(const std::string& name, const nlohmann::json& keys) const {
  nlohmann::json set = {{"set", name}, {"replicas", 1}, {"volumeClaimTemplates", {{{"name", "data"}, {"size", "64MiB"}}}}};
  set.merge_patch(keys);
  return set;
}

void ClaimBed::install(const std::string& name, const nlohmann::json& keys) { write_file(set_file(name), set(name, keys).dump(2)); }

Running ClaimBed::start(const std::vector<std::string>& arguments, const std::map<std::string, std::string>& environment) {
  std::vector<std::string> argv{ORDINALCTL_PROGRAM, "--claims-dir",   claims_dir(),          "--endpoint",
                                agent_->endpoint(), "--admin-socket", agent_->admin_socket()};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  std::map<std::string, std::string> all = environment;
  all.emplace("ORDINALD_CLAIMS_RUN_DIR", run_dir());
  all.emplace("ORDINALD_HOSTS_FILE", hosts());
  return Running{argv, all, {}};
}

Ended ClaimBed::ctl(const std::vector<std::string>& arguments, const std::map<std::string, std::string>& environment) {
  return start(arguments, environment).wait();
}

void ClaimBed::start_agent() { agent_->start(); }
void ClaimBed::kill_agent() { agent_->kill(); }

void ClaimBed::reboot() {
  kill_agent();
  release_everything_beneath("/srv");
  release_everything_beneath(root());
  fs::remove_all(root() / "agent" / "run");
  fs::remove_all(run_dir());
  start_agent();
}

std::map<std::string, csi::Volume> ClaimBed::volumes() {
  auto shown = ctl::AdminClient{agent_->admin_socket()}.get("/v1/volumes");
  if (!shown) throw std::runtime_error(shown.error().message);
  std::map<std::string, std::string> claims;
  for (const auto& volume : shown.value().at("volumes")) claims[volume.at("id")] = volume.at("claim");
  std::map<std::string, csi::Volume> by_claim;
  auto all = client_.list_volumes(std::chrono::seconds(30));
  if (!all) throw std::runtime_error(all.error().message);
  for (const csi::Volume& volume : all.value()) {
    const std::string& claim = claims.at(volume.id);
    if (!by_claim.emplace(claim.substr(claim.find('/') + 1), volume).second) throw std::runtime_error("two of a claim");
  }
  return by_claim;
}

bool is_mounted(const fs::path& path) { return !mounted_at(path).path.empty(); }

}  // namespace ordinald::testing
