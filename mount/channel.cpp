#include "mount/channel.hpp"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>

namespace ordinald::mount {
namespace {

using std::chrono::steady_clock;
constexpr std::size_t length_size = sizeof(std::uint32_t);
constexpr std::size_t longest_message = std::size_t{256} << 20;  ///< no answer is that long: a longer one is nonsense

Channel::Status wait_for(int socket, short events, Channel::Deadline deadline, int stop_fd) {
  for (;;) {
    timespec left{};
    if (deadline) {
      const auto span = std::max(*deadline - steady_clock::now(), steady_clock::duration{0});
      const auto seconds = std::chrono::floor<std::chrono::seconds>(span);
      left = {.tv_sec = seconds.count(), .tv_nsec = std::chrono::nanoseconds{span - seconds}.count()};
    }
    pollfd waits[2] = {{.fd = socket, .events = events, .revents = 0}, {.fd = stop_fd, .events = POLLIN, .revents = 0}};
    const int ready = ::ppoll(waits, 2, deadline ? &left : nullptr, nullptr);
    if (ready < 0 && errno == EINTR) continue;
    if (ready == 0) return Channel::Status::timed_out;
    if (waits[0].revents != 0) return Channel::Status::done;
    return Channel::Status::stopped;
  }
}

/// One sendmsg(2), with a descriptor unless it is -1.
ssize_t send_some(int socket, std::string_view bytes, int fd, int flags) {
  iovec data{.iov_base = const_cast<char*>(bytes.data()), .iov_len = bytes.size()};  // sendmsg only reads it
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof fd)] = {};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  if (fd >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
  }
  return ::sendmsg(socket, &message, MSG_NOSIGNAL | flags);
}

/// One recvmsg(2); a descriptor that comes along replaces `fd`.
ssize_t receive_some(int socket, char* bytes, std::size_t room, UniqueFd& fd, int flags) {
  iovec data{.iov_base = bytes, .iov_len = room};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const ssize_t got = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC | flags);
  if (const cmsghdr* header = got > 0 ? CMSG_FIRSTHDR(&message) : nullptr;
      header != nullptr && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
    int received = -1;
    std::memcpy(&received, CMSG_DATA(header), sizeof received);
    fd.reset(received);
  }
  return got;
}

}  // namespace

Channel::Status Channel::send(std::string_view body, Deadline deadline, int stop_fd, int fd) {
  const auto length = static_cast<std::uint32_t>(body.size());
  std::string message(length_size, '\0');
  std::memcpy(message.data(), &length, length_size);
  message += body;
  std::string_view rest = message;
  while (!rest.empty()) {
    const ssize_t sent = send_some(socket_.get(), rest, fd, MSG_DONTWAIT);
    if (sent >= 0) {
      fd = -1;  // with the first bytes
      rest.remove_prefix(static_cast<std::size_t>(sent));
    } else if (errno == EAGAIN) {
      if (const Status status = wait_for(socket_.get(), POLLOUT, deadline, stop_fd); status != Status::done) return status;
    } else if (errno != EINTR) {
      return Status::closed;
    }
  }
  return Status::done;
}

Channel::Status Channel::receive(std::string& body, Deadline deadline, int stop_fd) {
  if (partial_.empty()) received_.reset();  // one that came with a message that nobody waited for any more
  for (;;) {
    std::size_t wanted = length_size;
    if (partial_.size() >= length_size) {
      std::uint32_t length = 0;
      std::memcpy(&length, partial_.data(), length_size);
      if (length > longest_message) return Status::closed;
      wanted += length;
      if (partial_.size() == wanted) {
        body.assign(partial_, length_size);
        partial_.clear();
        return Status::done;
      }
    }
    // Most messages are small and come whole with the first read. Never more than this message: nobody sends two unasked.
    char chunk[16 * 1024];
    const std::size_t room = partial_.size() < length_size ? sizeof chunk : std::min(sizeof chunk, wanted - partial_.size());
    const ssize_t got = receive_some(socket_.get(), chunk, room, received_, MSG_DONTWAIT);
    if (got > 0) {
      partial_.append(chunk, static_cast<std::size_t>(got));
    } else if (got < 0 && errno == EAGAIN) {
      if (const Status status = wait_for(socket_.get(), POLLIN, deadline, stop_fd); status != Status::done) return status;
    } else if (got == 0 || errno != EINTR) {
      return Status::closed;
    }
  }
}

void Channel::finish() { ::shutdown(socket_.get(), SHUT_WR); }

bool Channel::quiet() const {
  pollfd wait{.fd = socket_.get(), .events = POLLIN, .revents = 0};
  return ::poll(&wait, 1, 0) == 0;
}

bool send_with_fd(int socket, std::string_view bytes, int fd) {
  ssize_t sent = 0;
  do {
    sent = send_some(socket, bytes, fd, 0);
  } while (sent < 0 && errno == EINTR);
  return sent >= 0;
}

std::optional<Received> receive_with_fd(int socket) {
  char bytes[4096];
  Received received;
  ssize_t got = 0;
  do {
    got = receive_some(socket, bytes, sizeof bytes, received.fd, 0);
  } while (got < 0 && errno == EINTR);
  if (got <= 0) return std::nullopt;
  received.bytes.assign(bytes, static_cast<std::size_t>(got));
  return received;
}

}  // namespace ordinald::mount
