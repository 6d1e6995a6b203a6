/// Holds, hand-overs and history in every order of events, on the fake kernel.

#include <spdlog/sinks/ostream_sink.h>

#include <catch2/catch.hpp>
#include <cstdio>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>

#include "agent/checksum.hpp"
#include "agent/record_store.hpp"
#include "mount/crash_point.hpp"
#include "tests/agent/fake_rig.hpp"

using namespace ordinald;
using namespace ordinald::testing;  // the fake agent, and all of agent/

namespace {

constexpr AccessMode single = AccessMode::single_node_single_writer;
constexpr AccessMode several = AccessMode::single_node_multi_writer;

/// A process of the holder's that has the volume in a mount namespace of its own, whatever becomes of the target on the host.
std::uint64_t run(FakeRig& rig, const std::string& group, std::int64_t pid, const std::string& at = "/pods/a") {
  std::uint64_t name_space = 0;
  rig.node.with([&](FakeState& state) {
    name_space = state.pin(at, pid, "postgres");
    state.mounts.back().mount_point = "/var/lib/postgresql";
    state.processes.push_back({.cgroup = group, .pid = pid, .command = "postgres", .mount_namespace = name_space});
  });
  return name_space;
}

void end_all(FakeRig& rig, std::uint64_t name_space) {
  rig.node.with([&](FakeState& state) {
    state.processes.clear();
    state.unpin(name_space);
  });
}

/// Unmounted and removed by somebody, behind the agent's back.
void lose_target(FakeRig& rig, const std::string& target = "/pods/a") {
  rig.node.with([&](FakeState& state) {
    std::erase_if(state.mounts, [&](const auto& mount) { return mount.mount_point == target && mount.mount_namespace == 0; });
    state.root.erase(target.substr(1));
  });
}

/// What the rig's agent logs from now on.
std::shared_ptr<std::ostringstream> listen(FakeRig& rig) {
  auto text = std::make_shared<std::ostringstream>();
  rig.log->sinks() = {std::make_shared<spdlog::sinks::ostream_sink_mt>(*text)};
  return text;
}

}  // namespace

TEST_CASE("hold: one whose target is gone stays while a process of its holder's has the volume, for every mode and call") {
  FakeRig rig;
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  REQUIRE(rig.publish());
  const std::uint64_t name_space = run(rig, "poduid-db-0", 4711);
  lose_target(rig);
  SECTION("at once") {}
  SECTION("after a restart") { rig.crash(); }
  SECTION("after a round of repairs") { rig.manager->repair(); }
  refused(rig.publish("/pods/b", several, "db-9"), ErrorCode::failed_precondition, "held by /db-0 (uid uid-db-0) at /pods/a");
  refused(rig.publish("/pods/b", single, "db-9"), ErrorCode::failed_precondition, "process 4711 (postgres, mount namespace ");
  refused(rig.unstage(), ErrorCode::failed_precondition, "still published");
  CHECK(rig.reasons() == "MountGone");  // until then health tells of it
  end_all(rig, name_space);
  CHECK(rig.publish("/pods/b", several, "db-9"));
  CHECK(rig.unpublish("/pods/b"));
  CHECK(rig.unstage());
}

TEST_CASE("hold: an unpublish ends it, whatever its processes do; a target that is mounted holds without any") {
  FakeRig rig;
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  REQUIRE(rig.publish());
  refused(rig.publish("/pods/b", single, "db-9"), ErrorCode::failed_precondition,
          "it is mounted there, and no process has it in a mount namespace of its own");
  rig.crash();
  rig.manager->repair();
  refused(rig.publish("/pods/b", single, "db-9"), ErrorCode::failed_precondition, "ordinalctl release " + rig.id + " --holder uid-db-0");
  run(rig, "poduid-db-0", 4711);
  lose_target(rig);
  CHECK(rig.unpublish("/pods/never"));
  REQUIRE(rig.unpublish());
  CHECK(rig.publish("/pods/b", several, "db-9"));
}

TEST_CASE("hold: two volumes hand over at once, each by its own holders") {
  FakeRig rig;
  REQUIRE(rig.create("data-db-0"));
  const std::string first = rig.id;
  REQUIRE(rig.stage(single, "/stage"));
  REQUIRE(rig.publish("/pods/a", single, "db-0"));
  run(rig, "poduid-db-0", 4711);
  REQUIRE(rig.create("data-db-1"));
  const std::string second = rig.id;
  rig.node.with([](FakeState& state) { state.add_directory("/stage2"); });
  const auto publish = [&](const std::string& id, const std::string& staging, const std::string& target, const std::string& pod) {
    return rig.manager->publish({},
                                {.volume_id = id,
                                 .staging_path = staging,
                                 .target_path = target,
                                 .capability = rig.capability(),
                                 .readonly = false,
                                 .publish_context = {},
                                 .volume_context = {{"csi.storage.k8s.io/pod.name", pod}, {"csi.storage.k8s.io/pod.uid", "uid-" + pod}}});
  };
  REQUIRE(rig.stage(single, "/stage2"));
  REQUIRE(publish(second, "/stage2", "/pods/b", "db-1"));
  REQUIRE(rig.manager->unpublish({}, {.volume_id = first, .target_path = "/pods/a"}));
  REQUIRE(rig.manager->unpublish({}, {.volume_id = second, .target_path = "/pods/b"}));
  // The second's holder is gone; the first's is not, and it has nothing of the second.
  CHECK(publish(second, "/stage2", "/pods/b2", "db-0"));
  refused(publish(first, "/stage", "/pods/a2", "db-1"), ErrorCode::failed_precondition, "process 4711");
}

TEST_CASE("hand-over: one look tells of all who had the volume, also after a restart") {
  FakeRig rig;
  REQUIRE(rig.create());
  for (int round = 0; round < 3; ++round) {
    REQUIRE(rig.stage());
    for (int i = 0; i < 12; ++i) {
      REQUIRE(rig.publish("/pods/a", single, "db-" + std::to_string(12 * round + i)));
      REQUIRE(rig.unpublish());
    }
    REQUIRE(rig.unstage());
  }
  REQUIRE(rig.stage());
  rig.crash();
  const auto looks = rig.node.passed("cgroup_users");
  REQUIRE(rig.publish("/pods/a", single, "db-99"));
  CHECK(rig.node.passed("cgroup_users") == looks + 1);
  REQUIRE(rig.unpublish());
  SECTION("the same pod again: none") {
    REQUIRE(rig.publish("/pods/a", single, "db-99"));
    CHECK(rig.node.passed("cgroup_users") == looks + 1);
  }
  SECTION("a pod that was gone and publishes again is looked for again") {
    REQUIRE(rig.publish("/pods/a", single, "db-98"));
    REQUIRE(rig.unpublish());
    REQUIRE(rig.publish("/pods/a", single, "db-99"));
    run(rig, "poduid-db-99", 4711);
    REQUIRE(rig.unpublish());
    refused(rig.publish("/pods/a", single, "db-98"), ErrorCode::failed_precondition, "process 4711");
  }
}

TEST_CASE("hand-over: a bystander is named in the log beside the calls, a holder is not") {
  FakeRig rig;
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  REQUIRE(rig.publish());
  rig.node.with([](FakeState& state) {
    const auto name_space = state.pin("/stage", 99, "node-exporter");
    state.processes.push_back({.cgroup = "poduid-monitor", .pid = 99, .command = "node-exporter", .mount_namespace = name_space});
  });
  const auto log = listen(rig);
  const auto look = [&] { rig.manager->watch_hand_overs({}, std::chrono::steady_clock::now()); };
  look();
  CHECK(log->str().find("node-exporter") == std::string::npos);  // it was handed to nobody
  REQUIRE(rig.unpublish());
  const auto looks = rig.node.passed("pins");
  REQUIRE(rig.publish("/pods/b", single, "db-9"));
  CHECK(rig.node.passed("pins") == looks);  // the call itself pays nothing for it
  run(rig, "poduid-db-9", 4711, "/pods/b");
  look();
  CHECK_THAT(log->str(), Catch::Contains("process 99 (node-exporter, mount namespace ") && Catch::Contains(" has it at /stage") &&
                             Catch::Contains("/db-9 (uid uid-db-9)") && !Catch::Contains("4711"));
}

TEST_CASE("hand-over: an agent that can't see says so, at start and at each") {
  FakeRig rig;
  const auto log = listen(rig);
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  REQUIRE(rig.publish());
  REQUIRE(rig.unpublish());
  rig.crash();
  CHECK(log->str().find("control groups") == std::string::npos);
  SECTION("groups") {
    rig.node.with([](FakeState& state) { state.sees_groups = false; });
    rig.crash();
    CHECK_THAT(log->str(), Catch::Contains("control groups are not at /sys/fs/cgroup"));
    CHECK(rig.publish("/pods/b", single, "db-9"));
    CHECK_THAT(log->str(), Catch::Contains("it goes from /db-0 (uid uid-db-0) to /db-9 (uid uid-db-9) unchecked"));
    REQUIRE(rig.unpublish("/pods/b"));
    CHECK(rig.publish("/pods/c", single, "db-8"));
    CHECK_THAT(log->str(), Catch::Contains("it goes from /db-9 (uid uid-db-9) to /db-8 (uid uid-db-8) unchecked"));
  }
  SECTION("processes") {
    rig.node.with([](FakeState& state) { state.sees_processes = false; });
    rig.crash();
    CHECK_THAT(log->str(), Catch::Contains("host's pids"));
    run(rig, "poduid-db-0", 4711, "/stage");
    refused(rig.publish("/pods/b", single, "db-9"), ErrorCode::failed_precondition, "can't be looked into");
  }
}

TEST_CASE("history: it costs a publish no fsync") {
#ifdef ORDINALD_CRASH_POINTS
  FakeRig rig;
  int syncs = 0;
  mount::set_act_hook([&](std::string_view act, std::string_view) { syncs += act.starts_with("fsync") ? 1 : 0; });
  const std::shared_ptr<void> unhook{nullptr, [](void*) { mount::set_act_hook({}); }};
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  CHECK(std::exchange(syncs, 0) > 0);
  REQUIRE(rig.publish());
  REQUIRE(rig.publish());
  REQUIRE(rig.unpublish());
  REQUIRE(rig.publish("/pods/b", single, "db-9"));
  REQUIRE(rig.unpublish("/pods/b"));
  CHECK(syncs == 0);
  REQUIRE(rig.unstage());
  CHECK(syncs > 0);
#else
  std::printf("SKIPPED: this build has no crash points to count fsyncs by\n");
#endif
}

TEST_CASE("history: its sixteen last live through restarts and reboots, the last boot's only where they were unstaged") {
  FakeRig rig;
  REQUIRE(rig.create());
  const auto live = [&](int from, int to) {
    REQUIRE(rig.stage());
    for (int i = from; i < to; ++i) {
      REQUIRE(rig.publish("/pods/a", single, "db-" + std::to_string(i)));
      rig.crash();
      REQUIRE(rig.unpublish());
    }
  };
  live(0, 10);
  REQUIRE(rig.unstage());
  rig.reboot();
  live(10, 20);
  REQUIRE(rig.unstage());
  rig.reboot();
  const auto history = RecordStore::open(rig.state_dir()).value()->find(rig.id)->history;
  REQUIRE(history.size() == longest_history);
  for (std::size_t i = 0; i < history.size(); ++i) {
    CHECK(history[i].holder.pod_name == "db-" + std::to_string(4 + i));
    CHECK(history[i].boot_id == (4 + i < 10 ? "boot" : "boot+"));
  }
  // Those of an earlier boot hold nothing, whatever is in a group of their name.
  rig.node.with([](FakeState& state) { state.processes.push_back({.cgroup = "poduid-db-19", .pid = 0}); });
  REQUIRE(rig.stage());
  CHECK(rig.publish("/pods/a", single, "db-30"));
}

TEST_CASE("ledger: an agent that is upgraded between two publishes holds what the other held, and one that can't read it holds it too") {
  FakeRig rig;
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  REQUIRE(rig.publish());
  const std::string file = rig.run_dir() + "/ledger/" + rig.id + ".json";
  const auto rewrite = [&](const std::function<void(nlohmann::json&)>& change) {
    std::string line;
    std::getline(std::ifstream{file}, line);
    nlohmann::json ledger = nlohmann::json::parse(line);
    change(ledger);
    line = ledger.dump();
    std::ofstream{file} << line << "\n" << crc32_hex(line) << "\n";
  };
  SECTION("written by a newer one that says more") {
    rewrite([](nlohmann::json& ledger) {
      ledger["future"] = {{"a", 1}};
      ledger["device"]["future"] = true;
      ledger["publications"][0]["future"] = "x";
      ledger["stages"][0]["future"] = nullptr;
    });
    rig.crash();
    refused(rig.publish("/pods/b", single, "db-9"), ErrorCode::failed_precondition, "held by /db-0 (uid uid-db-0) at /pods/a");
  }
  SECTION("written by an older one, which knew of no units") {
    REQUIRE(rig.unpublish());
    REQUIRE(rig.publish());
    rewrite([](nlohmann::json& ledger) {
      ledger["publications"][0].erase("unit");
      ledger["past"][0].erase("unit");
    });
    rig.crash();
    refused(rig.publish("/pods/b", single, "db-9"), ErrorCode::failed_precondition, "held by /db-0 (uid uid-db-0) at /pods/a");
  }
  SECTION("of another schema") {
    rewrite([](nlohmann::json& ledger) { ledger["schema"] = 2; });
    rig.crash();
    refused(rig.publish("/pods/b", single, "db-9"), ErrorCode::failed_precondition, "for somebody unknown");
  }
  CHECK(rig.publish());  // the same again is found done
  CHECK(rig.unpublish());
  CHECK(rig.publish("/pods/b", single, "db-9"));
}
