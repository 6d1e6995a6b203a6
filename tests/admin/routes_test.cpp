// Each route of the admin interface, with its refusals.
#include <fcntl.h>
#include <sys/mount.h>

#include <chrono>
#include <fstream>
#include <memory>

#include "tests/admin/admin_http.hpp"
#include "tests/faults/sick_directory.hpp"
#include "tests/support/rig.hpp"
#include "tests/support/workload.hpp"

namespace ordinald::testing {
namespace {

using nlohmann::json;

const auto rwop = mount_capability(single_node_single_writer, "ext4");

class AdminRig : public Rig {
 public:
  using Rig::Rig;
  AdminReply get(const std::string& target) const { return admin_get(root() / "run/admin.sock", target); }
  AdminReply post(const std::string& target, const json& body) const { return admin_post(root() / "run/admin.sock", target, body); }
  /// The body of an answer that must be good.
  json ask(const std::string& target) const {
    const AdminReply reply = get(target);
    INFO(target << " " << reply.body.dump());
    REQUIRE(reply.status == 200);
    return reply.body;
  }
  Outcome publish_for(const std::string& id, const std::string& pod, const StringMap& more = {}) {
    auto request = publish_request(id, rwop, staging("v"), target(pod));
    auto& context = *request.mutable_volume_context();
    context["csi.storage.k8s.io/pod.name"] = pod;
    context["csi.storage.k8s.io/pod.namespace"] = "prod";
    for (const auto& [key, value] : more) context[key] = value;
    return outcome(call(request));
  }
};

StringMap claim_of(const std::string& name) {
  return {{"identity", "ordinal"}, {"csi.storage.k8s.io/pvc/namespace", "prod"}, {"csi.storage.k8s.io/pvc/name", name}};
}

bool has(const json& list, const std::string& key, const std::string& value) {
  return std::any_of(list.begin(), list.end(), [&](const json& each) { return each[key] == value; });
}

}  // namespace

TEST_CASE("admin: status, pools, volumes, one volume by id, name and claim, doctor, orphans", "[admin][root]") {
  AdminRig rig;
  const std::string id = rig.create("pvc-1", rwop, 64 * mebi, claim_of("data-db-0"));
  json status = rig.ask("/v1/status");
  CHECK(status["healthy"] == true);
  CHECK(status["pid"] == rig.agent().pid());
  CHECK(status["volumes"] == json{{"total", 1}, {"staged", 0}, {"published", 0}, {"unhealthy", 0}});
  CHECK(status["pools"][0]["name"] == "default");
  for (const char* key : {"version", "nodeId", "pluginName", "bootId", "startedAt", "endpoint", "stateDir", "runDir", "problems", "running",
                          "hung", "repairs", "findings"})
    CHECK(status.contains(key));
  const json pool = rig.ask("/v1/pools")["pools"][0];
  CHECK(pool["promised"] == 64 * mebi);
  CHECK(pool["volumes"] == 1);
  CHECK(pool["healthy"] == true);
  CHECK(pool["total"] > 0);
  CHECK(pool["available"] > 0);
  CHECK(pool["directory"] == rig.pool().string());
  CHECK_THAT(pool["fileSystem"].get<std::string>(), Catch::Contains(" at /"));

  json volume = rig.ask("/v1/volumes")["volumes"][0];
  CHECK(volume["id"] == id);
  CHECK(volume["claim"] == "prod/data-db-0");
  CHECK(volume["identity"] == "ordinal");
  CHECK(volume["state"] == "created");
  CHECK(volume["content"] == "blank");
  REQUIRE(rig.stage(id, rwop, rig.staging("v")) == OK);
  REQUIRE(rig.publish_for(id, "db-0", {{"csi.storage.k8s.io/pod.uid", "uid-0"}}) == OK);
  for (const std::string& name : {id, std::string("pvc-1"), std::string("prod%2Fdata-db-0")}) {
    volume = rig.ask("/v1/volumes/" + name);
    CHECK(volume["id"] == id);
  }
  CHECK(volume["state"] == "published");
  CHECK(volume["health"] == json::array());
  CHECK(volume["stages"][0]["path"] == rig.staging("v").string());
  CHECK(volume["publications"][0]["target"] == rig.target("db-0").string());
  CHECK(volume["publications"][0]["mode"] == "SINGLE_NODE_SINGLE_WRITER");
  CHECK(volume["publications"][0]["holder"]["text"] == "prod/db-0 (uid uid-0)");
  CHECK(volume["record"]["id"] == id);
  CHECK(volume["device"]["backingFile"] == rig.image_of(id).string());
  CHECK(volume["device"]["diskSequence"] > 0);
  CHECK(volume["mounts"].size() == 2);
  CHECK(volume["history"] == json::array());
  CHECK(volume["lastErrors"] == json::array());
  CHECK(rig.ask("/v1/status")["volumes"]["published"] == 1);

  // Somebody unmounts it behind our back: told without asking a device.
  REQUIRE(::umount2(rig.target("db-0").c_str(), 0) == 0);
  CHECK(has(rig.ask("/v1/volumes")["volumes"][0]["health"], "reason", "MountGone"));
  status = rig.ask("/v1/status");
  CHECK(status["healthy"] == false);
  CHECK(status["volumes"]["unhealthy"] == 1);
  REQUIRE(rig.unpublish(id, rig.target("db-0")) == OK);
  CHECK(rig.ask("/v1/volumes/" + id)["history"][0]["holder"]["name"] == "db-0");

  const json doctor = rig.ask("/v1/doctor");
  for (const char* name : {"kernel", "capabilities", "loop devices", "agent's tools", "mount propagation", "state directory",
                           "run directory", "control groups", "host's processes", "pool default"})
    CHECK(has(doctor["checks"], "name", name));
  for (const json& each : doctor["checks"]) {
    if (each["name"] == "agent's tools") {
      CHECK_THAT(each["detail"].get<std::string>(),
                 Catch::Matches("mke2fs [0-9.]+, e2fsck [0-9.]+, resize2fs, e2undo, mkfs.xfs [0-9.]+, mkfs.btrfs [0-9.]+"));
    }
  }
  const AdminReply adopted = rig.post("/v1/adopt", {{"path", "/x.img"}, {"dryRun", true}});
  CHECK(adopted.status == 404);
  CHECK(adopted.code() == "NOT_FOUND");

  write_file(rig.pool() / "stray.img", "x");
  CHECK(rig.ask("/v1/orphans")["findings"] == json::array());
  // Seen at once, though no repair has come by since.
  CHECK_THAT(rig.ask("/v1/orphans")["leftovers"].dump(), Catch::Contains((rig.pool() / "stray.img").string() + ": it has no mark"));
  const AdminReply repaired = rig.post("/v1/orphans/repair", json::object());
  CHECK(repaired.status == 200);
  REQUIRE(repaired.body["findings"].size() == 1);
  CHECK(repaired.body["findings"][0]["command"] == "rm " + (rig.pool() / "stray.img").string());
  CHECK(rig.ask("/v1/orphans")["findings"].size() == 1);
  fs::remove(rig.pool() / "stray.img");
  CHECK(rig.post("/v1/orphans/repair", json::object()).body["findings"] == json::array());

  // A record that is damaged, and one that is lost while its volume is in use.
  rig.agent().kill();
  write_file(rig.record_of(id), R"({"schema": 99})");
  rig.agent().start();
  volume = rig.ask("/v1/volumes/" + id);
  CHECK(volume["state"] == "damaged");
  CHECK(has(volume["health"], "reason", "RecordDamaged"));
}

TEST_CASE("admin: last errors and explain: who holds it, by which processes, and what would let the call through", "[admin][root]") {
  if (!TestCgroup::possible()) {
    std::printf("SKIPPED: control groups can't be made here\n");
    return;
  }
  AdminRig rig;
  const std::string id = rig.create("pvc-1", rwop);
  json explained = rig.ask("/v1/volumes/" + id + "/explain");
  CHECK(explained["refusal"].is_null());
  CHECK(explained["holds"] == json::array());
  REQUIRE(rig.stage(id, rwop, rig.staging("v")) == OK);
  const std::string unit = "postgres@" + std::to_string(::getpid()) + ".service";
  REQUIRE(rig.publish_for(id, "db-1", {{"ordinald.io/unit", unit}}) == OK);
  const fs::path file = rig.target("db-1") / "file";
  REQUIRE(try_write(file, "x") == 0);
  auto process = std::make_unique<Workload>(unit, [&] { (void)::open(file.c_str(), O_WRONLY); });
  for (int i = 0; i < 12; ++i) CHECK(rig.publish_for(id, "db-2") == FAILED_PRECONDITION);
  explained = rig.ask("/v1/volumes/" + id + "/explain");
  CHECK(explained["refusal"]["call"] == "NodePublishVolume");
  CHECK(explained["refusal"]["code"] == "FAILED_PRECONDITION");
  CHECK_THAT(explained["refusal"]["message"].get<std::string>(), Catch::Contains("held by prod/db-1 (unit " + unit + ")"));
  REQUIRE(explained["holds"].size() == 1);
  CHECK(explained["holds"][0]["mounted"] == true);
  CHECK(explained["holds"][0]["toldApart"] == true);
  CHECK(explained["holds"][0]["target"] == rig.target("db-1").string());
  CHECK(explained["holds"][0]["holder"]["unit"] == unit);
  REQUIRE(explained["holds"][0]["processes"].size() == 1);
  CHECK(explained["holds"][0]["processes"][0]["pid"] == process->pid());
  CHECK(explained["holds"][0]["processes"][0]["command"] == "workload");
  CHECK_THAT(explained["remedies"].dump(), Catch::Contains("ordinalctl release " + id + " --holder prod/db-1") &&
                                               Catch::Contains("kill " + std::to_string(process->pid())));
  // A dozen of the same refusal is one entry, and others stay beside it.
  CHECK(rig.publish_for(id, "db-3") == FAILED_PRECONDITION);
  CHECK(rig.ask("/v1/volumes/" + id)["lastErrors"].size() == 2);

  // The hold is over, and its process goes on: it is a hold still.
  REQUIRE(::umount2(rig.target("db-1").c_str(), MNT_DETACH) == 0);
  REQUIRE(rig.unpublish(id, rig.target("db-1")) == OK);
  CHECK(rig.publish_for(id, "db-2") == FAILED_PRECONDITION);
  explained = rig.ask("/v1/volumes/" + id + "/explain");
  REQUIRE(explained["holds"].size() == 1);
  CHECK(explained["holds"][0]["ended"] == "unpublished");
  CHECK(explained["holds"][0]["mounted"] == false);
  process.reset();
  CHECK(rig.publish_for(id, "db-2") == OK);
  explained = rig.ask("/v1/volumes/" + id + "/explain");
  CHECK(explained["refusal"].is_null());  // it went through since
  CHECK(explained["holds"][0]["holder"]["name"] == "db-2");
}

TEST_CASE("admin: release ends a hold by hand, and never one that somebody still writes through", "[admin][root]") {
  if (!TestCgroup::possible()) {
    std::printf("SKIPPED: control groups can't be made here\n");
    return;
  }
  AdminRig rig;
  const std::string id = rig.create("pvc-1", rwop);
  const std::string path = "/v1/volumes/" + id + "/release";
  REQUIRE(rig.stage(id, rwop, rig.staging("v")) == OK);
  const std::string uid = "0c5b9a1e-77d0-4f0e-8a4e-" + std::to_string(100000000000LL + ::getpid());
  REQUIRE(rig.publish_for(id, "db-1", {{"csi.storage.k8s.io/pod.uid", uid}}) == OK);
  const fs::path target = rig.target("db-1");
  AdminReply reply = rig.post(path, {{"holder", "prod/db-9"}});
  CHECK(reply.status == 404);
  CHECK_THAT(reply.message(), Catch::Contains("held by prod/db-1"));
  CHECK(rig.post(path, {{"holder", "prod/db-1"}, {"target", "/elsewhere"}}).status == 404);
  for (const json& body : {json{{"holder", ""}}, json::object(), json{{"holder", 5}}, json{{"holder", "a"}, {"else", "b"}}, json::array()})
    CHECK(rig.post(path, body).status == 400);

  SECTION("a process of the pod has it elsewhere") {
    auto process = std::make_unique<Workload>("pod" + uid, [] { leave_mount_namespace(); });
    reply = rig.post(path, {{"holder", uid}});
    CHECK(reply.status == 409);
    CHECK(reply.code() == "FAILED_PRECONDITION");
    CHECK_THAT(reply.message(), Catch::Contains("process " + std::to_string(process->pid())));
    CHECK(rig.ask("/v1/volumes/" + id)["publications"].size() == 1);
    process.reset();
  }
  SECTION("somebody else has a file open: busy, and who") {
    std::ofstream open{target / "file"};
    reply = rig.post(path, {{"holder", "prod/db-1"}});
    CHECK(reply.status == 409);
    CHECK_THAT(reply.message(), Catch::Contains("process " + std::to_string(::getpid())));
    CHECK(rig.ask("/v1/volumes/" + id)["publications"].size() == 1);
  }
  SECTION("its target is unmounted already") { REQUIRE(::umount2(target.c_str(), 0) == 0); }
  SECTION("nothing is in the way") {}
  reply = rig.post(path, {{"holder", "prod/db-1"}});
  INFO(reply.body.dump());
  REQUIRE(reply.status == 200);
  CHECK(reply.body["released"][0]["target"] == target.string());
  CHECK(reply.body["left"][0]["path"] == rig.staging("v").string());
  CHECK_FALSE(fs::exists(target));
  const json volume = rig.ask("/v1/volumes/" + id);
  CHECK(volume["publications"] == json::array());
  CHECK(volume["history"][0]["ended"] == "released by hand");
  CHECK_THAT(rig.agent().log(), Catch::Contains("is ended by hand"));
  CHECK(rig.publish_for(id, "db-2") == OK);
}

TEST_CASE("admin: release of a workload that is not known by a control group is refused while anybody has it", "[admin][root]") {
  AdminRig rig;
  const std::string id = rig.create("pvc-1", rwop);
  REQUIRE(rig.stage(id, rwop, rig.staging("v")) == OK);
  REQUIRE(rig.publish(id, rwop, rig.staging("v"), rig.target("a")) == OK);
  const fs::path inside = rig.root() / "container";
  fs::create_directory(inside);
  REQUIRE(::mount(rig.target("a").c_str(), inside.c_str(), nullptr, MS_BIND, nullptr) == 0);
  auto process = std::make_unique<NamespaceHolder>();
  REQUIRE(::umount2(inside.c_str(), 0) == 0);
  json explained = rig.ask("/v1/volumes/" + id + "/explain");
  CHECK(explained["holds"][0]["toldApart"] == false);
  CHECK(explained["others"][0]["pid"] == process->pid());
  CHECK_THAT(explained["remedies"].dump(), Catch::Contains("end these first (kill " + std::to_string(process->pid()) +
                                                           "), then ordinalctl release " + id + " --holder unknown"));
  AdminReply reply = rig.post("/v1/volumes/" + id + "/release", {{"holder", "unknown"}});
  CHECK(reply.status == 409);
  CHECK_THAT(reply.message(), Catch::Contains("process " + std::to_string(process->pid())));
  process.reset();
  explained = rig.ask("/v1/volumes/" + id + "/explain");
  CHECK_THAT(explained["remedies"].dump(), Catch::Contains("if nobody will unpublish it: ordinalctl release"));
  const NamespaceHolder bystander;  // has our own paths only: a copy of the mount table
  CHECK(rig.post("/v1/volumes/" + id + "/release", {{"holder", "unknown"}}).status == 200);
}

TEST_CASE("admin: release of what was found mounted when the ledger was lost", "[admin][root]") {
  AdminRig rig;
  const std::string id = rig.create("pvc-1", rwop);
  REQUIRE(rig.stage(id, rwop, rig.staging("v")) == OK);
  REQUIRE(rig.publish_for(id, "db-1") == OK);
  rig.agent().kill();
  fs::remove_all(rig.root() / "run/ledger");
  rig.agent().start();
  json volume = rig.ask("/v1/volumes/" + id);
  CHECK(volume["found"].size() == 2);
  CHECK(rig.post("/v1/volumes/" + id + "/release", {{"holder", "unknown"}, {"target", rig.target("db-1").string()}}).status == 200);
  CHECK(rig.ask("/v1/volumes/" + id)["found"].size() == 1);
  CHECK(rig.post("/v1/volumes/" + id + "/release", {{"holder", "unknown"}}).status == 200);
  CHECK(rig.ask("/v1/volumes/" + id)["state"] == "created");
  CHECK(rig.stage(id, rwop, rig.staging("v")) == OK);
}

TEST_CASE("admin: rebind gives a kept volume to another claim, durable, with its history, and never while it is held", "[admin][root]") {
  AdminRig rig;
  const std::string id = rig.create("pvc-1", rwop, 64 * mebi, claim_of("data-db-0"));
  const std::string other = rig.create("pvc-2", rwop, 64 * mebi, claim_of("data-db-2"));
  const std::string path = "/v1/volumes/prod%2Fdata-db-0/rebind";
  REQUIRE(rig.stage(id, rwop, rig.staging("v")) == OK);
  REQUIRE(rig.publish_for(id, "db-0") == OK);
  AdminReply reply = rig.post(path, {{"namespace", "prod"}, {"claim", "data-db-1"}});
  CHECK(reply.status == 409);
  CHECK_THAT(reply.message(), Catch::Contains("held by prod/db-0") && Catch::Contains(rig.target("db-0").string()));
  REQUIRE(rig.unpublish(id, rig.target("db-0")) == OK);
  reply = rig.post(path, {{"namespace", "prod"}, {"claim", "data-db-2"}});
  CHECK(reply.status == 409);
  CHECK_THAT(reply.message(), Catch::Contains(other));
  for (const json& body : {json{{"namespace", "prod"}}, json{{"namespace", "Prod"}, {"claim", "a"}},
                           json{{"namespace", "a/b"}, {"claim", "a"}}, json{{"namespace", "prod"}, {"claim", "../x"}}})
    CHECK(rig.post(path, body).status == 400);
  CHECK(rig.post("/v1/volumes/none/rebind", {{"namespace", "prod"}, {"claim", "data-db-1"}}).status == 404);

  CHECK(rig.publish_for(id, "db-1") == FAILED_PRECONDITION);
  CHECK_THAT(rig.ask("/v1/volumes/" + id + "/explain")["remedies"].dump(), Catch::Contains("ordinalctl rebind " + id));
  reply = rig.post(path, {{"namespace", "prod"}, {"claim", "data-db-1"}});
  REQUIRE(reply.status == 200);
  CHECK(reply.body["claim"] == "prod/data-db-1");
  // Also when the record is lost: the image says so too.
  const bool record_lost = GENERATE(false, true);
  rig.agent().kill();
  if (record_lost) fs::remove(rig.record_of(id));
  rig.agent().start();
  if (record_lost) {
    REQUIRE(rig.post("/v1/orphans/repair", json::object()).status == 200);
    CHECK(rig.ask("/v1/volumes/prod%2Fdata-db-1")["id"] == id);
    CHECK(rig.publish_for(id, "db-0") == FAILED_PRECONDITION);
    return;
  }
  const json volume = rig.ask("/v1/volumes/prod%2Fdata-db-1");
  CHECK(volume["id"] == id);
  CHECK(volume["history"][0]["holder"]["name"] == "db-0");
  CHECK(rig.publish_for(id, "db-0") == FAILED_PRECONDITION);
  CHECK(rig.publish_for(id, "db-1") == OK);
}

TEST_CASE("admin: answers come soon while disks hang, and say which", "[admin][root]") {
  AdminRig rig(Settings{{"deviceTimeoutSeconds", 1}}, false);
  SickDirectory disk(rig.pool());
  rig.agent().start();
  const std::string id = rig.create("sick", rwop, 16 * mebi);
  disk.freeze();
  CHECK(rig.stage(id, rwop, rig.staging("v")) == UNAVAILABLE);
  for (const std::string& target : {std::string("/v1/status"), std::string("/v1/volumes"), std::string("/v1/pools"), "/v1/volumes/" + id,
                                    "/v1/volumes/" + id + "/explain", std::string("/v1/orphans"), std::string("/v1/doctor")}) {
    const auto begin = std::chrono::steady_clock::now();
    CHECK(rig.get(target).status == 200);
    INFO(target);
    CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(4));
  }
  const json status = rig.ask("/v1/status");
  CHECK(status["healthy"] == false);
  CHECK(has(status["hung"], "volume", id));
  CHECK(has(rig.ask("/v1/volumes")["volumes"][0]["health"], "reason", "DeviceHung"));
  CHECK(rig.ask("/v1/pools")["pools"][0]["problems"][0]["reason"] == "PoolHung");
  disk.thaw();
}

}  // namespace ordinald::testing
