// The host's hand in a guest: does what comes over a virtio-serial port, a line each (line.hpp), several at once.
//
//   ordinald-vm-hand PORT           says `hello ready BOOT_ID`, then serves until the port ends
//
//   sh COMMAND                      bash; the status is its exit status, the text what it printed
//   csi METHOD JSON                 a call to the agent; the status is OK or the code's name, the text the answer as JSON, or the message
//   write PATH SEED BYTES           a file of that many bytes that follow from the seed, durable (fsync of file and directory) when
//   answered check PATH SEED BYTES           whether it has just these bytes agent start JSON                with these settings; the
//   status is OK once it said READY=1 agent stop | agent kill         SIGTERM or SIGKILL, and waits for its end
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <memory>
#include <mutex>
#include <random>
#include <shared_mutex>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <utility>

#include <google/protobuf/util/json_util.h>

#include "tests/support/agent_process.hpp"
#include "tests/support/csi_client.hpp"
#include "tests/vm/line.hpp"

namespace ordinald::testing {
namespace {

namespace fs = std::filesystem;

/// Held shared while a file of a volume is open, and alone while a child is made: until its exec a child has all that is open here, and
/// with it would keep a volume busy that nobody uses any more. posix_spawn comes back after the exec.
std::shared_mutex open_files;

struct Answer {
  std::string status;
  std::string text;
};

Answer failure(int error, const std::string& what) { return {std::generic_category().message(error), what}; }

Answer run_shell(const std::string& command) {
  int output[2];
  if (::pipe2(output, O_CLOEXEC) != 0) return failure(errno, "pipe");
  std::string text = command;
  std::string words[] = {"/bin/bash", "-c", text};
  char* const argv[] = {words[0].data(), words[1].data(), words[2].data(), nullptr};
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, output[1], STDOUT_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, output[1], STDERR_FILENO);
  pid_t pid = -1;
  int error = 0;
  {
    const std::unique_lock lock{open_files};
    error = ::posix_spawn(&pid, argv[0], &actions, nullptr, argv, ::environ);
  }
  ::posix_spawn_file_actions_destroy(&actions);
  ::close(output[1]);
  if (error != 0) {
    ::close(output[0]);
    return failure(error, "start bash");
  }
  std::string printed;
  char buffer[4096];
  for (ssize_t size = 0; (size = ::read(output[0], buffer, sizeof(buffer))) > 0;) printed.append(buffer, static_cast<std::size_t>(size));
  ::close(output[0]);
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  while (!printed.empty() && printed.back() == '\n') printed.pop_back();
  return {std::to_string(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status)), printed};
}

template <class Request>
Answer call_agent(CsiClient& client, const std::string& json) {
  Request request;
  if (const auto parsed = google::protobuf::util::JsonStringToMessage(json, &request); !parsed.ok())
    return {"USAGE", "not a request: " + parsed.ToString()};
  const auto reply = client.call(request, std::chrono::minutes(10));
  if (!reply.ok()) return {code_name(reply.code()), reply.error()};
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  std::string text;
  if (!google::protobuf::util::MessageToJsonString(reply.message, &text, options).ok()) return {"USAGE", "an answer that is no JSON"};
  return {"OK", text};
}

Answer call_agent(CsiClient& client, const std::string& method, const std::string& json) {
#define ORDINALD_CALL_BY_NAME(service, name) \
  if (method == #name) return call_agent<csi::v1::name##Request>(client, json);
  ORDINALD_CSI_METHODS(ORDINALD_CALL_BY_NAME)
#undef ORDINALD_CALL_BY_NAME
  return {"USAGE", "no method " + method};
}

std::string pattern(std::uint64_t seed, std::size_t bytes) {
  std::mt19937_64 random(seed);
  std::string text;
  text.reserve(bytes + 8);
  while (text.size() < bytes) {
    const std::uint64_t word = random();
    text.append(reinterpret_cast<const char*>(&word), sizeof(word));
  }
  text.resize(bytes);
  return text;
}

Answer fsync_path(const std::string& path, int flags) {
  const int fd = ::open(path.c_str(), flags | O_CLOEXEC);
  if (fd < 0) return failure(errno, "open " + path);
  const int error = ::fsync(fd) == 0 ? 0 : errno;
  ::close(fd);
  return error == 0 ? Answer{"OK", ""} : failure(error, "fsync " + path);
}

Answer write_pattern(const std::string& path, const std::string& text) {
  const std::shared_lock lock{open_files};
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return failure(errno, "open " + path);
  int error = 0;
  for (std::size_t at = 0; at < text.size() && error == 0;) {
    const ssize_t size = ::write(fd, text.data() + at, text.size() - at);
    size < 0 ? error = errno : static_cast<int>(at += static_cast<std::size_t>(size));
  }
  ::close(fd);
  if (error != 0) return failure(error, "write " + path);
  Answer answer = fsync_path(path, O_WRONLY);
  return answer.status == "OK" ? fsync_path(fs::path(path).parent_path(), O_RDONLY | O_DIRECTORY) : answer;
}

Answer check_pattern(const std::string& path, const std::string& text) {
  const std::shared_lock lock{open_files};
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return failure(errno, "open " + path);
  std::string found(text.size() + 1, '\0');  // a byte more than was written, to see that there is none; of a device only what was written
  std::size_t at = 0;
  int error = 0;
  for (ssize_t size = 0; (size = ::read(fd, found.data() + at, found.size() - at)) != 0 && error == 0;)
    size < 0 ? error = errno : static_cast<int>(at += static_cast<std::size_t>(size));
  struct stat status{};
  ::fstat(fd, &status);
  ::close(fd);
  if (error != 0) return failure(error, "read " + path);
  found.resize(S_ISBLK(status.st_mode) ? std::min(at, text.size()) : at);
  if (found == text) return {"OK", ""};
  return {"DIFFERS", path + " has not the " + std::to_string(text.size()) + " bytes that were written"};
}

class Hand {
 public:
  explicit Hand(int port) : port_(port) {}

  void serve() {
    std::ifstream boot_id("/proc/sys/kernel/random/boot_id");
    std::string text;
    std::getline(boot_id, text);
    say("hello", {"ready", text});
    std::string unread;
    char buffer[65536];
    for (;;) {
      const ssize_t size = ::read(port_, buffer, sizeof(buffer));
      if (size < 0 && errno == EINTR) continue;
      if (size <= 0) throw std::system_error(size < 0 ? errno : EPIPE, std::generic_category(), "read from the host");
      unread.append(buffer, static_cast<std::size_t>(size));
      for (std::size_t end = unread.find('\n'); end != std::string::npos; end = unread.find('\n')) {
        handle(unread.substr(0, end));
        unread.erase(0, end + 1);
      }
    }
  }

 private:
  void handle(std::string line) {
    const std::string tag = take_word(line);
    const std::string verb = take_word(line);
    std::string rest = unescape_line(line);
    if (verb == "agent") {
      // On this thread, since the agent ends with the thread that started it.
      say(tag, guarded([&] { return control_agent(rest); }));
      return;
    }
    std::thread([this, tag, verb, rest] { say(tag, guarded([&] { return work(verb, rest); })); }).detach();
  }

  template <class Work>
  Answer guarded(Work&& work) {
    try {
      return work();
    } catch (const std::exception& error) {
      return {"FAILED", error.what()};
    }
  }

  Answer work(const std::string& verb, std::string rest) {
    if (verb == "sh") return run_shell(rest);
    if (verb == "csi") {
      if (!agent_) return {"USAGE", "the agent was not started"};
      const std::string method = take_word(rest);
      return call_agent(agent_->client(), method, rest);
    }
    if (verb == "write" || verb == "check") {
      const std::string path = take_word(rest);
      const std::uint64_t seed = std::stoull(take_word(rest));
      const std::string text = pattern(seed, std::stoull(rest));
      return verb == "write" ? write_pattern(path, text) : check_pattern(path, text);
    }
    return {"USAGE", "no verb " + verb};
  }

  Answer control_agent(std::string rest) {
    const std::string what = take_word(rest);
    if (what == "start") {
      fs::create_directories("/run/vm");
      agent_ = std::make_unique<AgentProcess>(ORDINALD_PROGRAM, "/run/vm", nlohmann::json::parse(rest));
      agent_->start();
    } else if (what == "stop" && agent_) {
      const Ending ending = agent_->stop();
      if (!ending.exited || ending.status != 0) return {"FAILED", "it ended with " + std::to_string(ending.status)};
    } else if (what == "kill" && agent_) {
      agent_->kill();
    } else {
      return {"USAGE", "agent start JSON, agent stop, agent kill"};
    }
    return {"OK", ""};
  }

  void say(const std::string& tag, const Answer& answer) {
    std::string status = answer.status;
    for (char& c : status) c = c == ' ' ? '_' : c;
    const std::string line = tag + " " + status + " " + escape_line(answer.text) + "\n";
    const std::scoped_lock lock{saying_};
    for (std::size_t at = 0; at < line.size();) {
      const ssize_t size = ::write(port_, line.data() + at, line.size() - at);
      if (size < 0 && errno != EINTR) throw std::system_error(errno, std::generic_category(), "write to the host");
      if (size > 0) at += static_cast<std::size_t>(size);
    }
  }

  int port_;
  std::mutex saying_;
  std::unique_ptr<AgentProcess> agent_;
};

}  // namespace
}  // namespace ordinald::testing

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("usage: ordinald-vm-hand PORT\n", stderr);
    return 2;
  }
  ::signal(SIGPIPE, SIG_IGN);
  const int port = ::open(argv[1], O_RDWR | O_CLOEXEC);
  try {
    if (port < 0) throw std::system_error(errno, std::generic_category(), std::string("open ") + argv[1]);
    ordinald::testing::Hand(port).serve();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "ordinald-vm-hand: %s\n", error.what());
  }
  return 1;
}
