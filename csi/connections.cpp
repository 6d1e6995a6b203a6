#include "csi/connections.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <linux/sockios.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>
#include <string_view>
#include <thread>
#include <utility>

#include "csi/redact.hpp"

namespace ordinald::csi {
namespace {

using std::chrono::milliseconds;

/// What a client sends first, whatever it wants (RFC 9113, section 3.4).
constexpr std::string_view preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
constexpr milliseconds between_looks{5000};
constexpr milliseconds between_lines{10'000};

pid_t process_of(int socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  return ::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 ? peer.pid : 0;
}

/// `process 123 (kubelet)`.
std::string name_of(pid_t process) {
  if (process == 0) {
    return "a process outside of this pid namespace";
  }
  std::string command;
  std::ifstream file{"/proc/" + std::to_string(process) + "/comm"};
  std::getline(file, command);
  return fmt::format("process {} ({})", process, command.empty() ? "gone" : one_line(command));
}

/// 0: no socket any more.
ino_t inode_of(int socket) {
  struct stat info{};
  return ::fstat(socket, &info) == 0 && S_ISSOCK(info.st_mode) ? info.st_ino : 0;
}

}  // namespace

mount::Result<std::unique_ptr<Connections>> Connections::open(const Listener& listener, const Limits& limits,
                                                              std::shared_ptr<const mount::Log> log, std::function<void(int)> serve) {
  OwnFd epoll{::epoll_create1(EPOLL_CLOEXEC)};
  epoll_event event{.events = EPOLLIN, .data = {.fd = listener.handle()}};
  if (epoll.get() < 0 || ::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, listener.handle(), &event) != 0) {
    return mount::errno_error(errno, fmt::format("can't wait for connections on {}", listener.path()));
  }
  return std::unique_ptr<Connections>{new Connections{listener, limits, std::move(log), std::move(serve), std::move(epoll)}};
}

void Connections::run() {
  std::array<epoll_event, 64> events{};
  while (true) {
    const int ready = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), patience(Clock::now()));
    const auto now = Clock::now();
    for (int i = 0; i < ready; ++i) {
      const epoll_event& event = events.at(static_cast<std::size_t>(i));
      if (event.data.fd != listener_.handle()) {
        greet(event.data.fd, (event.events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0, now);
        continue;
      }
      if ((event.events & EPOLLHUP) != 0) {
        waiting_.clear();
        return;  // closed; accept(2) that does not wait says only that there is nothing
      }
      accept_all(now);
    }
    close_silent(now);
    if (now >= next_look_) {
      look_at_served(now);
      next_look_ = now + std::min(between_looks, limits_.unread / 4);
    }
  }
}

/// For epoll_wait: until somebody's time is over, or the next look at those who are served.
int Connections::patience(Clock::time_point now) const {
  auto until = Clock::time_point::max();
  for (const auto& [fd, waiting] : waiting_) {
    until = std::min(until, waiting.until);
  }
  if (!served_.empty()) {
    until = std::min(until, next_look_);
  }
  if (until == Clock::time_point::max()) {
    return -1;
  }
  return static_cast<int>(std::max<milliseconds::rep>(0, std::chrono::ceil<milliseconds>(until - now).count()));
}

void Connections::accept_all(Clock::time_point now) {
  while (true) {
    OwnFd socket{listener_.accept()};
    if (socket.get() >= 0) {
      take(std::move(socket), now);
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
      // The connection stays queued and nothing tells when there is room again: look now and then, rather than all the time.
      tell(mount::errno_error(errno, "a connection waits to be accepted").message, now);
      std::this_thread::sleep_for(milliseconds{50});
      return;
    } else if (errno == EAGAIN || errno == EINVAL) {
      return;
    }
  }
}

void Connections::take(OwnFd socket, Clock::time_point now) {
  const pid_t process = process_of(socket.get());
  if (const std::string why = too_many(process); !why.empty()) {
    tell(name_of(process) + why, now);
    return;
  }
  const Greeting greeting = greeting_of(socket.get());
  if (greeting == Greeting::whole) {  // most have said it by now
    hand_over(std::move(socket), process, now);
    return;
  }
  if (greeting != Greeting::partial) {
    refuse(process, greeting, now);
    return;
  }
  // Edge-triggered: half a greeting would be ready all the time.
  const int fd = socket.get();
  epoll_event event{.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data = {.fd = fd}};
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0) {
    // From now on: `now` is older, and it may have connected since.
    waiting_.emplace(fd, Waiting{.socket = std::move(socket), .process = process, .until = Clock::now() + limits_.greeting});
  }
}

Connections::Greeting Connections::greeting_of(int socket) {
  std::array<char, preface.size()> bytes{};
  const ssize_t length = ::recv(socket, bytes.data(), bytes.size(), MSG_PEEK | MSG_DONTWAIT);
  if (length < 0 && (errno == EAGAIN || errno == EINTR)) {
    return Greeting::partial;
  }
  if (length <= 0) {
    return Greeting::hung_up;
  }
  const std::string_view said{bytes.data(), static_cast<std::size_t>(length)};
  if (!preface.starts_with(said)) {
    return Greeting::wrong;
  }
  return said == preface ? Greeting::whole : Greeting::partial;
}

void Connections::greet(int socket, bool hung_up, Clock::time_point now) {
  const auto found = waiting_.find(socket);
  if (found == waiting_.end()) {
    return;
  }
  Greeting greeting = greeting_of(socket);
  if (greeting == Greeting::partial && hung_up) {  // the rest won't come
    greeting = Greeting::hung_up;
  }
  if (greeting == Greeting::partial) {
    return;
  }
  Waiting waiting = std::move(found->second);
  waiting_.erase(found);
  if (greeting == Greeting::whole) {
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, socket, nullptr);
    hand_over(std::move(waiting.socket), waiting.process, now);
  } else {
    refuse(waiting.process, greeting, now);
  }
}

void Connections::refuse(pid_t process, Greeting greeting, Clock::time_point now) {
  if (greeting == Greeting::wrong) {  // who hangs up may only have looked whether somebody listens
    tell(name_of(process) + " does not speak HTTP/2: its connection is closed", now);
  }
}

void Connections::hand_over(OwnFd socket, pid_t process, Clock::time_point now) {
  served_.push_back({.fd = socket.get(), .inode = inode_of(socket.get()), .process = process, .unread = 0, .read_last = now});
  serve_(socket.release());
}

void Connections::close_silent(Clock::time_point now) {
  for (auto it = waiting_.begin(); it != waiting_.end();) {
    if (now < it->second.until) {
      ++it;
      continue;
    }
    tell(name_of(it->second.process) + " connected and did not say that it speaks HTTP/2: its connection is closed", now);
    it = waiting_.erase(it);
  }
}

std::string Connections::too_many(pid_t process) {
  const std::size_t half = limits_.most / 2;
  if (served_.size() + waiting_.size() < half) {
    return {};
  }
  std::erase_if(served_, [](const Served& served) { return inode_of(served.fd) != served.inode; });
  if (served_.size() + waiting_.size() >= limits_.most) {
    return fmt::format(" is not served: {} connections are open, the most that are allowed", limits_.most);
  }
  // Which process it is can't be told of those outside of our pid namespace: they may be many.
  const auto is_its = [process](pid_t other) { return process != 0 && other == process; };
  const auto its = std::ranges::count_if(served_, is_its, &Served::process) +
                   std::ranges::count_if(waiting_, [&](const auto& entry) { return is_its(entry.second.process); });
  if (static_cast<std::size_t>(its) >= half) {
    return fmt::format(" has {} connections open, the most that one process gets: one more is closed", its);
  }
  return {};
}

void Connections::look_at_served(Clock::time_point now) {
  std::erase_if(served_, [&](Served& served) {
    if (inode_of(served.fd) != served.inode) {
      return true;
    }
    int unread = 0;
    if (::ioctl(served.fd, SIOCOUTQ, &unread) != 0 || unread == 0 || unread != served.unread) {
      served.unread = unread;
      served.read_last = now;
      return false;
    }
    if (now - served.read_last < limits_.unread) {
      return false;
    }
    // gRPC may close its descriptor at any moment: what is shut down must be this socket, and not what has the number by then.
    const OwnFd own{::fcntl(served.fd, F_DUPFD_CLOEXEC, 0)};
    if (own.get() < 0) {
      return false;
    }
    if (inode_of(own.get()) == served.inode) {
      ::shutdown(own.get(), SHUT_RDWR);
      tell(fmt::format("{} has not read what was sent to it for {} s: its connection is closed; its calls go on and can be repeated",
                       name_of(served.process), std::chrono::duration_cast<std::chrono::seconds>(now - served.read_last).count()),
           now);
    }
    return true;
  });
}

void Connections::tell(const std::string& line, Clock::time_point now) {
  if (told_ != Clock::time_point{} && now - told_ < between_lines) {
    ++untold_;
    return;
  }
  log_->warn("{}{}", line, untold_ == 0 ? "" : fmt::format(" ({} more like it were not logged)", untold_));
  told_ = now;
  untold_ = 0;
}

}  // namespace ordinald::csi
