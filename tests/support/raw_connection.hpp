#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

/// A connection to the agent's socket of which every byte is the test's, and the few frames of HTTP/2 (RFC 9113) that a call takes.
///
/// Threading: one object, one thread. Errors: throws std::runtime_error where it can't connect.
namespace ordinald::testing {

class RawConnection {
 public:
  explicit RawConnection(const std::filesystem::path& socket);
  RawConnection(const RawConnection&) = delete;
  RawConnection& operator=(const RawConnection&) = delete;
  ~RawConnection();

  /// As many of the bytes as go without waiting.
  void send(const std::string& bytes);
  /// Waits until the other side has hung up, reading nothing; false after so many milliseconds.
  [[nodiscard]] bool hung_up(int timeout_ms) const;
  /// Reads until the bytes come; false when the other side hangs up before, or after so many milliseconds.
  [[nodiscard]] bool read_until(const std::string& bytes, int timeout_ms);

 private:
  int fd_;
};

std::string http2_frame(char type, char flags, std::uint32_t stream, const std::string& payload);
/// What a client says first: the preface and empty SETTINGS.
std::string http2_greeting();
std::string http2_ping();
/// What answers it.
std::string http2_pong();
/// The headers of a call of `/csi.v1.Identity/Probe` or the like; its message is to come.
std::string http2_headers(std::uint32_t stream, const std::string& method);
/// A call, whole; the message as protobuf encodes it.
std::string http2_call(std::uint32_t stream, const std::string& method, const std::string& message = "");

}  // namespace ordinald::testing
