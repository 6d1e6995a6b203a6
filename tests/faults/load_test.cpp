#define CATCH_CONFIG_RUNNER
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <cstdio>
#include <exception>
#include <thread>

#include "tests/faults/measure.hpp"
#include "tests/support/mount_namespace.hpp"
#include "tests/support/rig.hpp"

/// Load, and clients that behave badly: nobody else notices, memory stays bounded, descriptors come back. Needs root.
int main(int argc, char** argv) {
  using namespace ordinald::testing;
  try {
    enter_private_mount_namespace();
    // Memory is measured here: what a sanitizer keeps of freed memory, 256 MiB by default, would be most of it.
    ::setenv("ASAN_OPTIONS", "quarantine_size_mb=4:thread_local_quarantine_size_kb=64", 0);
    const int status = Catch::Session().run(argc, argv);
    print_fault_counts();
    return status;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "test_faults_load: %s\n", error.what());
    return 1;
  }
}

namespace ordinald::testing {
namespace {

const auto many = mount_capability(single_node_multi_writer, "ext4");

/// A connection of which every byte is ours.
class RawConnection {
 public:
  explicit RawConnection(const fs::path& socket) : fd_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    socket.string().copy(address.sun_path, sizeof address.sun_path - 1);
    if (::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) throw std::runtime_error("can't connect");
  }
  RawConnection(const RawConnection&) = delete;
  RawConnection& operator=(const RawConnection&) = delete;
  ~RawConnection() { ::close(fd_); }
  void send(const std::string& bytes) { (void)!::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT); }

 private:
  int fd_;
};

std::string frame(char type, char flags, char stream, const std::string& payload) {
  std::string text{'\0', static_cast<char>(payload.size() >> 8U), static_cast<char>(payload.size()), type, flags, '\0', '\0', '\0', stream};
  return text + payload;
}

/// The beginning of an HTTP/2 connection (RFC 9113), and the headers of a call whose message never comes.
std::string headers_without_body() {
  const std::string path = "/csi.v1.Identity/Probe";
  std::string block{'\x83', '\x86', '\x04', static_cast<char>(path.size())};
  block += path;
  block += std::string("\x01\x09") + "localhost";
  block += std::string("\x0f\x10\x10") + "application/grpc";
  block += std::string("\x00\x02", 2) + "te" + std::string("\x08") + "trailers";
  return "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, "") + frame(1, 4, 1, block);
}

double resident_mebi(Rig& rig) { return static_cast<double>(resident({rig.agent().pid()})) / mebi; }

/// How long a call takes, for others.
double usual_ms(Rig& rig) {
  std::vector<double> values;
  for (int i = 0; i < 200; ++i)
    values.push_back(timed_ms([&] { CHECK(outcome(rig.call(v1::ProbeRequest(), std::chrono::seconds(10))) == OK); }));
  return median(values);
}

/// Waits until the agent has at most so many descriptors open.
bool comes_back(Rig& rig, std::size_t number) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (open_descriptors(rig.agent().pid()) > number && std::chrono::steady_clock::now() < until) std::this_thread::yield();
  return open_descriptors(rig.agent().pid()) <= number;
}

}  // namespace

TEST_CASE("load: ten thousand calls, 64 at once", "[load][root]") {
  constexpr int number = 10000;
  Rig rig;
  std::vector<LiveVolume> volumes;
  for (int i = 0; i < 4; ++i) volumes.push_back(bring_up(rig, "v" + std::to_string(i), many, 16 * mebi));
  for (int i = 0; i < 64; ++i) rig.target("pod" + std::to_string(i));
  usual_ms(rig);
  const double before = resident_mebi(rig);
  const std::size_t descriptors = open_descriptors(rig.agent().pid());
  std::vector<std::unique_ptr<CsiClient>> clients;
  for (int i = 0; i < 8; ++i) clients.push_back(std::make_unique<CsiClient>(rig.agent().endpoint()));
  std::atomic<int> next{0};
  std::atomic<int> failures{0};
  const double took = timed_ms([&] {
    std::vector<std::thread> threads;
    for (int t = 0; t < 64; ++t)
      threads.emplace_back([&, t] {
        CsiClient& client = *clients[static_cast<std::size_t>(t) % clients.size()];
        const LiveVolume& volume = volumes[static_cast<std::size_t>(t) % volumes.size()];
        const fs::path target = rig.root() / "pods" / ("pod" + std::to_string(t)) / "volume";
        for (int i = next++; i < number; i = next++) {
          bool good = false;
          if (i % 10 == 0) {
            v1::NodeUnpublishVolumeRequest unpublish;
            unpublish.set_volume_id(volume.id);
            unpublish.set_target_path(target);
            good = client.call(rig.publish_request(volume.id, many, volume.staging, target)).ok() && client.call(unpublish).ok();
          } else if (i % 10 < 4) {
            v1::NodeGetVolumeStatsRequest stats;
            stats.set_volume_id(volume.id);
            stats.set_volume_path(volume.target);
            good = client.call(stats).ok();
          } else if (i % 10 < 6) {
            good = client.call(v1::ListVolumesRequest()).ok();
          } else if (i % 10 == 6) {
            good = client.call(v1::GetCapacityRequest()).ok();
          } else {
            good = client.call(v1::NodeGetCapabilitiesRequest()).ok();
          }
          if (!good) ++failures;
        }
      });
    for (std::thread& thread : threads) thread.join();
  });
  clients.clear();
  count_fault("load");
  CHECK(failures == 0);
  CHECK(comes_back(rig, descriptors + 16));
  const double after = resident_mebi(rig);
  CHECK(after < before + 128);
  print_figure("10000 calls at 64 at once: " + two_digits(took / 1000) + " s, the agent has " + two_digits(before) + " MiB before and " +
               two_digits(after) + " after");
  for (const LiveVolume& volume : volumes) {
    CHECK(rig.unpublish(volume.id, volume.target) == OK);
    CHECK(rig.unstage(volume.id, volume.staging) == OK);
  }
  CHECK(leaks_beneath(rig.root()) == "");
}

TEST_CASE("load: connections that say nothing, half of a call, or garbage", "[load][root]") {
  Rig rig;
  const double before_ms = usual_ms(rig);
  const double before = resident_mebi(rig);
  const std::size_t descriptors = open_descriptors(rig.agent().pid());
  double during_ms = 0;
  double during = 0;
  {
    std::vector<std::unique_ptr<RawConnection>> connections;
    const auto connect = [&]() -> RawConnection& {
      return *connections.emplace_back(std::make_unique<RawConnection>(rig.agent().socket()));
    };
    for (int i = 0; i < 300; ++i) connect();
    count_fault("load");
    const std::string half = headers_without_body();
    for (int i = 0; i < 100; ++i) connect().send(half);
    count_fault("load");
    for (int i = 0; i < 100; ++i) connect().send(half.substr(0, static_cast<std::size_t>(i) % half.size()));
    count_fault("load");
    std::string garbage(4096, '\0');
    unsigned value = 12345;
    for (int i = 0; i < 100; ++i) {
      for (char& byte : garbage) byte = static_cast<char>((value = value * 1103515245U + 12345U) >> 16U);
      connect().send(i % 2 == 0 ? garbage : half.substr(0, 24) + garbage);
    }
    count_fault("load");
    during_ms = usual_ms(rig);
    during = resident_mebi(rig);
    CHECK(rig.agent().running());
  }
  CHECK(comes_back(rig, descriptors + 4));
  const double after_ms = usual_ms(rig);
  print_figure("600 connections that are silent, half a call, or garbage: a call takes " + two_digits(during_ms) + " ms (" +
               two_digits(before_ms) + " before, " + two_digits(after_ms) + " after), the agent has " + two_digits(during) + " MiB (" +
               two_digits(before) + " before, " + two_digits(resident_mebi(rig)) + " after)");
  CHECK(during_ms < 3 * std::max(before_ms, after_ms) + 1);
  CHECK(during < before + 128);
}

TEST_CASE("load: messages that are too large, many at once", "[load][root]") {
  Rig rig;
  usual_ms(rig);
  const double before = resident_mebi(rig);
  std::atomic<int> refused{0};
  std::atomic<bool> over{false};
  double most = before;
  std::thread watch([&] {
    while (!over) most = std::max(most, resident_mebi(rig));
  });
  std::vector<std::thread> threads;
  for (int t = 0; t < 16; ++t)
    threads.emplace_back([&] {
      CsiClient client(rig.agent().endpoint());
      v1::CreateVolumeRequest request;
      for (int i = 0; i < 8; ++i) {
        request.set_name(std::string(static_cast<std::size_t>(5 * mebi), 'x'));
        refused += outcome(client.call(request)) == RESOURCE_EXHAUSTED ? 1 : 0;
      }
    });
  for (std::thread& thread : threads) thread.join();
  over = true;
  watch.join();
  count_fault("load");
  CHECK(refused == 16 * 8);
  CHECK(usual_ms(rig) < 1000);
  const double after = resident_mebi(rig);
  print_figure("128 messages of 5 MiB, 16 at once: each refused, the agent has " + two_digits(before) + " MiB before, " + two_digits(most) +
               " at most, " + two_digits(after) + " after");
  CHECK(most < before + 512);
}

}  // namespace ordinald::testing
