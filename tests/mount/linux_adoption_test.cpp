// What is special to the real kernel's adoption of a file: the lease that keeps others out of it, its owner and mode.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <cerrno>
#include <string>
#include <thread>

#include "mount/adoption.hpp"
#include "mount/unique_fd.hpp"
#include "tests/mount/linux_node.hpp"

using namespace ordinald::mount;
using namespace ordinald::testing;

namespace {

constexpr std::uint64_t large = 16 * LinuxNode::mib;

/// A file of somebody's, with bytes that are not written back yet.
AdoptRequest somebodys_file(const LinuxNode& node) {
  const std::string path = node.work("old.img");
  write_file(path, std::string(large, 'x'));
  REQUIRE(::chown(path.c_str(), 12, 34) == 0);
  REQUIRE(::chmod(path.c_str(), 0640) == 0);
  struct stat status{};
  REQUIRE(::stat(path.c_str(), &status) == 0);
  return {.source = path, .device = status.st_dev, .inode = status.st_ino, .size = large, .image = node.image("w"), .label = "adopted"};
}

void check_untouched(const std::string& path) {
  struct stat status{};
  REQUIRE(::stat(path.c_str(), &status) == 0);
  CHECK(status.st_uid == 12);
  CHECK(status.st_gid == 34);
  CHECK((status.st_mode & 07777) == 0640);
}

}  // namespace

TEST_CASE("a file that is not adopted keeps its owner and mode", "[root]") {
  LinuxNode node;
  AdoptRequest request = somebodys_file(node);
  SECTION("somebody has it open") {
    const UniqueFd open{::open(request.source.c_str(), O_RDONLY | O_CLOEXEC)};
    refused(adopt_file(request), ErrorCode::failed_precondition);
  }
  SECTION("its label has no room") {
    request.label = std::string(100'000, 'x');
    refused(adopt_file(request), ErrorCode::failed_precondition);
  }
  SECTION("its pool is on another file system") {
    request.image.directory = "/dev/shm";
    struct stat there{};
    if (::stat("/dev/shm", &there) != 0 || there.st_dev == request.device) {
      WARN("no other file system here");
      return;
    }
    refused(adopt_file(request), ErrorCode::failed_precondition);
  }
  check_untouched(request.source);
}

TEST_CASE("a file that somebody is just opening is not moved", "[root]") {
  LinuxNode node;
  std::string why;
  constexpr int tries = 20;  // each is a race between the opener and the move, which the file's fsync lets the opener win
  for (int i = 0; i < tries && why.empty(); ++i) {
    const AdoptRequest request = somebodys_file(node);
    std::atomic<bool> over = false;
    std::thread opener{[&] {
      while (!over && ::getxattr(request.source.c_str(), "trusted.ordinald.volume", nullptr, 0) <= 0) {
      }
      const UniqueFd open{::open(request.source.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC)};  // does not wait for the lease's end
    }};
    const auto adopted = adopt_file(request);
    over = true;
    opener.join();
    if (adopted) {
      REQUIRE(::unlink(LinuxNode::path_of(request.image).c_str()) == 0);
      continue;
    }
    why = refused(adopted, ErrorCode::failed_precondition);
    check_untouched(request.source);
  }
  CHECK_THAT(why, Catch::Contains("is being opened by another program"));
}
