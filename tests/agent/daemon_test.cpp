// The daemon's own behaviour, seen from outside: the real program, its exit statuses, its socket, its log and what it tells systemd.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <future>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "mount/unique_fd.hpp"
#include "tests/support/csi_client.hpp"
#include "tests/support/temp.hpp"

namespace ordinald::agent {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using mount::UniqueFd;
using testing::read_file;
using testing::TempDir;
using testing::write_file;

constexpr std::chrono::seconds patience{30};  // for what comes at once on an idle machine

int left_of(Clock::time_point until) {
  return static_cast<int>(std::max<std::int64_t>(0, std::chrono::duration_cast<std::chrono::milliseconds>(until - Clock::now()).count()));
}

/// A Unix socket bound to the path.
UniqueFd bound_socket(const std::string& path, int type) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  UniqueFd fd{::socket(AF_UNIX, type | SOCK_CLOEXEC, 0)};
  ::unlink(path.c_str());
  if (!fd || ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    throw std::runtime_error("can't bind " + path);
  }
  return fd;
}

bool can_connect(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  const UniqueFd fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  return ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

/// The program with its directories beneath `root`, and systemd's side of the notify socket.
class Daemon {
 public:
  explicit Daemon(fs::path root) : root_(std::move(root)) {}
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;
  ~Daemon() {
    if (pid_ > 0) {
      send_signal(SIGKILL);
      wait();
    }
  }

  [[nodiscard]] std::string state_dir() const { return root_ / "state"; }
  [[nodiscard]] std::string run_dir() const { return root_ / "run"; }
  [[nodiscard]] std::string socket() const { return root_ / "run" / "csi.sock"; }
  [[nodiscard]] std::string log() const { return read_file(root_ / "log"); }
  [[nodiscard]] std::string output() const { return read_file(root_ / "output"); }
  [[nodiscard]] pid_t pid() const { return pid_; }

  /// `ordinald --state-dir … --run-dir … --node-id n <arguments>`
  void launch(const std::vector<std::string>& arguments = {}, std::vector<std::string> environment = {}) {
    std::vector<std::string> words{ORDINALD_PROGRAM, "--state-dir", state_dir(), "--run-dir", run_dir(), "--node-id", "n"};
    words.insert(words.end(), arguments.begin(), arguments.end());
    launch_plain(words, std::move(environment));
  }

  void launch_plain(std::vector<std::string> words, std::vector<std::string> environment = {}) {
    const std::string notify = root_ / "notify";
    notify_ = bound_socket(notify, SOCK_DGRAM);
    environment.push_back("NOTIFY_SOCKET=" + notify);
    environment.emplace_back("PATH=/usr/sbin:/usr/bin:/sbin:/bin");
    posix_spawn_file_actions_t actions{};
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, (root_ / "output").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ::posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, (root_ / "log").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    const auto pointers = [](std::vector<std::string>& texts) {
      std::vector<char*> result;
      std::ranges::transform(texts, std::back_inserter(result), [](std::string& text) { return text.data(); });
      result.push_back(nullptr);
      return result;
    };
    const int error = ::posix_spawn(&pid_, words[0].c_str(), &actions, nullptr, pointers(words).data(), pointers(environment).data());
    ::posix_spawn_file_actions_destroy(&actions);
    if (error != 0) {
      throw std::runtime_error("can't start " + words[0]);
    }
    pidfd_.reset(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
  }

  /// Waits for a notification that has the line, and answers it whole; empty when the daemon ends or patience does.
  std::string notified(std::string_view line) {
    const auto until = Clock::now() + patience;
    for (;;) {
      pollfd waits[2] = {{.fd = notify_.get(), .events = POLLIN, .revents = 0}, {.fd = pidfd_.get(), .events = POLLIN, .revents = 0}};
      if (::poll(waits, 2, left_of(until)) <= 0 || waits[0].revents == 0) {
        return {};
      }
      char bytes[4096];
      const ssize_t length = ::recv(notify_.get(), bytes, sizeof bytes, 0);
      const std::string message{bytes, length > 0 ? static_cast<std::size_t>(length) : 0};
      if (("\n" + message + "\n").contains("\n" + std::string{line} + "\n")) {
        return message;
      }
    }
  }

  void start(const std::vector<std::string>& arguments = {}, const std::vector<std::string>& environment = {}) {
    launch(arguments, environment);
    const bool ready = !notified("READY=1").empty();
    INFO(log());
    REQUIRE(ready);
  }

  void send_signal(int number) const { ::kill(pid_, number); }

  /// Its exit status; minus the signal that ended it; -1000 when it doesn't end.
  int wait() {
    pollfd ended{.fd = pidfd_.get(), .events = POLLIN, .revents = 0};
    if (::poll(&ended, 1, left_of(Clock::now() + patience)) <= 0) {
      return -1000;
    }
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

  int stop() {
    send_signal(SIGTERM);
    return wait();
  }

  /// The process that makes workers.
  [[nodiscard]] static std::vector<pid_t> children_of(pid_t parent) {
    std::istringstream text{read_file("/proc/" + std::to_string(parent) + "/task/" + std::to_string(parent) + "/children")};
    return {std::istream_iterator<pid_t>{text}, {}};
  }

  [[nodiscard]] pid_t zygote() const {
    for (const pid_t child : children_of(pid_)) {
      if (read_file("/proc/" + std::to_string(child) + "/comm") == "ordinald-fork\n") {
        return child;
      }
    }
    throw std::runtime_error("no zygote");
  }

 private:
  fs::path root_;
  pid_t pid_ = -1;
  UniqueFd pidfd_;
  UniqueFd notify_;
};

mode_t mode_of(const std::string& path) {
  struct stat info{};
  return ::lstat(path.c_str(), &info) == 0 ? info.st_mode & 07777U : 0;
}

}  // namespace

TEST_CASE("the daemon serves on a socket of its owner's only, and SIGTERM ends it", "[daemon][root]") {
  const TempDir temp{"daemon"};
  Daemon daemon{temp.path()};
  daemon.launch();
  const std::string ready = daemon.notified("READY=1");
  INFO(daemon.log());
  CHECK_THAT(ready, Catch::Contains("STATUS=serving node n on unix://" + daemon.socket()));
  CHECK(mode_of(daemon.socket()) == 0600);
  CHECK(mode_of(daemon.state_dir()) == 0700);
  CHECK(mode_of(daemon.run_dir()) == 0700);
  CHECK(mode_of(daemon.state_dir() + "/lock") == 0600);
  CHECK(read_file(daemon.state_dir() + "/lock") == std::to_string(daemon.pid()) + "\n");
  testing::CsiClient client{"unix://" + daemon.socket()};
  const auto probe = client.call(csi::v1::ProbeRequest{});
  REQUIRE(probe.ok());
  CHECK(probe->ready().value());

  daemon.send_signal(SIGHUP);  // changes nothing
  daemon.send_signal(SIGTERM);
  CHECK_THAT(daemon.notified("STOPPING=1"),
             Catch::Contains("STATUS=draining after SIGTERM") && Catch::Contains("EXTEND_TIMEOUT_USEC=25000000"));
  CHECK(daemon.wait() == 0);
  CHECK_FALSE(fs::exists(daemon.socket()));
}

TEST_CASE("SIGINT ends it as well", "[daemon][root]") {
  const TempDir temp{"daemon"};
  Daemon daemon{temp.path()};
  daemon.start();
  daemon.send_signal(SIGINT);
  CHECK(daemon.wait() == 0);
}

TEST_CASE("CSI_ENDPOINT names the socket", "[daemon][root]") {
  const TempDir temp{"daemon"};
  Daemon daemon{temp.path()};
  daemon.start({}, {"CSI_ENDPOINT=unix://" + (temp.path() / "other.sock").string()});
  CHECK(can_connect(temp.path() / "other.sock"));
  CHECK(daemon.stop() == 0);
}

TEST_CASE("a second agent on one of the directories is refused, and told whose they are", "[daemon][root]") {
  const TempDir temp{"daemon"};
  const TempDir other_temp{"daemon"};
  Daemon first{temp.path()};
  first.start();
  Daemon second{other_temp.path()};
  const std::string other_socket = "unix://" + (other_temp.path() / "s").string();

  second.launch_plain({ORDINALD_PROGRAM, "--state-dir", first.state_dir(), "--run-dir", second.run_dir(), "--endpoint", other_socket});
  CHECK(second.wait() == 1);
  CHECK_THAT(second.log(), Catch::Contains(first.state_dir() + ": process " + std::to_string(first.pid()) + " holds"));

  second.launch_plain({ORDINALD_PROGRAM, "--state-dir", second.state_dir(), "--run-dir", first.run_dir(), "--endpoint", other_socket});
  CHECK(second.wait() == 1);
  CHECK_THAT(second.log(), Catch::Contains(first.run_dir() + ": process " + std::to_string(first.pid()) + " holds"));

  CHECK(can_connect(first.socket()));
  CHECK(first.stop() == 0);
  second.launch_plain({ORDINALD_PROGRAM, "--state-dir", first.state_dir(), "--run-dir", first.run_dir()});
  CHECK_FALSE(second.notified("READY=1").empty());
}

TEST_CASE("after kill -9 the next agent replaces the stale socket and the locks", "[daemon][root]") {
  const TempDir temp{"daemon"};
  Daemon daemon{temp.path()};
  daemon.start();
  daemon.send_signal(SIGKILL);
  CHECK(daemon.wait() == -SIGKILL);
  REQUIRE(fs::exists(daemon.socket()));
  CHECK_FALSE(can_connect(daemon.socket()));

  daemon.start();
  CHECK(can_connect(daemon.socket()));
  CHECK(daemon.stop() == 0);
}

TEST_CASE("a socket that somebody listens on, and a file that is no socket, are left alone", "[daemon][root]") {
  const TempDir temp{"daemon"};
  Daemon daemon{temp.path()};
  const std::string path = temp.path() / "taken";
  const std::vector<std::string> arguments{"--endpoint", "unix://" + path};
  {
    const UniqueFd listener = bound_socket(path, SOCK_STREAM);
    REQUIRE(::listen(listener.get(), 8) == 0);
    daemon.launch(arguments);
    CHECK(daemon.wait() == 1);
    CHECK_THAT(daemon.log(), Catch::Contains("listens on " + path));
    CHECK(can_connect(path));
  }
  fs::remove(path);
  write_file(path, "precious");
  daemon.launch(arguments);
  CHECK(daemon.wait() == 1);
  CHECK_THAT(daemon.log(), Catch::Contains(path));
  CHECK(read_file(path) == "precious");
}

TEST_CASE("a bad option or configuration: status 2, the key's path, and nothing made", "[daemon]") {
  const TempDir temp{"daemon"};
  Daemon daemon{temp.path()};
  const std::string file = temp.path() / "agent.json";
  write_file(file, R"({"pools":[{"name":"a","directory":"/a"},{"name":"b","directory":"images"}]})");
  daemon.launch({"--config", file});
  CHECK(daemon.wait() == 2);
  CHECK_THAT(daemon.log(), Catch::StartsWith("ordinald: " + file + ": pools[1].directory: expected an absolute path"));

  for (const std::vector<std::string>& arguments : std::vector<std::vector<std::string>>{
           {"--nope"}, {"--log-level", "loud"}, {"--endpoint", "tcp://127.0.0.1:1"}, {"--config", temp.path() / "missing"}}) {
    INFO(arguments[0]);
    daemon.launch(arguments);
    CHECK(daemon.wait() == 2);
    CHECK_THAT(daemon.log(), Catch::StartsWith("ordinald: ") && Catch::EndsWith("\n"));
  }
  CHECK_FALSE(fs::exists(daemon.state_dir()));
  CHECK_FALSE(fs::exists(daemon.run_dir()));
}

TEST_CASE("two directories that are one by a symlink: status 2 and both keys", "[daemon][root]") {
  const TempDir temp{"daemon"};
  Daemon daemon{temp.path()};
  const std::string pool = temp.path() / "pool";
  const std::string link = temp.path() / "link";
  fs::create_directory(pool);
  fs::create_directory_symlink(pool, link);
  const std::string file = temp.path() / "agent.json";
  write_file(file, R"({"pools":[{"name":"a","directory":")" + pool + R"("},{"name":"b","directory":")" + link + R"("}]})");
  daemon.launch({"--config", file});
  CHECK(daemon.wait() == 2);
  CHECK_THAT(daemon.log(), Catch::Contains("pools[1].directory: expected a directory apart from that of pools[0], found " + link +
                                           ", which is the same one as " + pool));

  fs::create_directory(daemon.state_dir());
  fs::create_directory_symlink(daemon.state_dir(), temp.path() / "run2");
  daemon.launch({"--run-dir", temp.path() / "run2"});
  CHECK(daemon.wait() == 2);
}

TEST_CASE("--check-config prints the effective configuration and makes nothing", "[daemon]") {
  const TempDir temp{"daemon"};
  Daemon daemon{temp.path()};
  daemon.launch({"--check-config"});
  CHECK(daemon.wait() == 0);
  const auto config = nlohmann::json::parse(daemon.output());
  CHECK(config.at("nodeId") == "n");
  CHECK(config.at("pools").at(0).at("directory") == daemon.state_dir() + "/pools/default");
  CHECK_FALSE(fs::exists(daemon.state_dir()));

  daemon.launch({"--version"});
  CHECK(daemon.wait() == 0);
  CHECK(daemon.output() == "ordinald " ORDINALD_VERSION "\n");
}

TEST_CASE("each line of a JSON log is an object", "[daemon][root]") {
  const TempDir temp{"daemon"};
  Daemon daemon{temp.path()};
  daemon.start({"--log-format", "json", "--log-level", "trace"}, {"GRPC_VERBOSITY=debug", "GRPC_TRACE=all"});
  CHECK(daemon.stop() == 0);
  CHECK_THAT(daemon.log(), Catch::Contains("GRPC_TRACE and GRPC_VERBOSITY of the environment: ignored"));
  std::istringstream lines{daemon.log()};
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    INFO(line);
    const auto entry = nlohmann::json::parse(line, nullptr, false);
    REQUIRE(entry.is_object());
    CHECK(entry.at("time").get<std::string>().size() == std::string_view{"2026-11-24T22:00:10.123Z"}.size());
    CHECK(entry.at("level").is_string());
    CHECK_FALSE(entry.at("message").get<std::string>().empty());
  }
  CHECK(count >= 3);
}

TEST_CASE("the watchdog hears from a healthy daemon", "[daemon][root]") {
  const TempDir temp{"daemon"};
  Daemon daemon{temp.path()};
  daemon.start({}, {"WATCHDOG_USEC=100000"});
  CHECK_FALSE(daemon.notified("WATCHDOG=1").empty());
  CHECK_FALSE(daemon.notified("WATCHDOG=1").empty());
  CHECK(daemon.stop() == 0);
}

TEST_CASE("without the process that makes workers it ends with a failure, for a restart to mend", "[daemon][root]") {
  const TempDir temp{"daemon"};
  Daemon daemon{temp.path()};
  daemon.start();
  REQUIRE(::kill(daemon.zygote(), SIGKILL) == 0);
  CHECK(daemon.wait() == 1);
  CHECK_THAT(daemon.log(), Catch::Contains("the process that makes workers has ended"));
  CHECK_FALSE(fs::exists(daemon.socket()));
  daemon.start();
  CHECK(daemon.stop() == 0);
}

TEST_CASE("SIGTERM ends it within its deadline while a call hangs", "[daemon][root]") {
  const TempDir temp{"daemon"};
  Daemon daemon{temp.path()};
  const std::string file = temp.path() / "agent.json";
  write_file(file, R"({"drainSeconds": 2})");
  daemon.start({"--config", file});
  // No worker is made, and those that there are are gone, so a call waits.
  const pid_t zygote = daemon.zygote();
  REQUIRE(::kill(zygote, SIGSTOP) == 0);
  for (const pid_t worker : Daemon::children_of(zygote)) {
    ::kill(worker, SIGKILL);
  }

  testing::CsiClient client{"unix://" + daemon.socket()};
  csi::v1::CreateVolumeRequest create;
  create.set_name("v");
  *create.add_volume_capabilities() = testing::mount_capability(testing::single_node_writer);
  auto hanging = std::async(std::launch::async, [&client, create] { return client.call(create); });
  // Once the call holds the volume, another one is told so.
  const auto until = Clock::now() + patience;
  auto second = client.call(create, std::chrono::milliseconds{300});
  while (second.code() != grpc::StatusCode::ABORTED && Clock::now() < until) {
    second = client.call(create, std::chrono::milliseconds{300});
  }
  REQUIRE(second.code() == grpc::StatusCode::ABORTED);

  const auto begin = Clock::now();
  CHECK(daemon.stop() == 0);
  CHECK(Clock::now() - begin < std::chrono::seconds{4});
  CHECK_THAT(daemon.log(), Catch::Contains("calls still run"));
  CHECK_FALSE(hanging.get().ok());
  CHECK_FALSE(fs::exists(daemon.socket()));
  daemon.start();
  CHECK(daemon.stop() == 0);
}

TEST_CASE("a pool's file system that is not mounted when the daemon starts: a delete waits for it", "[daemon][root]") {
  const TempDir temp{"daemon"};
  Daemon daemon{temp.path()};
  const fs::path pool = daemon.state_dir() + "/pools/default";
  const fs::path disk = temp.path() / "disk";
  fs::create_directories(pool);
  fs::create_directories(disk);
  REQUIRE(::mount("disk", disk.c_str(), "tmpfs", 0, "size=64m") == 0);
  const auto mount_pool = [&] { return ::mount(disk.c_str(), pool.c_str(), nullptr, MS_BIND, nullptr); };
  REQUIRE(mount_pool() == 0);
  daemon.start();
  csi::v1::CreateVolumeRequest create;
  create.set_name("v");
  create.mutable_capacity_range()->set_required_bytes(16 * testing::mebi);
  *create.add_volume_capabilities() = testing::mount_capability(testing::single_node_writer);
  const auto made = testing::CsiClient{"unix://" + daemon.socket()}.call(create);
  REQUIRE(made.ok());
  csi::v1::DeleteVolumeRequest remove;
  remove.set_volume_id(made->volume().volume_id());
  const fs::path image = disk / (made->volume().volume_id() + ".img");
  REQUIRE(fs::exists(image));
  REQUIRE(daemon.stop() == 0);

  REQUIRE(::umount(pool.c_str()) == 0);
  daemon.start();
  create.set_name("w");
  {
    testing::CsiClient client{"unix://" + daemon.socket()};
    CHECK(client.call(remove).code() == grpc::StatusCode::FAILED_PRECONDITION);
    CHECK(client.call(create).code() == grpc::StatusCode::UNAVAILABLE);
    CHECK(fs::is_empty(pool));
    CHECK(fs::exists(image));
    REQUIRE(mount_pool() == 0);  // it comes late
    CHECK(client.call(remove).ok());
    CHECK_FALSE(fs::exists(image));
    CHECK(client.call(create).ok());
  }
  CHECK(daemon.stop() == 0);
}

}  // namespace ordinald::agent
