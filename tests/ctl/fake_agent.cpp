#include "tests/ctl/fake_agent.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <stdexcept>
#include <system_error>
#include <utility>

namespace ordinald::testing {
namespace {

[[noreturn]] void fail_errno(const std::string& what) { throw std::system_error(errno, std::generic_category(), what); }

}  // namespace

FakeAgent::FakeAgent(std::string socket_path) : path_(std::move(socket_path)) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path_.size() >= sizeof address.sun_path) throw std::runtime_error("too long for a socket: " + path_);
  path_.copy(address.sun_path, path_.size());
  ::unlink(path_.c_str());
  listener_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (listener_ < 0 || ::bind(listener_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(listener_, 16) != 0) {
    fail_errno("listening on " + path_);
  }
  stop_ = ::eventfd(0, EFD_CLOEXEC);
  thread_ = std::thread([this] { serve(); });
}

FakeAgent::~FakeAgent() {
  ::eventfd_write(stop_, 1);
  thread_.join();
  ::close(listener_);
  ::close(stop_);
  ::unlink(path_.c_str());
}

void FakeAgent::answer(const std::string& request, const nlohmann::json& body, int status) {
  const std::string text = body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  answer_raw(request, "HTTP/1.1 " + std::to_string(status) + " Words\r\nContent-Type: application/json\r\nContent-Length: " +
                          std::to_string(text.size()) + "\r\nConnection: close\r\n\r\n" + text);
}

void FakeAgent::answer_raw(const std::string& request, const std::string& bytes) {
  const std::lock_guard lock{mutex_};
  answers_[request] = bytes;
}

void FakeAgent::be_silent(const std::string& request) {
  const std::lock_guard lock{mutex_};
  silent_.push_back(request);
}

std::vector<std::string> FakeAgent::requests() const {
  const std::lock_guard lock{mutex_};
  return requests_;
}

void FakeAgent::serve() {
  while (true) {
    std::array<pollfd, 2> wanted{{{.fd = listener_, .events = POLLIN, .revents = 0}, {.fd = stop_, .events = POLLIN, .revents = 0}}};
    if (::poll(wanted.data(), wanted.size(), -1) < 0 && errno != EINTR) return;
    if (wanted[1].revents != 0) return;
    if (wanted[0].revents != 0) {
      const int connection = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (connection >= 0) {
        serve_one(connection);
        ::close(connection);
      }
    }
  }
}

void FakeAgent::serve_one(int connection) {
  std::string text;
  std::size_t wanted = std::string::npos;
  std::array<char, 4096> buffer{};
  while (text.size() < wanted) {
    const ssize_t count = ::read(connection, buffer.data(), buffer.size());
    if (count <= 0) return;
    text.append(buffer.data(), static_cast<std::size_t>(count));
    const std::size_t head = text.find("\r\n\r\n");
    if (head != std::string::npos) {
      const std::size_t length = text.find("Content-Length: ");
      wanted = head + 4 + (length < head ? std::strtoul(text.c_str() + length + 16, nullptr, 10) : 0);
    }
  }
  const std::string request = text.substr(0, text.find(" HTTP/1.1"));
  const std::string body = text.substr(text.find("\r\n\r\n") + 4);
  std::string bytes = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
  bool is_silent = false;
  {
    const std::lock_guard lock{mutex_};
    requests_.push_back(request + (body.empty() ? "" : " " + body));
    if (const auto found = answers_.find(request); found != answers_.end()) bytes = found->second;
    is_silent = std::ranges::count(silent_, request) > 0;
  }
  if (is_silent) {
    // Until the client gives up, or we end.
    std::array<pollfd, 2> ends{
        {{.fd = connection, .events = POLLIN | POLLRDHUP, .revents = 0}, {.fd = stop_, .events = POLLIN, .revents = 0}}};
    ::poll(ends.data(), ends.size(), -1);
    return;
  }
  for (std::size_t sent = 0; sent < bytes.size();) {
    const ssize_t count = ::send(connection, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (count <= 0) return;
    sent += static_cast<std::size_t>(count);
  }
}

}  // namespace ordinald::testing
