#pragma once

#include <sys/types.h>

#include <memory>
#include <string>

#include "mount/result.hpp"

namespace ordinald::csi {

/// The path that a CSI endpoint names: `unix:///path` or `unix:/path`. invalid_argument for everything else, and for a path that doesn't
/// fit into a socket address (107 bytes, unix(7)).
mount::Result<std::string> parse_endpoint(const std::string& endpoint);

/// A listening Unix socket and its file.
///
/// The file has mode 0600 from the moment that it exists: Linux takes a socket file's mode from the descriptor, less the umask, so
/// fchmod(2) before bind(2) leaves no window and doesn't touch the umask of other threads. Only a file that nobody listens on is replaced,
/// only our own is removed, and no other is made. What a killed process left is replaced by its successor; that two don't do this at once
/// is what the state directory's lock is for.
///
/// Threading: accept on one thread; close may be called from another.
class Listener {
 public:
  /// failed_precondition: somebody listens there, or it isn't a socket.
  static mount::Result<std::unique_ptr<Listener>> open(const std::string& path);

  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;
  ~Listener();

  /// The next connection, non-blocking; the caller owns it. Never waits: -1 with errno EAGAIN where there is none, also after close, and
  /// the others of accept(2).
  [[nodiscard]] int accept() const;

  /// The descriptor, to wait on: POLLIN when there is a connection, POLLHUP after close.
  [[nodiscard]] int handle() const { return fd_; }

  /// Its descriptor once more, for whoever accepts in another way; -1 and errno. The caller owns it; close() ends its accepting, too.
  [[nodiscard]] int another_handle() const;

  /// Removes the file and refuses what comes from now on. May be repeated.
  void close();

  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  Listener(std::string path, int fd, dev_t device, ino_t inode) : path_(std::move(path)), fd_(fd), device_(device), inode_(inode) {}

  const std::string path_;
  const int fd_;
  const dev_t device_;
  const ino_t inode_;
};

}  // namespace ordinald::csi
