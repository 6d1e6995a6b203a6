#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "mount/unique_fd.hpp"

namespace ordinald::mount {

/// Whole messages over a stream socket: four bytes of length, then the body. Keeps what has been read of a message that is not whole yet,
/// so that a wait that ran out can be taken up again.
///
/// Threading: one thread at a time.
class Channel {
 public:
  /// nullopt: for ever.
  using Deadline = std::optional<std::chrono::steady_clock::time_point>;
  enum class Status : std::uint8_t {
    done,
    timed_out,
    closed,   ///< the other side has ended, or sends nonsense
    stopped,  ///< `stop_fd` became readable
  };

  explicit Channel(UniqueFd socket) : socket_(std::move(socket)) {}

  /// After anything but `done` the other side may have half a message: the channel is of no more use. `fd`: goes along (unix(7),
  /// SCM_RIGHTS); -1: none.
  Status send(std::string_view body, Deadline deadline, int stop_fd = -1, int fd = -1);
  Status receive(std::string& body, Deadline deadline, int stop_fd = -1);
  /// The descriptor that came with the last message, close-on-exec; none, when none did.
  UniqueFd take_fd() { return std::move(received_); }

  /// Says that nothing will be sent any more.
  void finish();
  /// The other side has closed it (or sent what nobody asked for).
  [[nodiscard]] bool quiet() const;

 private:
  UniqueFd socket_;
  std::string partial_;
  UniqueFd received_;
};

/// A datagram with one descriptor (or none, -1) between two processes of ours (unix(7), SCM_RIGHTS). False: the other side is gone.
bool send_with_fd(int socket, std::string_view bytes, int fd);
/// The message and its descriptor; nullopt: the other side is gone, or the socket's SO_RCVTIMEO passed.
struct Received {
  std::string bytes;
  UniqueFd fd;
};
std::optional<Received> receive_with_fd(int socket);

}  // namespace ordinald::mount
