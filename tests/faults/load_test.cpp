#include <stdlib.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <cstdio>
#include <exception>
#include <map>
#include <mutex>
#include <thread>

#include "tests/faults/measure.hpp"
#include "tests/support/catch_session.hpp"
#include "tests/support/mount_namespace.hpp"
#include "tests/support/raw_connection.hpp"
#include "tests/support/rig.hpp"

/// Load, and clients that behave badly: nobody else notices, memory stays bounded, descriptors come back. Needs root.
int main(int argc, char** argv) {
  using namespace ordinald::testing;
  try {
    enter_private_mount_namespace();
    // Memory is measured here: what a sanitizer keeps of freed memory, 256 MiB by default, would be most of it.
    ::setenv("ASAN_OPTIONS", "quarantine_size_mb=4:thread_local_quarantine_size_kb=64", 0);
    const int status = run_catch(argc, argv);
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
    const std::string half = http2_greeting() + http2_headers(1, "/csi.v1.Identity/Probe");
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

TEST_CASE("load: a client that opens one connection after the other", "[load][root]") {
  constexpr int number = 2000;
  Rig rig;
  usual_ms(rig);
  const double before = resident_mebi(rig);
  const std::size_t descriptors = open_descriptors(rig.agent().pid());
  double during = 0;
  std::size_t kept = 0;
  {
    std::vector<std::unique_ptr<RawConnection>> connections;
    for (int i = 0; i < number; ++i) {
      connections.push_back(std::make_unique<RawConnection>(rig.agent().socket()));
      connections.back()->send(http2_greeting());
    }
    CHECK(connections.back()->hung_up(10'000));  // the queue before it has been worked through
    count_fault("load");
    CHECK(usual_ms(rig) < 1000);
    during = resident_mebi(rig);
    kept = open_descriptors(rig.agent().pid()) - descriptors;
    CHECK(kept <= 512 + 16);
    CHECK(kept >= 400);
  }
  CHECK(comes_back(rig, descriptors + 4));
  print_figure(std::to_string(number) + " connections of one client: " + std::to_string(kept) + " are kept, the agent has " +
               two_digits(during) + " MiB (" + two_digits(before) + " before)");
  CHECK(during < before + 128);
  CHECK_THAT(rig.agent().log(), Catch::Contains("the most that one process gets"));
}

TEST_CASE("load: clients that never read their answers", "[load][root]") {
  constexpr int volumes = 450;
  constexpr int clients = 8;
  constexpr int calls = 40;  // together more than there are threads
  Rig rig;
  std::vector<std::thread> makers;
  std::atomic<int> made{0};
  for (int t = 0; t < 8; ++t)
    makers.emplace_back([&, t] {
      CsiClient client(rig.agent().endpoint());
      for (int i = t; i < volumes; i += 8) {
        const auto name = std::to_string(i) + std::string(100, 'x');
        made += client.call(rig.create_request(name, block_capability(single_node_writer), mebi)).ok() ? 1 : 0;
      }
    });
  for (std::thread& maker : makers) maker.join();
  REQUIRE(made == volumes);
  const auto answer = rig.call(v1::ListVolumesRequest());
  REQUIRE(answer.ok());
  REQUIRE(answer.message.ByteSizeLong() > 65536);  // that much each client takes without reading anything
  const double before_ms = usual_ms(rig);
  const double before = resident_mebi(rig);
  const std::size_t descriptors = open_descriptors(rig.agent().pid());
  double most = before;
  double served_after = 0;
  {
    std::vector<std::unique_ptr<RawConnection>> deaf;
    for (int i = 0; i < clients; ++i) {
      deaf.push_back(std::make_unique<RawConnection>(rig.agent().socket()));
      deaf.back()->send(http2_greeting());
      for (int call = 0; call < calls; ++call)
        deaf.back()->send(http2_call(static_cast<std::uint32_t>(2 * call + 1), "/csi.v1.Controller/ListVolumes"));
    }
    count_fault("load");
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(40);
    int in_a_row = 0;
    served_after = timed_ms([&] {
      while (in_a_row < 100 && std::chrono::steady_clock::now() < until) {
        in_a_row = outcome(rig.call(v1::ProbeRequest(), std::chrono::seconds(10))) == OK ? in_a_row + 1 : 0;
        most = std::max(most, resident_mebi(rig));
      }
    });
    CHECK(in_a_row == 100);
  }
  CHECK(comes_back(rig, descriptors + 4));
  print_figure(std::to_string(clients * calls) + " answers of " + std::to_string(answer.message.ByteSizeLong() / 1024) +
               " KiB that nobody reads: others are served after " + two_digits(served_after) + " ms at most, a call takes " +
               two_digits(usual_ms(rig)) + " ms then (" + two_digits(before_ms) + " before), the agent has " + two_digits(most) +
               " MiB at most (" + two_digits(before) + " before)");
  CHECK(most < before + 384);  // threads, most of it: under a sanitizer's eye each has a MiB
  CHECK_THAT(rig.agent().log(), Catch::Contains("did not take them"));
}

TEST_CASE("load: messages that are too large, or nearly so, many at once", "[load][root]") {
  Rig rig;
  usual_ms(rig);
  const double before = resident_mebi(rig);
  std::atomic<bool> over{false};
  double most = before;
  std::thread watch([&] {
    while (!over) most = std::max(most, resident_mebi(rig));
  });
  std::mutex mutex;
  const auto flood = [&](int clients, int calls, std::int64_t size) {
    std::map<std::string, int> told;
    std::vector<std::thread> threads;
    for (int t = 0; t < clients; ++t)
      threads.emplace_back([&] {
        CsiClient client(rig.agent().endpoint());
        v1::CreateVolumeRequest request;
        request.set_name(std::string(static_cast<std::size_t>(size), 'x'));
        for (int i = 0; i < calls; ++i) {
          const Outcome end = outcome(client.call(request));
          const std::scoped_lock lock(mutex);
          ++told[code_name(end.code) + (end.message.find("larger than max") == std::string::npos ? "" : " (larger than max)")];
          CHECK_FALSE(end.message.empty());
        }
      });
    for (std::thread& thread : threads) thread.join();
    count_fault("load");
    return told;
  };
  CHECK(flood(8, 4, 5 * mebi) == std::map<std::string, int>{{"RESOURCE_EXHAUSTED (larger than max)", 32}});
  CHECK(flood(8, 4, 4 * mebi - 4096) == std::map<std::string, int>{{"INVALID_ARGUMENT", 32}});
  const double usual = most;
  // More than all of gRPC's memory: it cancels calls, or closes connections, and nobody gets what they asked for.
  auto told = flood(48, 2, 4 * mebi - 4096);
  for (const auto& [code, number] : flood(1, 1, 256 * mebi)) told[code] += number;
  over = true;
  watch.join();
  std::string codes;
  for (const auto& [code, number] : told) {
    codes += " " + code + " " + std::to_string(number);
    CHECK((code == "INVALID_ARGUMENT" || code.starts_with("RESOURCE_EXHAUSTED") || code == "UNAVAILABLE"));
  }
  CHECK(usual_ms(rig) < 1000);
  const double after = resident_mebi(rig);
  print_figure("messages of 4 and 5 MiB, 8 at once: each refused, the agent has " + two_digits(before) + " MiB before, " +
               two_digits(usual) + " at most; 48 at once and one of 256 MiB:" + codes + ", " + two_digits(most) + " MiB at most, " +
               two_digits(after) + " after");
  CHECK(most < before + 384);
}

}  // namespace ordinald::testing
