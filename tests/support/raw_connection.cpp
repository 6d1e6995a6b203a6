#include "tests/support/raw_connection.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <stdexcept>

namespace ordinald::testing {
namespace {

constexpr char data = 0;
constexpr char headers = 1;
constexpr char settings = 4;
constexpr char ping = 6;
constexpr char end_stream = 1;
constexpr char ack = 1;
constexpr char end_headers = 4;

char byte_of(std::size_t value, unsigned shift) { return static_cast<char>(static_cast<unsigned char>(value >> shift)); }

}  // namespace

RawConnection::RawConnection(const std::filesystem::path& socket) : fd_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  socket.string().copy(address.sun_path, sizeof address.sun_path - 1);
  if (::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    ::close(fd_);
    throw std::runtime_error("can't connect to " + socket.string());
  }
}

RawConnection::~RawConnection() { ::close(fd_); }

void RawConnection::send(const std::string& bytes) { (void)!::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT); }

bool RawConnection::hung_up(int timeout_ms) const {
  pollfd waiting{.fd = fd_, .events = POLLRDHUP, .revents = 0};
  return ::poll(&waiting, 1, timeout_ms) == 1;
}

bool RawConnection::read_until(const std::string& bytes, int timeout_ms) {
  using std::chrono::steady_clock;
  const auto until = steady_clock::now() + std::chrono::milliseconds(timeout_ms);
  std::string text;
  while (text.find(bytes) == std::string::npos) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - steady_clock::now()).count();
    pollfd waiting{.fd = fd_, .events = POLLIN, .revents = 0};
    if (left < 0 || ::poll(&waiting, 1, static_cast<int>(left)) != 1) return false;
    char buffer[4096];
    const ssize_t length = ::recv(fd_, buffer, sizeof buffer, 0);
    if (length <= 0) return false;
    text.append(buffer, static_cast<std::size_t>(length));
  }
  return true;
}

std::string http2_frame(char type, char flags, std::uint32_t stream, const std::string& payload) {
  const std::size_t size = payload.size();
  return std::string{byte_of(size, 16),   byte_of(size, 8),   byte_of(size, 0),  type, flags, byte_of(stream, 24),
                     byte_of(stream, 16), byte_of(stream, 8), byte_of(stream, 0)} +
         payload;
}

std::string http2_greeting() { return "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + http2_frame(settings, 0, 0, ""); }
std::string http2_ping() { return http2_frame(ping, 0, 0, "ordinald"); }
std::string http2_pong() { return http2_frame(ping, ack, 0, "ordinald"); }

std::string http2_headers(std::uint32_t stream, const std::string& method) {
  // HPACK (RFC 7541): POST and http by their number, then literals.
  std::string block{'\x83', '\x86', '\x04', static_cast<char>(method.size())};
  block += method;
  block += std::string("\x01\x09") + "localhost";
  block += std::string("\x0f\x10\x10") + "application/grpc";
  block += std::string("\x00\x02", 2) + "te" + std::string("\x08") + "trailers";
  return http2_frame(headers, end_headers, stream, block);
}

std::string http2_call(std::uint32_t stream, const std::string& method, const std::string& message) {
  const std::size_t size = message.size();
  const std::string prefix{'\0', byte_of(size, 24), byte_of(size, 16), byte_of(size, 8), byte_of(size, 0)};
  return http2_headers(stream, method) + http2_frame(data, end_stream, stream, prefix + message);
}

}  // namespace ordinald::testing
