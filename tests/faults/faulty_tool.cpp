#include "tests/faults/faulty_tool.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <stdexcept>
#include <system_error>

namespace ordinald::testing {
namespace {

fs::path directory_for(const fs::path& program) { return "/usr/lib/ordinald-fault-" + program.filename().string(); }

std::string stopping_script(const fs::path& program, int at, int signal) {
  const std::string directory = directory_for(fs::canonical(program));
  return "export LD_PRELOAD=" + directory + "/stop_at_write.so STOP_AT=" + std::to_string(at) + " STOP_SIGNAL=" + std::to_string(signal) +
         " STOP_EVENTS=" + directory + "/events\nexec -a \"$0\" \"$REAL\" \"$@\"";
}

}  // namespace

FaultyTool::FaultyTool(const fs::path& program, const std::string& body)
    : program_(fs::canonical(program)), directory_(directory_for(program_)) {
  fs::create_directory(directory_);
  fs::rename(program_, directory_ / "real");
  if (body.empty()) return;
  write_file(program_,
             "#!/bin/bash\nREAL=" + (directory_ / "real").string() + "\nreal() { (exec -a \"$0\" \"$REAL\" \"$@\"); }\n" + body + "\n");
  fs::permissions(program_, fs::perms(0755));
}

FaultyTool::~FaultyTool() {
  std::error_code error;
  fs::rename(directory_ / "real", program_, error);
  if (error) std::fprintf(stderr, "%s stays faulty: %s\n", program_.c_str(), error.message().c_str());
  fs::remove_all(directory_, error);
}

StoppedTool::StoppedTool(const fs::path& program, int at, int signal) : FaultyTool(program, stopping_script(program, at, signal)) {
  fs::copy_file(ORDINALD_STOP_AT_WRITE, directory() / "stop_at_write.so");
  const fs::path events = directory() / "events";
  if (::mkfifo(events.c_str(), 0600) != 0) throw std::system_error(errno, std::generic_category(), "mkfifo");
  // Both ends, so that nobody waits for the other to open.
  events_ = ::open(events.c_str(), O_RDWR | O_CLOEXEC);
  if (events_ < 0) throw std::system_error(errno, std::generic_category(), "open the events of " + program.string());
}

StoppedTool::~StoppedTool() { ::close(events_); }

pid_t StoppedTool::wait() {
  std::string text;
  while (text.empty() || text.back() != '\n') {
    pollfd wait = {events_, POLLIN, 0};
    char part[64];
    if (::poll(&wait, 1, 60'000) <= 0) throw std::runtime_error("the tool neither reached its point nor ended");
    const ssize_t size = ::read(events_, part, sizeof part);
    if (size > 0) text.append(part, static_cast<std::size_t>(size));
  }
  int pid = 0;
  if (std::sscanf(text.c_str(), "at %d", &pid) == 1) return pid;
  if (std::sscanf(text.c_str(), "ended %d", &writes_) != 1) throw std::runtime_error("the tool said " + text);
  return 0;
}

}  // namespace ordinald::testing
