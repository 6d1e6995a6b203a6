/// Messages between the daemon and its workers.

#include <fcntl.h>
#include <sys/socket.h>

#include <catch2/catch.hpp>
#include <utility>

#include "mount/channel.hpp"

using ordinald::mount::Channel;
using ordinald::mount::UniqueFd;

namespace {

constexpr Channel::Deadline for_ever = std::nullopt;

std::pair<Channel, Channel> connected() {
  int ends[2] = {-1, -1};
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  return {Channel{UniqueFd{ends[0]}}, Channel{UniqueFd{ends[1]}}};
}

}  // namespace

TEST_CASE("channel: a descriptor is of the message that it came with, and no other") {
  auto [here, there] = connected();
  const UniqueFd file{::open("/dev/null", O_RDWR | O_CLOEXEC)};
  std::string body;
  REQUIRE(here.send("with one", for_ever, -1, file.get()) == Channel::Status::done);
  REQUIRE(there.receive(body, for_ever) == Channel::Status::done);
  CHECK(there.take_fd());
  CHECK_FALSE(there.take_fd());
  // An answer that nobody waited for any more: its descriptor must not pass for that of the next.
  REQUIRE(here.send("with one", for_ever, -1, file.get()) == Channel::Status::done);
  REQUIRE(there.receive(body, for_ever) == Channel::Status::done);
  REQUIRE(here.send("without", for_ever) == Channel::Status::done);
  REQUIRE(there.receive(body, for_ever) == Channel::Status::done);
  CHECK(body == "without");
  CHECK_FALSE(there.take_fd());
}

TEST_CASE("channel: a message that is waited for in pieces keeps its descriptor") {
  int ends[2] = {-1, -1};
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  const UniqueFd here{ends[0]};
  Channel there{UniqueFd{ends[1]}};
  const UniqueFd file{::open("/dev/null", O_RDWR | O_CLOEXEC)};
  std::string body;
  REQUIRE(ordinald::mount::send_with_fd(here.get(), std::string("\x02\0", 2), file.get()));
  CHECK(there.receive(body, std::chrono::steady_clock::time_point{}) == Channel::Status::timed_out);
  REQUIRE(::send(here.get(), "\0\0ab", 4, 0) == 4);
  REQUIRE(there.receive(body, for_ever) == Channel::Status::done);
  CHECK(body == "ab");
  CHECK(there.take_fd());
}
