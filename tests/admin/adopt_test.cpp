// A file with a filesystem becomes a volume: what is shown of it, and what its data goes through.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "mount/crash_point.hpp"
#include "tests/admin/adopt_rig.hpp"

namespace ordinald::testing {

TEST_CASE("admin: a file with a filesystem is shown, adopted, and served as the claim's volume", "[admin][root]") {
  const std::string type = GENERATE(as<std::string>{}, "ext4", "xfs", "btrfs");
  INFO(type);
  AdoptRig rig;
  const fs::path file = rig.root() / "old disk.img";
  make_image(file, type);
  const fs::path before = copy_of(file);
  const json claim{{"path", file.string()}, {"namespace", "host"}, {"claim", "data-db-0"}};

  const json planned = rig.plan(claim);
  const json& holds = planned["holds"];
  CHECK(planned["refusals"] == json::array());
  CHECK(planned["volume"].is_null());
  CHECK(holds["kind"] == "image file");
  CHECK(holds["type"] == type);
  CHECK(holds["uuid"] == uuid);
  CHECK(holds["label"] == "pg");
  CHECK(holds["size"] == size_for(type));
  CHECK(holds["total"] > 0);
  CHECK(holds["used"] < holds["total"]);
  CHECK(std::ranges::find(holds["names"], json("db")) != holds["names"].end());
  CHECK(planned["becomes"]["name"] == "data-db-0");
  CHECK(planned["becomes"]["claim"] == "host/data-db-0");
  CHECK(planned["becomes"]["identity"] == "ordinal");
  CHECK(planned["becomes"]["pool"] == "default");
  CHECK(same(file, before));
  CHECK(fs::is_empty(rig.pool()));

  const json adopted = rig.adopt(file, claim);
  const std::string id = adopted["volume"]["id"];
  CHECK(adopted["volume"]["claim"] == "host/data-db-0");
  CHECK_FALSE(fs::exists(file));
  CHECK(same(rig.image_of(id), before));
  struct stat status{};
  REQUIRE(::stat(rig.image_of(id).c_str(), &status) == 0);
  CHECK((status.st_mode & 07777) == 0600);
  json record = rig.record(id);
  CHECK(record["content"] == "formatted");
  CHECK(record["fsUuid"] == uuid);
  CHECK(record["labelStale"] == false);
  // Once more: it is done.
  CHECK(rig.adopt(file, claim)["volume"]["id"] == id);
  json other = claim;
  other["claim"] = "data-db-7";
  CHECK(rig.post(other).status == 404);

  // As `ordinalctl claim` would create it, and repeated; not with other terms, then or later.
  StringMap parameters{{"identity", "ordinal"}, {"csi.storage.k8s.io/pvc/namespace", "host"}, {"csi.storage.k8s.io/pvc/name", "data-db-0"}};
  const auto capability = mount_capability(single_node_single_writer, type);
  const std::string another = type == "ext4" ? "xfs" : "ext4";
  auto wrong = rig.create_request("data-db-0", mount_capability(single_node_single_writer, another), size_for("xfs"), parameters);
  CHECK(outcome(rig.call(wrong)) == ALREADY_EXISTS);
  CHECK(outcome(rig.call(rig.create_request("data-db-0", capability, 8 * size_for("xfs"), parameters))) == ALREADY_EXISTS);
  CHECK(rig.create("data-db-0", capability, size_for(type), parameters) == id);
  CHECK(rig.create("data-db-0", capability, size_for(type), parameters) == id);
  parameters["multiNodeModes"] = "allow";
  CHECK(outcome(rig.call(rig.create_request("data-db-0", capability, size_for(type), parameters))) == ALREADY_EXISTS);

  CHECK(data_in(rig, id, type) == "precious");
  CHECK(rig.record(id)["fsUuid"] == uuid);
  CHECK(rig.node_health(id).empty());

  // The record is lost: made anew, the claim's as before, and served.
  rig.agent().kill();
  fs::remove(rig.record_of(id));
  rig.agent().start();
  REQUIRE(admin_post(rig.root() / "run/admin.sock", "/v1/orphans/repair", json::object()).status == 200);
  CHECK(rig.record(id)["claim"] == json{{"namespace", "host"}, {"name", "data-db-0"}});
  CHECK(rig.record(id)["content"] == "raw");
  CHECK(data_in(rig, id, type) == "precious");
  REQUIRE(rig.remove(id) == OK);
  CHECK(fs::is_empty(rig.pool()));
}

TEST_CASE("admin: a filesystem other than the one that was adopted is not served", "[admin][root]") {
  AdoptRig rig;
  const fs::path file = rig.root() / "a.img";
  make_image(file, "ext4");
  const std::string id = rig.adopt(file)["volume"]["id"];
  CHECK(id.starts_with("a-"));
  REQUIRE(run_tool({"tune2fs", "-U", "11111111-3c5d-4f0e-9a53-0b7f2f6c1d11", rig.image_of(id)}) == 0);
  const Outcome refused = rig.stage(id, mount_capability(single_node_single_writer, "ext4"), rig.staging("v"));
  CHECK(refused == FAILED_PRECONDITION);
  CHECK_THAT(refused.message, Contains(uuid));
}

#ifdef ORDINALD_CRASH_POINTS
TEST_CASE("admin: killed at any act of an adoption, the file is whole, and the same command does the rest", "[admin][root]") {
  AdoptRig rig(Settings{{"repairIntervalSeconds", 0}}, false);
  const fs::path page_file = rig.root() / "crash-page";
  write_file(page_file, std::string(sizeof(mount::CrashPage), '\0'));
  const int fd = ::open(page_file.c_str(), O_RDWR | O_CLOEXEC);
  void* memory = ::mmap(nullptr, sizeof(mount::CrashPage), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  ::close(fd);
  REQUIRE(memory != MAP_FAILED);
  auto* const page = static_cast<mount::CrashPage*>(memory);
  const std::map<std::string, std::string> environment{{"ORDINALD_CRASH_PAGE", page_file.string()}};
  rig.agent().start({}, environment);
  const bool of_device = GENERATE(false, true);
  const fs::path made = rig.root() / "a.img";
  make_image(made, "ext4");
  const fs::path before = copy_of(made);
  const fs::path file = of_device ? rig.pool() / ".nodisk+copy.img.new" : made;
  fs::rename(made, file);
  json body{{"path", file.string()}, {"namespace", "host"}, {"claim", "data-db-0"}};
  if (of_device) {
    body["copyOf"] = "/dev/nodisk";
  }

  bool killed = true;
  for (std::uint32_t act = 1; killed; ++act) {
    if (act > 1) {
      REQUIRE(run_tool({"cp", "--sparse=always", before, file}) == 0);
    }
    page->act[0] = '\0';
    page->at = page->passed + act;
    const AdminReply reply = rig.post(body);
    page->at = 0;
    killed = page->act[0] != '\0';
    INFO("act " << act << ": " << static_cast<const char*>(page->act));
    if (killed) {
      rig.agent().kill();
      rig.agent().start({}, environment);
      if (act % 2 == 0) {
        REQUIRE(admin_post(rig.root() / "run/admin.sock", "/v1/orphans/repair", json::object()).status == 200);
      }
      CHECK(same(fs::exists(file) ? file : fs::directory_iterator { rig.pool() } -> path(), before));
    } else {
      CHECK(reply.status == 200);
      CHECK(act > 8);
    }
    const std::string id = rig.adopt(file, body)["volume"]["id"];
    CHECK_FALSE(fs::exists(file));
    CHECK(same(rig.image_of(id), before));
    const json record = rig.record(id);
    CHECK(record["content"] == "formatted");
    CHECK(record["fsUuid"] == uuid);
    CHECK(record["labelStale"] == false);
    CHECK(record["adoptedFrom"] == (of_device ? "/dev/nodisk" : file.string()));
    if (!killed) {
      CHECK(data_in(rig, id, "ext4") == "precious");
    }
    REQUIRE(rig.remove(id) == OK);
    REQUIRE(fs::is_empty(rig.pool()));
  }
  ::munmap(memory, sizeof(mount::CrashPage));
}
#endif

}  // namespace ordinald::testing
