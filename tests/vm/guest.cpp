#include "tests/vm/guest.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <stdexcept>
#include <system_error>

#include "tests/vm/line.hpp"

namespace ordinald::testing {
namespace {

int open_or_throw(const std::filesystem::path& path, int flags) {
  const int fd = ::open(path.c_str(), flags | O_CLOEXEC);
  if (fd < 0) throw std::system_error(errno, std::generic_category(), "open " + path.string());
  return fd;
}

}  // namespace

Guest::Guest(const std::filesystem::path& directory)
    : to_(open_or_throw(directory / "hand.in", O_RDWR)),  // so that it can be opened, and written to, when the guest is no more
      from_(open_or_throw(directory / "hand.out", O_RDONLY)),
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  std::ifstream(directory / "pid") >> pid_;
  if (pid_ <= 1) throw std::runtime_error("no guest runs in " + directory.string());
}

Guest::~Guest() {
  for (const int fd : {to_, from_, wake_}) ::close(fd);
}

Answer Guest::ask(const std::string& verb, const std::string& rest) {
  std::unique_lock lock{mutex_};
  if (lost_) throw PowerLost{};
  const std::uint64_t tag = next_tag_++;
  const std::string line = std::to_string(tag) + " " + verb + " " + escape_line(rest) + "\n";
  if (::write(to_, line.data(), line.size()) != static_cast<ssize_t>(line.size()))
    throw std::system_error(errno, std::generic_category(), "write to the guest");
  changed_.wait(lock, [&] { return lost_ || answers_.contains(tag); });
  const auto found = answers_.find(tag);
  if (found == answers_.end()) throw PowerLost{};
  Answer answer = std::move(found->second);
  answers_.erase(found);
  return answer;
}

void Guest::wake() {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t size = ::write(wake_, &one, sizeof(one));
}

void Guest::begins(const std::string& operation) {
  const std::scoped_lock lock{mutex_};
  if (planned_ && !cut_at_ && plan_.operation == operation && answered_ - plan_from_ >= plan_.answers) {
    cut_at_ = Clock::now() + plan_.later;
    wake();
  }
}

void Guest::plan(const CutPlan& plan) {
  const std::scoped_lock lock{mutex_};
  planned_ = true;
  plan_ = plan;
  plan_from_ = answered_;
}

bool Guest::run(const std::function<bool()>& done, std::chrono::seconds deadline) {
  const Clock::time_point until = Clock::now() + deadline;
  while (!done()) {
    Clock::time_point next = until;
    {
      const std::scoped_lock lock{mutex_};
      // An operation that never comes is not waited for for ever.
      const std::uint64_t since = answered_ - plan_from_;
      if (planned_ && !cut_at_ && since >= plan_.answers && (plan_.operation.empty() || since >= plan_.answers + 60))
        cut_at_ = Clock::now() + plan_.later;
      if (cut_at_) next = std::min(next, *cut_at_);
    }
    const auto now = Clock::now();
    if (cut_at_ && now >= *cut_at_) {
      cut();
      return true;
    }
    if (now >= until) throw std::runtime_error("the guest hangs: it is not done after " + std::to_string(deadline.count()) + " s");
    pollfd waits[2] = {{from_, POLLIN, 0}, {wake_, POLLIN, 0}};
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(next - now).count();
    if (::poll(waits, 2, static_cast<int>(left)) < 0 && errno != EINTR) throw std::system_error(errno, std::generic_category(), "poll");
    if (waits[1].revents != 0) {
      std::uint64_t count = 0;
      [[maybe_unused]] const ssize_t size = ::read(wake_, &count, sizeof(count));
    }
    if ((waits[0].revents & (POLLIN | POLLHUP)) != 0 && !read_some()) throw std::runtime_error("the guest ended by itself");
  }
  return false;
}

bool Guest::read_some() {
  char buffer[65536];
  const ssize_t size = ::read(from_, buffer, sizeof(buffer));
  if (size <= 0) return size < 0 && errno == EINTR;
  unread_.append(buffer, static_cast<std::size_t>(size));
  const std::scoped_lock lock{mutex_};
  for (std::size_t end = unread_.find('\n'); end != std::string::npos; end = unread_.find('\n')) {
    std::string line = unread_.substr(0, end);
    unread_.erase(0, end + 1);
    const std::uint64_t tag = std::stoull(take_word(line));
    std::string status = take_word(line);
    answers_[tag] = {std::move(status), unescape_line(line)};
    ++answered_;
  }
  changed_.notify_all();
  return true;
}

void Guest::cut() {
  ::kill(pid_, SIGKILL);
  // What it said before is still in the pipe; the pipe ends when QEMU has.
  while (read_some()) {
  }
  const std::scoped_lock lock{mutex_};
  lost_ = true;
  changed_.notify_all();
}

}  // namespace ordinald::testing
