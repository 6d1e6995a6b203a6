#include "csi/listener.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>

#include "csi/own_fd.hpp"
#include "csi/redact.hpp"

namespace ordinald::csi {
namespace {

using mount::errno_error;
using mount::ErrorCode;
using mount::make_error;
using mount::Result;

constexpr mode_t socket_mode = S_IRUSR | S_IWUSR;

struct Address {
  sockaddr_un raw{};
  explicit Address(const std::string& path) {
    raw.sun_family = AF_UNIX;
    std::memcpy(raw.sun_path, path.data(), path.size());  // parse_endpoint has seen to it that it fits
  }
  [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&raw); }
};

/// Removes the file at the path if it is a socket that nobody listens on.
Result<void> remove_stale(const std::string& path) {
  struct stat info{};
  if (::lstat(path.c_str(), &info) != 0) {
    if (errno == ENOENT) {
      return mount::success();
    }
    return errno_error(errno, fmt::format("can't look at the endpoint's socket {}", path));
  }
  if (!S_ISSOCK(info.st_mode)) {
    return make_error(ErrorCode::failed_precondition,
                      fmt::format("the endpoint's path {} exists and is not a socket; remove it, or name another path", path));
  }
  const OwnFd probe{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  if (probe.get() < 0) {
    return errno_error(errno, "can't make a socket");
  }
  if (::connect(probe.get(), Address{path}.get(), sizeof(sockaddr_un)) == 0 || errno == EAGAIN) {  // EAGAIN: alive, with a full backlog
    return make_error(ErrorCode::failed_precondition,
                      fmt::format("another process listens on {}; stop it first (`ss -xlp src {}` names it)", path, path));
  }
  if (errno != ECONNREFUSED && errno != ENOENT) {
    return errno_error(ErrorCode::failed_precondition, errno, fmt::format("can't tell whether somebody listens on {}", path));
  }
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
    return errno_error(errno, fmt::format("can't remove the stale socket {}", path));
  }
  return mount::success();
}

}  // namespace

Result<std::string> parse_endpoint(const std::string& endpoint) {
  std::string_view path = endpoint;
  constexpr std::string_view with_authority = "unix://";
  constexpr std::string_view plain = "unix:";
  if (path.starts_with(with_authority)) {
    path.remove_prefix(with_authority.size());
  } else if (path.starts_with(plain)) {
    path.remove_prefix(plain.size());
  } else {
    path = {};
  }
  if (!path.starts_with('/') || path.ends_with('/') || path.find('\0') != std::string_view::npos) {
    return make_error(ErrorCode::invalid_argument,
                      fmt::format("the endpoint must be unix:///path or unix:/path with an absolute path, not {}", quote(endpoint)));
  }
  if (path.size() >= sizeof(sockaddr_un::sun_path)) {
    return make_error(ErrorCode::invalid_argument, fmt::format("the endpoint's path has {} bytes; a Unix socket's has at most {}: {}",
                                                               path.size(), sizeof(sockaddr_un::sun_path) - 1, quote(endpoint)));
  }
  return std::string{path};
}

Result<std::unique_ptr<Listener>> Listener::open(const std::string& path) {
  TRYV(remove_stale(path));
  OwnFd fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  if (fd.get() < 0 || ::fchmod(fd.get(), socket_mode) != 0) {
    return errno_error(errno, "can't make a socket");
  }
  if (::bind(fd.get(), Address{path}.get(), sizeof(sockaddr_un)) != 0) {
    return errno_error(errno, fmt::format("can't make the endpoint's socket {}", path));
  }
  struct stat info{};
  if (::lstat(path.c_str(), &info) != 0) {
    return errno_error(errno, fmt::format("can't look at the endpoint's socket {}", path));
  }
  auto listener = std::unique_ptr<Listener>{new Listener{path, fd.release(), info.st_dev, info.st_ino}};
  if (::listen(listener->fd_, SOMAXCONN) != 0) {
    return errno_error(errno, fmt::format("can't listen on {}", path));
  }
  return listener;
}

Listener::~Listener() {
  close();
  ::close(fd_);
}

int Listener::accept() const { return ::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK); }

int Listener::another_handle() const { return ::fcntl(fd_, F_DUPFD_CLOEXEC, 0); }

void Listener::close() {
  struct stat info{};
  if (::lstat(path_.c_str(), &info) == 0 && info.st_dev == device_ && info.st_ino == inode_) {
    ::unlink(path_.c_str());
  }
  // Of a listening Unix socket this refuses new connections and wakes accept(2), which closing the descriptor would not.
  ::shutdown(fd_, SHUT_RDWR);
}

}  // namespace ordinald::csi
