// Each command against a real agent with real mounts.
#include <sys/mount.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/ctl/ctl_program.hpp"
#include "tests/support/rig.hpp"

namespace ordinald::testing {
namespace {

using Catch::Contains;
using nlohmann::json;

const auto exclusive = mount_capability(single_node_single_writer, "ext4");

Ctl ctl_of(Rig& rig) { return Ctl{(rig.root() / "run/admin.sock").string(), rig.agent().endpoint()}; }

/// A volume that belongs to an ordinal: prod/data-db-N.
std::string create_of_ordinal(Rig& rig, int ordinal, const StringMap& more = {}) {
  StringMap parameters{{"csi.storage.k8s.io/pvc/namespace", "prod"}, {"csi.storage.k8s.io/pvc/name", "data-db-" + std::to_string(ordinal)}};
  parameters.insert(more.begin(), more.end());
  return rig.create("pvc-" + std::to_string(ordinal), exclusive, 64 * mebi, parameters);
}

Outcome publish_to(Rig& rig, const std::string& id, const std::string& pod, const std::string& uid) {
  auto request = rig.publish_request(id, exclusive, rig.staging(id), rig.target(uid));
  auto& context = *request.mutable_volume_context();
  context["csi.storage.k8s.io/pod.name"] = pod;
  context["csi.storage.k8s.io/pod.namespace"] = "prod";
  context["csi.storage.k8s.io/pod.uid"] = uid;
  return outcome(rig.call(request));
}

/// The JSON of a list's only entry.
json only(const json& answer, const std::string& list) {
  REQUIRE(answer.at(list).size() == 1);
  return answer.at(list).at(0);
}

}  // namespace

TEST_CASE("ctl: status, pools, volumes and show tell of a published volume", "[root]") {
  Rig rig;
  const Ctl ctl = ctl_of(rig);
  CHECK(ctl({"volumes"}).out == "no volumes\n");
  const std::string id = create_of_ordinal(rig, 0);
  REQUIRE(rig.stage(id, exclusive, rig.staging(id)) == OK);
  REQUIRE(publish_to(rig, id, "db-0", "uid-1") == OK);
  REQUIRE(try_write(rig.target("uid-1") / "file", "kept") == 0);

  const json status = ctl.json({"status"});
  CHECK(status.at("nodeId") == "node-1");
  CHECK(status.at("volumes") == json{{"total", 1}, {"staged", 1}, {"published", 1}, {"unhealthy", 0}});
  CHECK(status.at("pid") == rig.agent().pid());
  CHECK_THAT(ctl({"status"}).out, Catch::StartsWith("healthy") && Contains("1 volume: 1 published") && Contains(rig.pool().string()));

  const json pool = only(ctl.json({"pools"}), "pools");
  CHECK(pool.at("name") == "default");
  CHECK(pool.at("promised") == 64 * mebi);
  CHECK_THAT(ctl({"pools"}).out, Contains("default") && Contains("64 MiB"));

  const json volume = only(ctl.json({"volumes"}), "volumes");
  CHECK(volume.at("id") == id);
  CHECK(volume.at("state") == "published");
  CHECK(volume.at("claim") == "prod/data-db-0");
  const Ran listed = ctl({"volumes"});
  INFO(listed);
  CHECK_THAT(listed.out,
             Contains(id) && Contains("prod/data-db-0") && Contains("prod/db-0 (uid uid-1)") && Contains(rig.target("uid-1").string()));

  // By id, name and claim.
  for (const std::string& name : {id, std::string{"pvc-0"}, std::string{"prod/data-db-0"}}) {
    const json shown = ctl.json({"show", name});
    CHECK(shown.at("id") == id);
    CHECK(shown.at("record").at("name") == "pvc-0");
    CHECK(shown.at("mounts").size() == 2);
    CHECK(shown.at("device").at("backingFile") == rig.image_of(id).string());
  }
  const Ran text = ctl({"show", id});
  INFO(text);
  CHECK(text.status == 0);
  CHECK_THAT(text.out, Contains("held by:") && Contains("prod/db-0 (uid uid-1)") && Contains(rig.staging(id).string()) &&
                           Contains(rig.image_of(id).string()) && Contains("none: nobody has had it yet"));
  const Ran none = ctl({"show", "data-db-9"});
  CHECK(none.status == 1);
  CHECK_THAT(none.err, Contains("data-db-9"));

  // Where it has lived.
  REQUIRE(rig.unpublish(id, rig.target("uid-1")) == OK);
  REQUIRE(publish_to(rig, id, "db-0", "uid-2") == OK);
  CHECK_THAT(ctl({"show", id}).out, Contains("prod/db-0 (uid uid-1)") && Contains("unpublished"));
  CHECK(ctl.json({"show", id}).at("history").size() == 1);
  const Ran completed =
      run_program({ORDINALCTL_PROGRAM, "__complete", "--admin-socket", (rig.root() / "run/admin.sock").string(), "show", ""});
  CHECK(completed.out == id + "\tprod/data-db-0, published\n");

  rig.agent().kill();
  CHECK(ctl({"status"}).status == 3);
  rig.agent().start();
  CHECK(only(ctl.json({"volumes"}), "volumes").at("publications").at(0).at("holder").at("uid") == "uid-2");
}

TEST_CASE("ctl: explain says who refused a call and what to do, and release does that", "[root]") {
  Rig rig;
  const Ctl ctl = ctl_of(rig);
  const std::string id = create_of_ordinal(rig, 0);
  CHECK_THAT(ctl({"explain", id}).out, Contains("No call on it has been refused") && Contains("Nobody holds it"));
  REQUIRE(rig.stage(id, exclusive, rig.staging(id)) == OK);
  REQUIRE(publish_to(rig, id, "db-0", "uid-1") == OK);
  REQUIRE(try_write(rig.target("uid-1") / "file", "kept") == 0);
  REQUIRE(publish_to(rig, id, "db-0", "uid-2") == FAILED_PRECONDITION);

  const json explanation = ctl.json({"explain", "prod/data-db-0"});
  CHECK(explanation.at("refusal").at("code") == "FAILED_PRECONDITION");
  CHECK(only(explanation, "holds").at("mounted") == true);
  const Ran text = ctl({"explain", id});
  INFO(text);
  CHECK_THAT(text.out, Contains("was refused") && Contains("FAILED_PRECONDITION") && Contains("prod/db-0 (uid uid-1)") &&
                           Contains("still mounted there") && Contains("What to do") && Contains("ordinalctl release " + id));

  // Shown, not done.
  const Ran shown = ctl({"release", id, "--holder", "prod/db-0"});
  CHECK(shown.status == 5);
  CHECK_THAT(shown.out, Contains(rig.target("uid-1").string()) && Contains("still mounted there"));
  CHECK(read_file(rig.target("uid-1") / "file") == "kept");
  CHECK(ctl({"release", id, "--holder", "prod/db-1", "--yes"}).status == 1);
  CHECK(ctl({"release", id, "--holder", "uid-1", "--target", "/elsewhere", "--yes"}).status == 1);

  // Somebody works in it: it stays.
  {
    const int working = ::open(rig.target("uid-1").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    REQUIRE(working >= 0);
    const Ran busy = ctl({"release", id, "--holder", "uid-1", "--yes"});
    ::close(working);
    INFO(busy);
    CHECK(busy.status == 4);
    CHECK(read_file(rig.target("uid-1") / "file") == "kept");
  }
  const Ran released = ctl({"release", id, "--holder", "uid-1", "--yes"});
  INFO(released);
  CHECK(released.status == 0);
  CHECK_THAT(released.out, Contains("released " + rig.target("uid-1").string()));
  CHECK_FALSE(fs::exists(rig.target("uid-1") / "file"));
  CHECK_THAT(rig.agent().log(), Contains("release"));
  REQUIRE(publish_to(rig, id, "db-0", "uid-2") == OK);
  CHECK(read_file(rig.target("uid-2") / "file") == "kept");
}

TEST_CASE("ctl: rebind gives a kept volume to another claim, and not while it is held", "[root]") {
  Rig rig;
  const Ctl ctl = ctl_of(rig);
  const std::string id = create_of_ordinal(rig, 0, {{"identity", "ordinal"}});
  REQUIRE(rig.stage(id, exclusive, rig.staging(id)) == OK);
  REQUIRE(publish_to(rig, id, "db-0", "uid-1") == OK);
  const Ran held = ctl({"rebind", id, "prod/data-db-1", "--yes"});
  INFO(held);
  CHECK(held.status == 4);
  CHECK_THAT(held.err, Contains("prod/db-0"));
  REQUIRE(rig.unpublish(id, rig.target("uid-1")) == OK);
  REQUIRE(publish_to(rig, id, "db-1", "uid-2") == FAILED_PRECONDITION);

  const Ran shown = ctl({"rebind", id, "prod/data-db-1"});
  CHECK(shown.status == 5);
  CHECK_THAT(shown.out, Contains("prod/db-0 (uid uid-1)") && Contains("prod/data-db-0") && Contains("prod/data-db-1"));
  CHECK(ctl.json({"show", id}).at("claim") == "prod/data-db-0");
  const Ran wrong = ctl({"rebind", id, "Prod!/data", "--yes"});
  INFO(wrong);
  CHECK((wrong.status == 1 || wrong.status == 2));

  CHECK(ctl({"rebind", id, "prod/data-db-1", "--yes"}).status == 0);
  CHECK(ctl.json({"show", "prod/data-db-1"}).at("id") == id);
  CHECK(publish_to(rig, id, "db-0", "uid-3") == FAILED_PRECONDITION);
  CHECK(publish_to(rig, id, "db-1", "uid-2") == OK);
}

TEST_CASE("ctl: adopt shows what a file holds, and makes it a volume", "[root]") {
  Rig rig;
  const Ctl ctl = ctl_of(rig);
  const fs::path file = rig.root() / "old.img";
  fs::create_directories(rig.root() / "tree/base");
  write_file(rig.root() / "tree/PG_VERSION", "15");
  write_file(file, "");
  fs::resize_file(file, 16 * mebi);
  REQUIRE(run_tool({"mkfs.ext4", "-q", "-L", "pg", "-d", rig.root() / "tree", file}) == 0);

  const Ran shown = ctl({"adopt", file, "--claim", "prod/data-db-0"});
  INFO(shown);
  CHECK(shown.status == 5);
  CHECK_THAT(shown.out, Contains(file.string()) && Contains("16 MiB (16777216 bytes)") && Contains("ext4") &&
                            Contains("PG_VERSION  base  lost+found") && Contains("prod/data-db-0, identity none") && Contains("default"));
  CHECK(fs::exists(file));
  const Ran pool = ctl({"adopt", file, "--pool", "none", "--yes"});
  CHECK(pool.status == 1);
  CHECK_THAT(pool.err, Contains("there is no pool"));
  fs::create_hard_link(file, rig.root() / "second");
  const Ran refused = ctl({"adopt", file});
  INFO(refused);
  CHECK(refused.status == 1);
  CHECK_THAT(refused.out, Contains("What stands against it") && Contains("2 names"));
  CHECK(ctl({"adopt", file, "--yes"}).status == 1);
  fs::remove(rig.root() / "second");

  const Ran adopted = ctl({"adopt", file, "--claim", "prod/data-db-0", "--yes"});
  INFO(adopted);
  CHECK(adopted.status == 0);
  const std::string id = ctl.json({"show", "prod/data-db-0"}).at("id");
  CHECK_THAT(adopted.out, Contains("It is now volume " + id));
  CHECK_FALSE(fs::exists(file));
  const Ran again = ctl({"adopt", file, "--claim", "prod/data-db-0", "--yes"});
  CHECK(again.status == 0);
  CHECK_THAT(again.out, Contains(id + " already"));
  REQUIRE(rig.stage(id, exclusive, rig.staging(id)) == OK);
  REQUIRE(publish_to(rig, id, "db-0", "uid-1") == OK);
  CHECK(read_file(rig.target("uid-1") / "PG_VERSION") == "15");
}

TEST_CASE("ctl: orphans shows what needs a person, and repairs at once what is safe", "[root]") {
  Rig rig;
  const Ctl ctl = ctl_of(rig);
  CHECK_THAT(ctl({"orphans"}).out, Contains("nothing is left that needs a person"));
  const std::string id = create_of_ordinal(rig, 0);
  rig.agent().stop();
  fs::remove(rig.record_of(id));  // the record is made anew from the image's label
  rig.agent().start();
  const Ran shown = ctl({"orphans", "--repair"});
  CHECK(shown.status == 5);
  const json repaired = ctl.json({"orphans", "--repair", "--yes"});
  CHECK(repaired.contains("repaired"));
  CHECK(only(ctl.json({"volumes"}), "volumes").at("id") == id);
  CHECK(ctl({"orphans", "--repair", "--yes"}).status == 0);
}

TEST_CASE("ctl: doctor asks the agent too", "[root]") {
  Rig rig;
  const Ctl ctl = ctl_of(rig);
  const Ran text = ctl({"doctor"});
  INFO(text);
  const json answer = json::parse(ctl({"doctor", "--output", "json"}).out);
  for (const std::string name : {"agent", "CSI socket"}) {
    const auto found = std::ranges::find_if(answer.at("checks"), [&](const json& check) { return check.at("name") == name; });
    REQUIRE(found != answer.at("checks").end());
    CHECK(found->at("verdict") == "ok");
  }
  CHECK((text.status == 0 || text.status == 6));  // as this machine is
  CHECK(answer.at("checks").size() > 10);         // more than it sees itself
}

}  // namespace ordinald::testing
