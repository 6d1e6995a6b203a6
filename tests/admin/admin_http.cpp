#include "tests/admin/admin_http.hpp"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <stdexcept>

namespace ordinald::testing {

RawClient::RawClient(const std::filesystem::path& socket) : fd_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, socket.c_str(), sizeof address.sun_path - 1);
  const timeval patience{.tv_sec = 20, .tv_usec = 0};
  ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  ::setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  if (::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    const int error = errno;
    ::close(fd_);
    throw std::runtime_error("connecting to " + socket.string() + ": " + std::strerror(error));
  }
}

RawClient::~RawClient() { ::close(fd_); }

bool RawClient::send(const std::string& bytes) {
  std::size_t sent = 0;
  while (sent < bytes.size()) {
    const ssize_t more = ::send(fd_, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (more <= 0) return false;
    sent += static_cast<std::size_t>(more);
  }
  return true;
}

std::string RawClient::read_all() {
  std::string text;
  std::array<char, 4096> buffer{};
  while (true) {
    const ssize_t got = ::recv(fd_, buffer.data(), buffer.size(), 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) throw std::runtime_error("the admin socket did not end its answer: " + text);
    if (got <= 0) return text;
    text.append(buffer.data(), static_cast<std::size_t>(got));
  }
}

AdminReply parse_reply(const std::string& text) {
  AdminReply reply;
  if (!text.starts_with("HTTP/1.1 ")) return reply;
  reply.status = std::stoi(text.substr(9, 3));
  if (const auto body = text.find("\r\n\r\n"); body != std::string::npos)
    reply.body = nlohmann::json::parse(text.substr(body + 4), nullptr, false);
  return reply;
}

AdminReply admin_get(const std::filesystem::path& socket, const std::string& target) {
  RawClient client(socket);
  client.send("GET " + target + " HTTP/1.1\r\nHost: localhost\r\n\r\n");
  return parse_reply(client.read_all());
}

AdminReply admin_post(const std::filesystem::path& socket, const std::string& target, const nlohmann::json& body) {
  RawClient client(socket);
  const std::string text = body.dump();
  client.send("POST " + target + " HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + std::to_string(text.size()) + "\r\n\r\n" + text);
  return parse_reply(client.read_all());
}

}  // namespace ordinald::testing
