// What nobody asked for and what appears while the agent runs, as a round of repairs reports it, on real mounts.
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "tests/admin/admin_http.hpp"
#include "tests/support/rig.hpp"

namespace ordinald::testing {
namespace {

using nlohmann::json;

const auto rwop = mount_capability(single_node_single_writer, "ext4");

/// What a round finds.
json round(const Rig& rig) {
  const AdminReply reply = admin_post(rig.root() / "run/admin.sock", "/v1/orphans/repair", json::object());
  REQUIRE(reply.status == 200);
  CHECK(admin_get(rig.root() / "run/admin.sock", "/v1/orphans").body["findings"] == reply.body["findings"]);
  return reply.body["findings"];
}

void bind(const fs::path& from, const fs::path& to, unsigned long more = 0) {
  fs::create_directories(to);
  REQUIRE(::mount(from.c_str(), to.c_str(), nullptr, MS_BIND | more, nullptr) == 0);
}

}  // namespace

TEST_CASE("admin: a stray mount that appears while the agent runs is reported until it is gone", "[admin][root]") {
  Rig rig;
  const std::string id = rig.create("pvc-1", rwop);
  REQUIRE(rig.stage(id, rwop, rig.staging("v")) == OK);
  REQUIRE(rig.publish(id, rwop, rig.staging("v"), rig.target("db-0")) == OK);
  CHECK(round(rig) == json::array());

  // What is normal: a part of it bound as kubelet binds subPaths, and the staging path and target seen at a second path.
  fs::create_directory(rig.target("db-0") / "data");
  bind(rig.target("db-0") / "data", rig.root() / "subpaths/0");
  bind(rig.root() / "stage", rig.root() / "host/stage", MS_REC);
  bind(rig.root() / "pods", rig.root() / "host/pods", MS_REC);
  CHECK(round(rig) == json::array());

  bind(rig.staging("v"), rig.root() / "stray");
  const json findings = round(rig);
  REQUIRE(findings.size() == 1);
  CHECK(findings[0]["command"] == "umount " + (rig.root() / "stray").string());
  CHECK_THAT(findings[0]["message"].get<std::string>(), Catch::StartsWith("volume " + id + " is mounted at "));
  CHECK(round(rig) == findings);
  REQUIRE(run_tool({"/bin/sh", "-c", findings[0]["command"].get<std::string>()}) == 0);
  CHECK(round(rig) == json::array());

  // Published no more, nobody is left to end what was bound of it.
  REQUIRE(::umount2((rig.root() / "host/pods").c_str(), MNT_DETACH) == 0);
  REQUIRE(rig.unpublish(id, rig.target("db-0")) == OK);
  const json left = round(rig);
  REQUIRE(left.size() == 1);
  CHECK(left[0]["command"] == "umount " + (rig.root() / "subpaths/0").string());
}

TEST_CASE("admin: a stray staging directory that appears while the agent runs is reported until it is gone", "[admin][root]") {
  Rig rig;
  const std::string id = rig.create("pvc-1", rwop);
  const fs::path csi = rig.root() / "csi";
  const auto make = [&](const std::string& name, const std::string& volume) {
    fs::create_directories(csi / name / "globalmount");
    write_file(csi / name / "vol_data.json", json{{"driverName", "csi.ordinald.io"}, {"volumeHandle", volume}}.dump());
    const timespec long_ago[2] = {{.tv_sec = 1'000'000'000, .tv_nsec = 0}, {.tv_sec = 1'000'000'000, .tv_nsec = 0}};
    REQUIRE(::utimensat(AT_FDCWD, (csi / name).c_str(), long_ago, 0) == 0);
  };
  make("1", id);
  REQUIRE(rig.stage(id, rwop, csi / "1/globalmount") == OK);
  CHECK(round(rig) == json::array());
  make("2", "data-db-7-0a1b2c3d");
  CHECK(round(rig) == json::array());  // it may be staged yet
  const json findings = round(rig);
  REQUIRE(findings.size() == 1);
  const std::string place = csi / "2";
  CHECK(findings[0]["command"] == "rmdir " + place + "/globalmount && rm " + place + "/vol_data.json && rmdir " + place);
  REQUIRE(run_tool({"/bin/sh", "-c", findings[0]["command"].get<std::string>()}) == 0);
  CHECK_FALSE(fs::exists(place));
  CHECK(round(rig) == json::array());
}

}  // namespace ordinald::testing
