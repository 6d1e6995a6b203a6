/// Who a volume belongs to, and how it goes from one holder to the next.

#include <catch2/catch.hpp>

#include "agent/ordinal_identity.hpp"
#include "agent/record_store.hpp"
#include "tests/agent/fake_rig.hpp"

using namespace ordinald;
using namespace ordinald::testing;  // the fake agent, and all of agent/

namespace {

constexpr AccessMode single = AccessMode::single_node_single_writer;
constexpr AccessMode several = AccessMode::single_node_multi_writer;

StringMap made_for(const std::string& identity, const std::string& claim = "data-db-0", const std::string& name_space = "prod") {
  return {{"identity", identity}, {"csi.storage.k8s.io/pvc/name", claim}, {"csi.storage.k8s.io/pvc/namespace", name_space}};
}

Holder pod(const std::string& name, const std::string& name_space = "prod") {
  return Holder{.pod_namespace = name_space, .pod_name = name, .pod_uid = "uid-" + name, .service_account = {}};
}

}  // namespace

TEST_CASE("identity: an ordinal's volume is that ordinal's, whatever dashes the names have") {
  struct Case {
    std::string claim;
    std::string pod;
    bool may;
  };
  for (const Case& c : std::vector<Case>{
           {"data-db-0", "db-0", true},
           {"data-db-10", "db-10", true},
           {"data-db-10", "db-1", false},
           {"data-db-1", "db-10", false},
           {"data-db-0", "db-1", false},
           {"data-db-0", "web-0", false},
           {"data-web-db-0", "web-db-0", true},
           {"data-web-db-0", "db-0", true},  // by the template data-web: the name can't tell, and both would be the same claim
           {"my-data-db-0", "db-0", true},
           {"db-0", "db-0", false},  // no template
           {"-db-0", "db-0", false},
           {"datadb-0", "db-0", false},
           {"data-db-00", "db-00", false},  // no ordinal is written so
           {"data-db", "db", false},        // no ordinal at all
           {"data-100-7", "100-7", true},
           {"data-db-5", "db-5", true},  // a set that starts at five
           {"data-db-4294967296", "db-4294967296", true},
           {"data-db-0-0", "db-0-0", true},  // sets db and db-0 side by side
           {"data-db-0-0", "db-0", false},
           {"data-db-0", "db-0-0", false},
           {"data-db-0", "0", false},
           {"data-db-0", "-0", false},
           {"data-db-0-1", "0-1", true},  // a set named 0, by the template data-db
           {"data-web.v1-0", "web.v1-0", true},
           {"data--db-0", "db-0", false},   // no template ends with a dash
           {"data-db--0", "db--0", false},  // nor a set
           {"Data-db-0", "db-0", false},
           {"da.ta-db-0", "db-0", false},
           {"data-DB-0", "DB-0", false},
           {"data-d_b-0", "d_b-0", false},
           {"data-.db-0", ".db-0", false},
           {std::string(64, 'a') + "-db-0", "db-0", false},
           {std::string(63, 'a') + "-db-0", "db-0", true}}) {
    CAPTURE(c.claim, c.pod);
    const auto verdict = check_identity(Identity::ordinal, {.name_space = "prod", .name = c.claim}, pod(c.pod));
    CHECK(bool(verdict) == c.may);
    if (!verdict) {
      CHECK(verdict.error().code == ErrorCode::failed_precondition);
      CHECK_THAT(verdict.error().message, Catch::Contains("prod/" + c.claim) && Catch::Contains("prod/" + c.pod));
    }
  }
  const Claim claim{.name_space = "prod", .name = "data-db-0"};
  refused(check_identity(Identity::ordinal, claim, pod("db-0", "test")), ErrorCode::failed_precondition, "another namespace");
  refused(check_identity(Identity::ordinal, claim, {}), ErrorCode::failed_precondition, "podInfoOnMount");
  refused(check_identity(Identity::ordinal, {}, pod("db-0")), ErrorCode::failed_precondition, "--extra-create-metadata");
  CHECK(check_identity(Identity::claim, claim, pod("anything")));
  refused(check_identity(Identity::claim, claim, pod("anything", "test")), ErrorCode::failed_precondition, "another namespace");
  CHECK(check_identity(Identity::none, {}, {}));
}

TEST_CASE("identity: asked for at creation, kept through a restart, held to at each publish") {
  FakeRig rig;
  SECTION("a create that lacks what it needs is refused, with what to configure") {
    rig.parameters = {{"identity", "ordinal"}};
    const auto made = rig.create();
    REQUIRE_FALSE(made);
    CHECK(made.error().code == ErrorCode::invalid_argument);
    CHECK_THAT(made.error().message, Catch::Contains("--extra-create-metadata"));
    rig.parameters = made_for("sticky");
    CHECK_FALSE(rig.create());
  }
  SECTION("ordinal") {
    rig.parameters = made_for("ordinal");
    REQUIRE(rig.create());
    REQUIRE(rig.stage());
    rig.crash();
    refused(rig.publish("/pods/b", single, "db-1", "prod"), ErrorCode::failed_precondition, "claim prod/data-db-0; pod prod/db-1");
    refused(rig.publish("/pods/b", single, "db-0", "test"), ErrorCode::failed_precondition, "another namespace");
    refused(rig.publish("/pods/b", single, "db-0"), ErrorCode::failed_precondition, "podInfoOnMount");
    CHECK(rig.publish("/pods/a", single, "db-0", "prod"));
  }
  SECTION("claim") {
    rig.parameters = made_for("claim");
    REQUIRE(rig.create());
    REQUIRE(rig.stage());
    refused(rig.publish("/pods/b", single, "job-x", "test"), ErrorCode::failed_precondition, "another namespace");
    CHECK(rig.publish("/pods/a", single, "job-x", "prod"));
  }
  SECTION("a static volume says it in its context") {
    REQUIRE(rig.create());
    REQUIRE(rig.stage());
    StringMap context = made_for("ordinal");
    context["csi.storage.k8s.io/pod.name"] = "db-1";
    context["csi.storage.k8s.io/pod.namespace"] = "prod";
    refused(rig.publish_with("/pods/a", single, context), ErrorCode::failed_precondition, "not that ordinal");
    context["csi.storage.k8s.io/pod.name"] = "db-0";
    CHECK(rig.publish_with("/pods/a", single, context));
  }
}

TEST_CASE("history: who has had a volume, in the ledger since boot and in the record from unstage on") {
  FakeRig rig;
  REQUIRE(rig.create());
  const auto history = [&] {
    const auto store = RecordStore::open(rig.state_dir());
    REQUIRE(store);
    return store.value()->find(rig.id)->history;
  };
  for (int round = 0; round < 20; ++round) {
    REQUIRE(rig.stage());
    REQUIRE(rig.publish("/pods/a", single, "db-" + std::to_string(round)));
    REQUIRE(rig.unpublish());
    rig.crash();
    REQUIRE(rig.unstage());
  }
  REQUIRE(history().size() == longest_history);
  CHECK(history().front().holder.pod_name == "db-4");
  CHECK(history().back().holder.pod_name == "db-19");
  CHECK(history().back().target == "/pods/a");
  CHECK(history().back().ended == "unpublished");
  CHECK_FALSE(history().back().from.empty());
  CHECK_FALSE(history().back().to.empty());
}

TEST_CASE("history: an unstage does not wait for it to be written") {
  FakeRig rig;
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  REQUIRE(rig.publish());
  REQUIRE(rig.unpublish());
  const std::string records = rig.state_dir() + "/volumes";
  std::filesystem::rename(records, records + ".away");  // no record can be written
  CHECK(rig.unstage());
  std::filesystem::rename(records + ".away", records);
  rig.crash();
  REQUIRE(rig.stage());
  REQUIRE(rig.unstage());
  const auto store = RecordStore::open(rig.state_dir());
  REQUIRE(store);
  CHECK(store.value()->find(rig.id)->history.size() == 1);
}

TEST_CASE("hand-over: a deleted pod's processes that still have the volume hold it, and nobody else's do") {
  FakeRig rig;
  rig.block = GENERATE(false, true);
  const std::string group = GENERATE(as<std::string>{}, "poduid-db-0", "kubepods-besteffort-poduid_db_0.slice");
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  REQUIRE(rig.publish());
  std::uint64_t name_space = 0;
  rig.node.with([&](FakeState& state) {
    name_space = state.pin("/pods/a", 4711, "postgres");
    state.mounts.back().mount_point = "/var/lib/postgresql";  // in the container it hangs elsewhere
    state.processes.push_back({.cgroup = group, .pid = 4711, .command = "postgres", .mount_namespace = name_space});
  });
  const auto pod_ends = [&] {
    rig.node.with([&](FakeState& state) {
      state.processes.clear();
      state.unpin(name_space);
    });
  };
  SECTION("after an unpublish") { REQUIRE(rig.unpublish()); }
  SECTION("after its target was taken away") {
    rig.node.with([](FakeState& state) {
      std::erase_if(state.mounts, [](const auto& mount) { return mount.mount_point == "/pods/a" && mount.mount_namespace == 0; });
      state.root.erase("pods/a");
    });
  }
  SECTION("after an unstage too, and a restart") {
    REQUIRE(rig.unpublish());
    REQUIRE(rig.unstage());
    rig.crash();
    REQUIRE(rig.stage());
  }
  refused(rig.publish("/pods/b", single, "db-9"), ErrorCode::failed_precondition, "process 4711 (postgres, mount namespace ");
  CHECK(rig.publish("/pods/a2", single, "db-0"));  // the same pod goes on
  REQUIRE(rig.unpublish("/pods/a2"));
  pod_ends();
  CHECK(rig.publish("/pods/b", single, "db-9"));
  REQUIRE(rig.unpublish("/pods/b"));
  REQUIRE(rig.unstage());
}

TEST_CASE("hand-over: processes that can't be looked into hold, bystanders and shared modes don't") {
  FakeRig rig;
  REQUIRE(rig.create());
  REQUIRE(rig.stage(several));
  REQUIRE(rig.publish("/pods/a", several));
  REQUIRE(rig.unpublish());
  SECTION("of another pid namespace") {
    rig.node.with([](FakeState& state) { state.processes.push_back({.cgroup = "poduid-db-0", .pid = 0}); });
    refused(rig.publish("/pods/b", single, "db-9"), ErrorCode::failed_precondition, "can't be looked into");
    CHECK(rig.publish("/pods/b", several, "db-9"));
  }
  SECTION("still ending, but without the volume") {
    rig.node.with([](FakeState& state) { state.processes.push_back({.cgroup = "poduid-db-0", .pid = 12, .command = "sleep"}); });
    CHECK(rig.publish("/pods/b", single, "db-9"));
  }
  SECTION("a bystander") {
    rig.node.with([](FakeState& state) {
      const auto name_space = state.pin("/stage", 99, "node-exporter");
      state.processes.push_back({.cgroup = "poduid-monitor", .pid = 99, .command = "node-exporter", .mount_namespace = name_space});
    });
    CHECK(rig.publish("/pods/b", single, "db-9"));
  }
  SECTION("one that is gone is looked for once") {
    REQUIRE(rig.publish("/pods/b", single, "db-9"));
    REQUIRE(rig.unpublish("/pods/b"));
    const auto looks = rig.node.passed("cgroup_users");
    REQUIRE(rig.publish("/pods/b", single, "db-9"));
    CHECK(rig.node.passed("cgroup_users") == looks);
  }
}

TEST_CASE("holder: the same one by uid where either has one, else by namespace, name and unit; units by their names") {
  const Holder db{.pod_namespace = "host", .pod_name = "db-0", .pod_uid = {}, .service_account = {}, .unit = "postgres@0.service"};
  CHECK(to_string(db) == "host/db-0 (unit postgres@0.service)");
  Holder other = db;
  CHECK(is_same(db, other));
  other.unit = "postgres@1.service";
  CHECK_FALSE(is_same(db, other));
  other = db;
  other.pod_name = "db-1";
  CHECK_FALSE(is_same(db, other));
  Holder a = pod("db-0");
  Holder b = a;
  b.service_account = "another";
  CHECK(is_same(a, b));
  b.pod_uid = "uid-2";
  CHECK_FALSE(is_same(a, b));
  b.pod_uid.clear();
  CHECK_FALSE(is_same(a, b));
  a.unit = "x.service";
  CHECK(to_string(a) == "prod/db-0 (uid uid-db-0, unit x.service)");

  for (const char* name : {"postgres@0.service", "a.scope", "system-postgres\\x2dha.slice", "x:y_z.service"}) {
    CHECK(is_unit_name(name));
  }
  for (const std::string& name :
       {std::string{}, std::string{"postgres"}, std::string{"postgres@.service"}, std::string{".service"}, std::string{"../x.service"},
        std::string{"*.service"}, std::string{"a b.service"}, std::string{"db.target"}, std::string(256, 'a') + ".service"}) {
    CAPTURE(name);
    CHECK_FALSE(is_unit_name(name));
  }
}

TEST_CASE("hand-over: on bare metal the unit's processes hold, each time anew, and it survives a restart") {
  FakeRig rig;
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  const std::string unit = GENERATE(as<std::string>{}, "postgres@0.service", "memory.service");
  const std::string group = unit == "memory.service" ? "_memory.service" : unit;
  const auto claim = [](const std::string& name, const std::string& by) {
    return StringMap{{"csi.storage.k8s.io/pod.name", name}, {"csi.storage.k8s.io/pod.namespace", "host"}, {"ordinald.io/unit", by}};
  };
  refused(rig.publish_with("/pods/a", single, claim("db-0", "postgres@.service")), ErrorCode::invalid_argument, "ordinald.io/unit");
  for (int round = 0; round < 2; ++round) {  // gone once is not gone for good: a unit is started anew
    REQUIRE(rig.publish_with("/pods/a", single, claim("db-0", unit)));
    refused(rig.publish_with("/pods/b", single, claim("db-9", "other.service")), ErrorCode::failed_precondition,
            "held by host/db-0 (unit " + unit + ")");
    std::uint64_t name_space = 0;
    rig.node.with([&](FakeState& state) {
      name_space = state.pin("/pods/a", 4711, "postgres");
      state.mounts.back().mount_point = "/srv/db";
      state.processes.push_back({.cgroup = group, .pid = 4711, .command = "postgres", .mount_namespace = name_space});
    });
    REQUIRE(rig.unpublish());
    rig.crash();
    refused(rig.publish_with("/pods/b", single, claim("db-9", "other.service")), ErrorCode::failed_precondition,
            "process 4711 (postgres, ");
    CHECK(rig.publish_with("/pods/c", single, claim("db-0", unit)));  // it goes on
    REQUIRE(rig.unpublish("/pods/c"));
    rig.node.with([&](FakeState& state) {
      state.processes.clear();
      state.unpin(name_space);
    });
    CHECK(rig.publish_with("/pods/b", single, claim("db-9", "other.service")));
    REQUIRE(rig.unpublish("/pods/b"));
  }
  REQUIRE(rig.unstage());
  const auto store = RecordStore::open(rig.state_dir());
  REQUIRE(store);
  CHECK(store.value()->find(rig.id)->history.front().holder.unit == unit);
}
