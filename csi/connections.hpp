#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "csi/listener.hpp"
#include "csi/own_fd.hpp"
#include "mount/log.hpp"

namespace ordinald::csi {

/// Accepts for the server, and keeps what badly behaved clients can take within bounds. gRPC itself would keep every silent connection for
/// ever, and a thread for every answer that nobody reads.
///
///     accepted ──first 24 bytes of HTTP/2──▶ served (gRPC owns it) ──client hangs up──▶ gone
///        │ too many, no HTTP/2, or nothing in time      │ leaves what was sent unread for too long
///        └──────────▶ closed                            └──────────▶ shut down
///
/// A client that was served once may stay silent for as long as it likes: orchestrators' programs keep a connection for days, and some end
/// when it is closed.
///
/// Threading: run on one thread, until the listener is closed from another. Errors: none; what is refused is logged, at most a line in ten
/// seconds.
class Connections {
 public:
  struct Limits {
    std::size_t most = 1024;                     ///< at once; one process gets at most half of them, so that the others find room
    std::chrono::milliseconds greeting{10'000};  ///< for the first bytes
    std::chrono::milliseconds unread{60'000};    ///< that something sent may stay unread
  };

  /// `serve` gets each descriptor that is to be served, non-blocking, and owns it.
  static mount::Result<std::unique_ptr<Connections>> open(const Listener& listener, const Limits& limits,
                                                          std::shared_ptr<const mount::Log> log, std::function<void(int)> serve);

  void run();

 private:
  using Clock = std::chrono::steady_clock;
  /// Has not said enough yet.
  struct Waiting {
    OwnFd socket;
    pid_t process;
    Clock::time_point until;
  };
  /// gRPC's. The descriptor's number may be another file's by now: the inode tells.
  struct Served {
    int fd;
    ino_t inode;
    pid_t process;
    int unread = 0;                 ///< at the last look
    Clock::time_point read_last{};  ///< when that had changed, or was nothing
  };

  Connections(const Listener& listener, const Limits& limits, std::shared_ptr<const mount::Log> log, std::function<void(int)> serve,
              OwnFd epoll)
      : listener_(listener), limits_(limits), log_(std::move(log)), serve_(std::move(serve)), epoll_(std::move(epoll)) {}

  [[nodiscard]] int patience(Clock::time_point now) const;
  void accept_all(Clock::time_point now);
  void take(OwnFd socket, Clock::time_point now);
  enum class Greeting : std::uint8_t { whole, partial, wrong, hung_up };
  static Greeting greeting_of(int socket);
  void greet(int socket, bool hung_up, Clock::time_point now);
  void hand_over(OwnFd socket, pid_t process, Clock::time_point now);
  void close_silent(Clock::time_point now);
  void look_at_served(Clock::time_point now);
  /// Why one more of this process can't be had; empty where it can.
  std::string too_many(pid_t process);
  void refuse(pid_t process, Greeting greeting, Clock::time_point now);
  void tell(const std::string& line, Clock::time_point now);

  const Listener& listener_;
  const Limits limits_;
  const std::shared_ptr<const mount::Log> log_;
  const std::function<void(int)> serve_;
  const OwnFd epoll_;
  std::map<int, Waiting> waiting_;
  std::vector<Served> served_;
  Clock::time_point next_look_{};
  Clock::time_point told_{};  ///< when a refusal was logged last
  std::size_t untold_ = 0;    ///< refusals since
};

}  // namespace ordinald::csi
