/// Holds, hand-overs and history in every order of events, on the fake kernel.

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
const std::ostringstream& listen(FakeRig& rig) {
  rig.logged.str("");
  return rig.logged;
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
  refused(rig.publish("/pods/b", single, "db-9"), ErrorCode::failed_precondition, "(unpublished), and its processes still do");
  CHECK(rig.unstage());
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
  const std::ostringstream& log = listen(rig);
  const auto look = [&] { rig.manager->watch_hand_overs({}, std::chrono::steady_clock::now()); };
  look();
  CHECK(log.str().find("node-exporter") == std::string::npos);  // it was handed to nobody
  REQUIRE(rig.unpublish());
  const auto looks = rig.node.passed("pins");
  REQUIRE(rig.publish("/pods/b", single, "db-9"));
  CHECK(rig.node.passed("pins") == looks);  // the call itself pays nothing for it
  run(rig, "poduid-db-9", 4711, "/pods/b");
  look();
  CHECK_THAT(log.str(), Catch::Contains("process 99 (node-exporter, mount namespace ") && Catch::Contains(" has it at /stage") &&
                            Catch::Contains("/db-9 (uid uid-db-9)") && !Catch::Contains("4711"));
}

TEST_CASE("hand-over: an agent that can't see says so, at start and at each") {
  FakeRig rig;
  const std::ostringstream& log = listen(rig);
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  REQUIRE(rig.publish());
  REQUIRE(rig.unpublish());
  rig.crash();
  CHECK(log.str().find("control groups") == std::string::npos);
  SECTION("groups") {
    rig.node.with([](FakeState& state) { state.sees_groups = false; });
    rig.crash();
    CHECK_THAT(log.str(), Catch::Contains("control groups are not at /sys/fs/cgroup"));
    CHECK(rig.publish("/pods/b", single, "db-9"));
    CHECK_THAT(log.str(), Catch::Contains("it goes from /db-0 (uid uid-db-0) to /db-9 (uid uid-db-9) unchecked"));
    REQUIRE(rig.unpublish("/pods/b"));
    CHECK(rig.publish("/pods/c", single, "db-8"));
    CHECK_THAT(log.str(), Catch::Contains("it goes from /db-9 (uid uid-db-9) to /db-8 (uid uid-db-8) unchecked"));
  }
  SECTION("processes") {
    rig.node.with([](FakeState& state) { state.sees_processes = false; });
    rig.crash();
    CHECK_THAT(log.str(), Catch::Contains("host's pids"));
    run(rig, "poduid-db-0", 4711, "/stage");
    refused(rig.publish("/pods/b", single, "db-9"), ErrorCode::failed_precondition, "can't be looked into");
  }
}

TEST_CASE("a lost ledger: of two units with one target, the other gets it once no process of the first has it") {
  FakeRig rig;
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  const auto claim = [&](const std::string& unit) {
    return rig.publish_with(
        "/pods/a", single,
        {{"csi.storage.k8s.io/pod.name", "db-0"}, {"csi.storage.k8s.io/pod.namespace", "host"}, {"ordinald.io/unit", unit}});
  };
  REQUIRE(claim("a.service"));
  const std::uint64_t name_space = run(rig, "a.service", 4711);
  lose_ledger(rig);
  for (int i = 0; i < 2; ++i) {
    refused(claim("b.service"), ErrorCode::failed_precondition, "process 4711 (postgres, mount namespace ");
    i == 0 ? rig.crash() : lose_ledger(rig);
  }
  SECTION("the first goes on") {
    REQUIRE(claim("a.service"));
    refused(claim("b.service"), ErrorCode::already_exists, "a.service");
  }
  SECTION("the first is gone") {
    end_all(rig, name_space);
    REQUIRE(claim("b.service"));
    refused(claim("a.service"), ErrorCode::already_exists, "b.service");
  }
}

TEST_CASE("a lost ledger: a pod that was deleted by force keeps others from its volume until its last process ends") {
  FakeRig rig;
  rig.fs_type = GENERATE(as<std::string>{}, "ext4", "btrfs");
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  REQUIRE(rig.publish());
  const std::uint64_t name_space = run(rig, "poduid-db-0", 4711);
  SECTION("unpublished after it") {
    lose_ledger(rig);
    REQUIRE(rig.unpublish());
  }
  SECTION("unpublished before it") {
    REQUIRE(rig.unpublish());
    lose_ledger(rig);
  }
  SECTION("its target taken away by somebody") {
    lose_ledger(rig);
    lose_target(rig);
  }
  SECTION("unstaged, while its process keeps the device") {
    lose_ledger(rig);
    REQUIRE(rig.unpublish());
    REQUIRE(rig.unstage());
    REQUIRE(rig.stage());
  }
  SECTION("unstaged before it") {
    REQUIRE(rig.unpublish());
    REQUIRE(rig.unstage());
    rig.manager.reset();
    std::filesystem::remove(rig.record_file());  // with who had it
    lose_ledger(rig);
    rig.manager->repair();
    lose_ledger(rig);
    REQUIRE(rig.stage());
  }
  for (int i = 0; i < 2; ++i) {
    refused(rig.publish("/pods/b", single, "db-9"), ErrorCode::failed_precondition, "4711");
    rig.crash();
  }
  CHECK_FALSE(rig.node.with([](FakeState& state) { return state.mount_at("/pods/b") != nullptr; }));
  SECTION("it has it again") {
    REQUIRE(rig.publish());
    refused(rig.publish("/pods/b", single, "db-9"), ErrorCode::failed_precondition, "held by /db-0 (uid uid-db-0)");
    REQUIRE(rig.unpublish());
    refused(rig.publish("/pods/b", single, "db-9"), ErrorCode::failed_precondition, "had it at /pods/a");  // now that is known
  }
  end_all(rig, name_space);
  REQUIRE(rig.publish("/pods/b", single, "db-9"));
  REQUIRE(rig.unpublish("/pods/b"));
  const auto looks = rig.node.passed("cgroup_users");
  REQUIRE(rig.publish("/pods/b", single, "db-9"));
  CHECK(rig.node.passed("cgroup_users") == looks);  // nothing is unknown any more
  REQUIRE(rig.unpublish("/pods/b"));
  REQUIRE(rig.unstage());
  CHECK_FALSE(std::filesystem::exists(rig.run_dir() + "/ledger/" + rig.id + ".json"));
}

TEST_CASE("a lost ledger: a copy of the mount table keeps nobody from a volume, an unnamed caller is told by its target") {
  FakeRig rig;
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  REQUIRE(rig.publish());
  SECTION("copies") {
    rig.node.with([](FakeState& state) {
      for (const std::string at : {"/stage", "/pods/a"}) {
        const auto name_space = state.pin(at, 99, "node-exporter");
        state.mounts.back().mount_point = "/host" + at;
        state.processes.push_back({.cgroup = "poduid-monitor", .pid = 99, .command = "node-exporter", .mount_namespace = name_space});
      }
    });
    lose_ledger(rig);
    REQUIRE(rig.unpublish());
    CHECK(rig.publish("/pods/b", single, "db-9"));
  }
  SECTION("unseen") {
    run(rig, "poduid-db-0", 4711);
    lose_ledger(rig);
    REQUIRE(rig.unpublish());
    rig.node.with([](FakeState& state) { state.sees_processes = false; });
    const std::ostringstream& log = listen(rig);
    CHECK(rig.publish("/pods/b", single, "db-9"));
    CHECK_THAT(log.str(), Catch::Contains("not all of the host's processes could be looked into"));
  }
  SECTION("unnamed") {
    run(rig, "poduid-db-0", 4711);
    lose_ledger(rig);
    CHECK(rig.publish_with("/pods/a", single, {}));
    REQUIRE(rig.unpublish());
    lose_ledger(rig);
    refused(rig.publish_with("/pods/a", single, {}), ErrorCode::failed_precondition, "process 4711");
  }
}

TEST_CASE("a lost ledger: who keeps others from the volume is explained") {
  FakeRig rig;
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  REQUIRE(rig.publish());
  run(rig, "poduid-db-0", 4711);
  lose_ledger(rig);
  REQUIRE(rig.unpublish());
  const auto held = rig.manager->holds(rig.id);
  REQUIRE(held);
  CHECK_FALSE(held.value().past_lost.empty());
  REQUIRE(held.value().others.size() == 1);
  CHECK(held.value().others[0].pid == 4711);
}

TEST_CASE("hand-over: a raw block device's holder keeps it as long as it lives, by a node that a runtime made and nobody sees") {
  FakeRig rig;
  rig.block = GENERATE(true, false);
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  REQUIRE(rig.publish());
  rig.node.with([](FakeState& state) { state.processes.push_back({.cgroup = "poduid-db-0", .pid = 4711, .command = "fio"}); });
  REQUIRE(rig.unpublish());
  if (rig.block) {
    for (int i = 0; i < 2; ++i) {
      refused(rig.publish("/pods/b", single, "db-9"), ErrorCode::failed_precondition, "its processes still run");
      refused(rig.publish("/pods/b", several, "db-9"), ErrorCode::failed_precondition, "process 4711 (fio, mount namespace 0) runs");
      CHECK(rig.manager->holds(rig.id).value().holds.front().processes.size() == 1);
      rig.crash();
    }
    REQUIRE(rig.unstage());  // into the record
    REQUIRE(rig.stage());
    refused(rig.publish("/pods/b", single, "db-9"), ErrorCode::failed_precondition, "its processes still run");
    rig.node.with([](FakeState& state) { state.processes.clear(); });
  }
  CHECK(rig.publish("/pods/b", single, "db-9"));
}

TEST_CASE("hand-over: who had a volume for itself keeps it also from those who would share it, and who shares it does not") {
  FakeRig rig;
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  const AccessMode mode = GENERATE(as<AccessMode>{}, single, several, AccessMode::single_node_writer);
  REQUIRE(rig.publish("/pods/a", mode));
  const std::uint64_t name_space = run(rig, "poduid-db-0", 4711);
  REQUIRE(rig.unpublish());
  if (mode == several) {
    CHECK(rig.publish("/pods/b", several, "db-9"));
    return;
  }
  refused(rig.publish("/pods/b", several, "db-9"), ErrorCode::failed_precondition, "process 4711 (postgres");
  SECTION("it shares it now") {
    REQUIRE(rig.publish("/pods/a", several));
    CHECK(rig.publish("/pods/b", several, "db-9"));
  }
  SECTION("it is gone") {
    end_all(rig, name_space);
    CHECK(rig.publish("/pods/b", several, "db-9"));
  }
}

TEST_CASE("a refusal says who keeps the volume, and how a hold is ended that nobody ends") {
  FakeRig rig;
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  const auto release = [&](const std::string& holder) { return "ordinalctl release " + rig.id + " --holder " + holder; };
  const auto publish = [&](const std::string& target, const StringMap& context) { return rig.publish_with(target, single, context); };
  SECTION("a unit") {
    const StringMap unit{{"ordinald.io/unit", "a.service"}};
    REQUIRE(publish("/pods/a", unit));
    refused(rig.publish("/pods/b", single, "db-9"), ErrorCode::failed_precondition, "held by unit a.service at /pods/a");
    refused(rig.publish("/pods/b", single, "db-9"), ErrorCode::failed_precondition, release("a.service"));
    run(rig, "a.service", 4711);
    refused(rig.publish("/pods/a", single, "db-9"), ErrorCode::already_exists, "process 4711 (postgres");
    refused(rig.publish("/pods/a", single, "db-9"), ErrorCode::already_exists, release("a.service"));
    CHECK(rig.publish_with("/pods/a", several, unit).error().message.find("release") == std::string::npos);  // it is its own
  }
  SECTION("an unnamed workload") {
    REQUIRE(publish("/pods/a", {}));
    refused(rig.publish("/pods/b", single, "db-9"), ErrorCode::failed_precondition, release("unknown"));
    CHECK(rig.manager->release({}, rig.id, "unknown", ""));
  }
  SECTION("a name") {
    REQUIRE(publish("/pods/a", {{"csi.storage.k8s.io/pod.namespace", "host"}, {"csi.storage.k8s.io/pod.name", "db-0"}}));
    refused(rig.publish("/pods/b", single, "db-9"), ErrorCode::failed_precondition, release("host/db-0"));
  }
  SECTION("found after a lost ledger") {
    REQUIRE(rig.publish());
    const std::uint64_t name_space = run(rig, "poduid-db-0", 4711);
    lose_ledger(rig);
    refused(rig.publish("/pods/b", single, "db-9"), ErrorCode::failed_precondition, "process 4711 (postgres");
    refused(rig.publish("/pods/b", single, "db-9"), ErrorCode::failed_precondition, release("unknown"));
    end_all(rig, name_space);
    refused(rig.publish("/pods/b", single, "db-9"), ErrorCode::failed_precondition, "no process is known to have it");
    CHECK(rig.manager->release({}, rig.id, "unknown", "/pods/a"));
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

TEST_CASE("history: who had it again pushes out none of this boot who may have it yet") {
  FakeRig rig;
  rig.block = true;
  REQUIRE(rig.create());
  REQUIRE(rig.stage(several));
  REQUIRE(rig.publish("/pods/z", several, "db-z"));
  rig.node.with([](FakeState& state) { state.processes.push_back({.cgroup = "poduid-db-z", .pid = 4711, .command = "fio"}); });
  REQUIRE(rig.unpublish("/pods/z"));
  for (std::size_t i = 0; i < 2 * longest_history; ++i) {
    REQUIRE(rig.publish("/pods/a", several, "db-a"));
    REQUIRE(rig.unpublish("/pods/a"));
  }
  refused(rig.publish("/pods/b", single, "db-9"), ErrorCode::failed_precondition, "process 4711 (fio");
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
