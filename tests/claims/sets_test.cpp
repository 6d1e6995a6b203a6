#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <catch2/catch.hpp>

#include "agent/ctl/hosts_file.hpp"
#include "agent/ctl/set_plan.hpp"
#include "mount/unique_fd.hpp"
#include "tests/claims/bed.hpp"
#include "tests/support/leaks.hpp"

/// `ordinalctl apply`, `scale`, `delete` and `hosts`: sets as wholes.
namespace ordinald::testing {

using Catch::Contains;
using mount::UniqueFd;
using nlohmann::json;

namespace {

std::vector<std::string> words_of(const std::vector<ctl::Step>& steps) {
  std::vector<std::string> words;
  for (const ctl::Step& step : steps) {
    const char* const acts[] = {"create", "grow", "shrink", "retain", "delete"};
    words.push_back(std::string{acts[static_cast<std::size_t>(step.act)]} + " " + step.claim);
  }
  return words;
}

/// The acts of a plan in JSON: `create data-db-0`.
std::vector<std::string> plan_of(const Ended& ended) {
  std::vector<std::string> words;
  const json document = json::parse(ended.out);
  for (const json& step : document.at("steps")) {
    words.push_back(step.at("do").get<std::string>() + " " + step.value("claim", "file"));
  }
  return words;
}

using Words = std::vector<std::string>;

}  // namespace

TEST_CASE("what a set's volumes lack is planned by ordinal, and other sets' are none of it") {
  constexpr std::uint64_t mebi = 1U << 20U;
  auto set = ctl::parse_claim_set(R"({"set": "db", "replicas": 2, "startOrdinal": 1, "retentionPolicy": {"whenScaled": "Delete"},
    "volumeClaimTemplates": [{"name": "data", "size": "64MiB"}, {"name": "data-db", "size": "64MiB"}]})",
                                  "db.json")
                 .value();
  const std::map<std::string, ctl::KnownVolume> volumes{
      {"data-db-1", {"a", 64 * mebi}}, {"data-db-2", {"b", 32 * mebi}}, {"data-db-db-1", {"c", 128 * mebi}},
      {"data-db-10", {"d", 1}},        {"data-db-9", {"e", 1}},         {"data-db-db-0", {"f", 1}},
      {"data-db-0-0", {"g", 1}},       {"data-dbx-7", {"h", 1}},        {"data-db-00", {"i", 1}},
      {"x-data-db-7", {"j", 1}},       {"data-db-", {"k", 1}}};
  CHECK(words_of(ctl::plan_set(set, volumes)) == Words{"shrink data-db-db-1", "grow data-db-2", "create data-db-db-2",
                                                       "delete data-db-db-0", "delete data-db-9", "delete data-db-10"});
  set.when_scaled = ctl::Retention::retain;
  set.when_deleted = ctl::Retention::remove;
  CHECK(words_of(ctl::plan_deletion(set, volumes)) == Words{"delete data-db-1", "delete data-db-db-1", "delete data-db-2",
                                                            "retain data-db-db-0", "retain data-db-9", "retain data-db-10"});
  CHECK_FALSE(ctl::changes_anything({}));
}

TEST_CASE("a set's block in a hosts file is ours, and nothing else is") {
  using ctl::with_hosts_block;
  const std::string before = "127.0.0.1 localhost\n#BEGIN\n\n::1\tlocalhost \n";
  const std::string with = with_hosts_block(before, "db", {"127.0.10.1 db-0.db db-0"}).value();
  CHECK(with == before + "# BEGIN ordinald set db (kept by ordinalctl hosts)\n127.0.10.1 db-0.db db-0\n# END ordinald set db\n");
  CHECK(with_hosts_block(with, "db", {"127.0.10.1 db-0.db db-0"}).value() == with);
  const std::string both = with_hosts_block(with, "db-0", {"127.0.11.1 db-0-0.db-0 db-0-0"}).value() + "10.0.0.1 late";
  const std::string changed = with_hosts_block(both, "db", {"127.0.12.1 db-0.db db-0"}).value();
  CHECK_THAT(changed, Catch::StartsWith(before) && Catch::EndsWith("10.0.0.1 late") && Contains("127.0.12.1") && Contains("127.0.11.1") &&
                          !Contains("127.0.10.1"));
  CHECK(with_hosts_block(with_hosts_block(changed, "db", {}).value(), "db-0", {}).value() == before + "10.0.0.1 late");
  CHECK(with_hosts_block(before, "db", {}).value() == before);
  CHECK_THAT(with_hosts_block("no end", "db", {"x"}).value(), Catch::StartsWith("no end\n# BEGIN"));
  CHECK_FALSE(with_hosts_block(with.substr(0, with.size() - 5), "db", {"x"}).has_value());
  CHECK_FALSE(with_hosts_block(with + with, "db", {}).has_value());
}

TEST_CASE("apply shows its plan, does it when it may, and grows what is in use", "[root]") {
  ClaimBed bed;
  const fs::path file = bed.root() / "new.json";
  const auto with_size = [&](const std::string& size) {
    write_file(
        file, bed.set("db", {{"replicas", 2}, {"volumeClaimTemplates", {{{"name", "data"}, {"size", size}, {"fsType", "btrfs"}}}}}).dump());
  };
  with_size("128MiB");
  const Ended asked = bed.ctl({"apply", file, "--output", "json"});
  CHECK(asked.status == 5);
  CHECK(plan_of(asked) == Words{"write file", "create data-db-0", "create data-db-1"});
  CHECK_FALSE(fs::exists(bed.set_file("db")));
  CHECK(bed.volumes().empty());
  CHECK_THAT(bed.ctl({"apply", file}).err, Contains("create  data-db-1  128 MiB") && Contains("Nothing was done"));

  CHECK(bed.ctl({"apply", file, "--yes"}).status == 0);
  CHECK(read_file(bed.set_file("db")) == read_file(file));
  CHECK(bed.volumes().size() == 2);
  CHECK(plan_of(bed.ctl({"apply", file, "--output", "json"})).empty());

  REQUIRE(bed.ctl({"claim", "db-0"}).status == 0);
  with_size("256MiB");
  const Ended grown = bed.ctl({"apply", file, "--yes", "--output", "json"});
  INFO(grown.err);
  CHECK(grown.status == 0);
  CHECK(plan_of(grown) == Words{"write file", "grow data-db-0", "grow data-db-1"});
  struct statvfs info = {};
  REQUIRE(::statvfs("/srv/db-0/data", &info) == 0);
  CHECK(std::uint64_t{info.f_blocks} * info.f_frsize == 256U << 20U);

  with_size("128MiB");
  const Ended shrunk = bed.ctl({"apply", file, "--yes"});
  CHECK(shrunk.status == 2);
  CHECK_THAT(shrunk.err,
             Contains("volumes are never shrunk: data-db-0 has 256 MiB -> 128 MiB, data-db-1 has") && Contains("Nothing was done"));
  CHECK_THAT(read_file(bed.set_file("db")), Contains("256MiB"));
  REQUIRE(bed.ctl({"unclaim", "db-0"}).status == 0);
}

TEST_CASE("who has claimed hears at once of the others that come and go", "[root]") {
  ClaimBed bed;
  bed.install("db");
  const auto told = [&](const std::string& key) {
    const std::string text = read_file(bed.run_dir() / "db-0.env");
    const auto begin = text.find("\n" + key + "=\"") + key.size() + 3;
    return text.substr(begin, text.find('"', begin) - begin);
  };
  REQUIRE(bed.ctl({"claim", "db-0"}).status == 0);
  CHECK(told("PEERS").empty());
  REQUIRE(bed.ctl({"scale", "db", "3"}).status == 0);
  CHECK(told("REPLICAS") == "3");
  CHECK(told("PEERS") == "db-1.db db-2.db");

  // Not of what is so from the next claim on.
  const fs::path file = bed.root() / "new.json";
  write_file(file, bed.set("db", {{"replicas", 2}, {"mountPath", "/srv/new/{set}-{ordinal}/{template}"}}).dump());
  const Ended moved = bed.ctl({"apply", file, "--yes"});
  CHECK(moved.status == 0);
  CHECK_THAT(moved.err, Contains("note: mountPath: from an ordinal's next claim on"));
  CHECK(told("PEERS") == "db-1.db");
  CHECK(told("DATA_PATH") == "/srv/db-0/data");
  // What one that was killed left undone, the next one does.
  write_file(bed.run_dir() / "db-0.env", "lost");
  CHECK(bed.ctl({"apply", file}).status == 0);
  CHECK(told("PEERS") == "db-1.db");
  REQUIRE(bed.ctl({"claim", "db-0"}).status == 0);
  CHECK(told("DATA_PATH") == "/srv/new/db-0/data");
  REQUIRE(bed.ctl({"unclaim", "db-0"}).status == 0);
  CHECK(bed.ctl({"scale", "db", "1"}).status == 0);  // who isn't claimed has none
  CHECK_FALSE(fs::exists(bed.run_dir() / "db-0.env"));
}

TEST_CASE("a template that is changed is for new volumes: apply says so, and those that there are can still be claimed", "[root]") {
  ClaimBed bed;
  bed.install("db", {{"volumeClaimTemplates", {{{"name", "data"}, {"size", "64MiB"}, {"fsType", "ext4"}}}}});
  REQUIRE(bed.ctl({"claim", "db-0"}).status == 0);
  write_file("/srv/db-0/data/ours", "kept");
  REQUIRE(bed.ctl({"unclaim", "db-0"}).status == 0);
  const json otherwise = {{"name", "data"},
                          {"size", "128MiB"},
                          {"fsType", "btrfs"},
                          {"mountOptions", {"noatime"}},
                          {"accessMode", "ReadWriteOnce"},
                          {"parameters", {{"blockSize", "512"}}}};
  const fs::path file = bed.root() / "new.json";
  write_file(file, bed.set("db", {{"replicas", 2}, {"volumeClaimTemplates", {otherwise}}}).dump());
  const Ended asked = bed.ctl({"apply", file, "--output", "json"});
  CHECK(asked.status == 5);
  CHECK(json::parse(asked.out).at("remarks") ==
        json{"template data: fsType ext4 -> btrfs, parameters: for volumes made from now on; as they were made stay data-db-0",
             "accessMode of data: from an ordinal's next claim on, that is, when its unit was stopped and is started again"});
  REQUIRE(bed.ctl({"apply", file, "--yes"}).status == 0);
  CHECK(json::parse(bed.ctl({"apply", file, "--output", "json"}).out).at("remarks").empty());
  for (const std::string ordinal : {"db-0", "db-1"}) {
    const Ended claimed = bed.ctl({"claim", ordinal});
    INFO(claimed.err);
    REQUIRE(claimed.status == 0);
    CHECK(mounted_at("/srv/" + ordinal + "/data").fs_type == (ordinal == "db-0" ? "ext4" : "btrfs"));
  }
  CHECK(read_file("/srv/db-0/data/ours") == "kept");
  for (const std::string ordinal : {"db-0", "db-1"}) CHECK(bed.ctl({"unclaim", ordinal}).status == 0);
}

TEST_CASE("a set that is scaled down and up has its old data, unless its policy says otherwise", "[root]") {
  ClaimBed bed;
  bed.install("db", {{"replicas", 2}});
  const auto write = [&] {
    REQUIRE(bed.ctl({"claim", "db-1"}).status == 0);
    write_file("/srv/db-1/data/ours", "kept");
    REQUIRE(bed.ctl({"unclaim", "db-1"}).status == 0);
  };
  write();
  CHECK(bed.ctl({"scale", "db", "1"}).status == 0);  // deletes nothing: nobody is asked
  CHECK(bed.ctl({"claim", "db-1"}).status == 2);
  CHECK(bed.ctl({"scale", "db", "2"}).status == 0);
  REQUIRE(bed.ctl({"claim", "db-1"}).status == 0);
  CHECK(read_file("/srv/db-1/data/ours") == "kept");
  CHECK_THAT(bed.ctl({"scale", "db", "1"}).err, Contains("db-1 is still claimed"));
  REQUIRE(bed.ctl({"unclaim", "db-1"}).status == 0);

  bed.install("db", {{"replicas", 3}, {"retentionPolicy", {{"whenScaled", "Delete"}}}});
  REQUIRE(bed.ctl({"claim", "db-1"}).status == 0);
  const Ended asked = bed.ctl({"scale", "db", "1", "--output", "json"});
  CHECK(asked.status == 5);
  CHECK(plan_of(asked) == Words{"write file", "delete data-db-1"});
  CHECK(json::parse(read_file(bed.set_file("db"))).at("replicas") == 3);
  const Ended claimed = bed.ctl({"scale", "db", "1", "--yes"});
  CHECK(claimed.status == 4);
  CHECK_THAT(claimed.err, Contains("db-1 is claimed: stop what uses it"));
  CHECK(read_file("/srv/db-1/data/ours") == "kept");
  REQUIRE(bed.ctl({"unclaim", "db-1"}).status == 0);
  CHECK(bed.ctl({"scale", "db", "1", "--yes"}).status == 0);
  CHECK_FALSE(bed.volumes().contains("data-db-1"));
  CHECK(bed.ctl({"scale", "db", "2"}).status == 0);
  REQUIRE(bed.ctl({"claim", "db-1"}).status == 0);
  CHECK_FALSE(fs::exists("/srv/db-1/data/ours"));
  REQUIRE(bed.ctl({"unclaim", "db-1"}).status == 0);
}

TEST_CASE("a volume that went to another claim meanwhile is not deleted", "[root]") {
  ClaimBed bed;
  bed.install("db", {{"replicas", 2}, {"retentionPolicy", {{"whenScaled", "Delete"}, {"whenDeleted", "Delete"}}}});
  REQUIRE(bed.ctl({"apply", bed.set_file("db"), "--yes"}).status == 0);
  const std::string id = bed.volumes().at("data-db-1").id;
  const bool whole_set = GENERATE(false, true);
  const UniqueFd lock{::open((bed.run_dir() / "db-1.lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)};
  REQUIRE(::flock(lock.get(), LOCK_EX) == 0);
  Running run = whole_set ? bed.start({"delete", "db", "--yes"}) : bed.start({"scale", "db", "1", "--yes"});
  REQUIRE(run.prints("another ordinalctl is at work on db-1"));  // it has its plan
  REQUIRE(bed.ctl({"rebind", id, "host/mine", "--yes"}).status == 0);
  REQUIRE(::flock(lock.get(), LOCK_UN) == 0);
  const Ended ended = run.wait();
  CHECK(ended.status == 1);
  CHECK_THAT(ended.err, Contains("the claim host/data-db-1 does not have volume " + id + " any more") && Contains("do this again"));
  CHECK(bed.volumes().at("mine").id == id);
  CHECK(bed.ctl(whole_set ? Words{"delete", "db", "--yes"} : Words{"scale", "db", "1", "--yes"}).status == 0);
  CHECK(bed.volumes().at("mine").id == id);
}

TEST_CASE("a deletion that failed midway goes on, and nobody claims meanwhile", "[root]") {
  ClaimBed bed;
  bed.install("db", {{"retentionPolicy", {{"whenDeleted", "Delete"}}}});
  REQUIRE(bed.ctl({"apply", bed.set_file("db"), "--yes"}).status == 0);
  const fs::path left = bed.set_file("db").string() + ".deleting";
  fs::remove(bed.hosts());
  fs::create_directory(bed.hosts());  // after the volumes
  CHECK(bed.ctl({"delete", "db", "--yes"}).status == 1);
  CHECK_FALSE(fs::exists(bed.set_file("db")));
  CHECK(fs::exists(left));
  CHECK(bed.volumes().empty());
  const Ended claimed = bed.ctl({"claim", "db-0"});
  CHECK(claimed.status == 2);
  CHECK_THAT(claimed.err, Contains("there is no set db any more: its deletion has begun, and `ordinalctl delete db` ends it"));
  CHECK(bed.volumes().empty());

  // Whoever wants it after all has it, and no deletion with it.
  const fs::path again = bed.root() / "again.json";
  write_file(again, read_file(left));
  CHECK(bed.ctl({"delete", "db"}).status == 5);
  fs::remove(bed.hosts());
  write_file(bed.hosts(), "127.0.0.1\tlocalhost\n");
  REQUIRE(bed.ctl({"apply", again, "--yes"}).status == 0);
  CHECK_FALSE(fs::exists(left));
  fs::rename(bed.set_file("db"), left);
  CHECK(bed.ctl({"delete", "db", "--yes"}).status == 0);
  CHECK_FALSE(fs::exists(left));
  CHECK(bed.volumes().empty());
  CHECK(bed.ctl({"delete", "db", "--yes"}).status == 2);

  bed.install("web", {{"retentionPolicy", {{"whenDeleted", "Delete"}}}});
  REQUIRE(bed.ctl({"apply", bed.set_file("web"), "--yes"}).status == 0);
  fs::rename(bed.set_file("web"), left);  // another's under its name
  CHECK(bed.ctl({"delete", "db", "--yes"}).status == 2);
  CHECK(bed.volumes().size() == 1);
}

TEST_CASE("a set that would grow into another's unit is refused", "[root]") {
  ClaimBed bed;
  bed.install("a", {{"unit", "postgres@.service"}});
  bed.install("b", {{"unit", "postgres@.service"}, {"startOrdinal", 2}});
  CHECK(bed.ctl({"scale", "a", "2"}).status == 0);
  const Ended met = bed.ctl({"scale", "a", "3"});
  CHECK(met.status == 2);
  CHECK_THAT(met.err, Contains("b-2 of set b and a-2 of set a would both have postgres@2.service"));
  CHECK(json::parse(read_file(bed.set_file("a"))).at("replicas") == 2);
  bed.install("a", {{"unit", "postgres@.service"}, {"replicas", 3}});  // by hand
  CHECK(bed.ctl({"rollout", "a"}).status == 2);
  CHECK(bed.ctl({"claim", "a-0"}).status == 2);
  CHECK(bed.ctl({"scale", "a", "2"}).status == 0);
  CHECK(bed.ctl({"claim", "a-0"}).status == 0);
  CHECK(bed.ctl({"unclaim", "a-0"}).status == 0);
}

TEST_CASE("two sets whose names share a prefix never meet, and a deleted set's data comes back where it is retained", "[root]") {
  ClaimBed bed;
  bed.install("db", {{"retentionPolicy", {{"whenDeleted", "Delete"}, {"whenScaled", "Delete"}}}, {"addressBase", "127.0.10.1"}});
  bed.install("db-0", {{"replicas", 2}, {"addressBase", "127.0.11.1"}});
  for (const std::string ordinal : {"db-0", "db-0-0", "db-0-1"}) {
    REQUIRE(bed.ctl({"claim", ordinal}).status == 0);
    write_file("/srv/" + ordinal + "/data/name", ordinal);
  }
  CHECK(bed.ctl({"hosts", "db"}).out == "127.0.10.1 db-0.db db-0\n");
  CHECK(bed.ctl({"hosts", "db-0", "--install"}).status == 0);
  CHECK(bed.ctl({"hosts", "db", "--install"}).status == 0);
  CHECK_THAT(read_file(bed.hosts()), Catch::StartsWith("127.0.0.1\tlocalhost\n") && Contains("\n127.0.11.2 db-0-1.db-0 db-0-1\n") &&
                                         Contains("\n127.0.10.1 db-0.db db-0\n"));
  ::chmod(bed.hosts().c_str(), 0604);

  CHECK_THAT(bed.ctl({"delete", "db", "--yes"}).err, Contains("db-0 is claimed"));
  REQUIRE(bed.ctl({"unclaim", "db-0"}).status == 0);
  CHECK(plan_of(bed.ctl({"delete", "db", "--output", "json"})) == Words{"remove file", "delete data-db-0"});
  CHECK(bed.ctl({"delete", "db", "--yes"}).status == 0);
  CHECK_FALSE(fs::exists(bed.set_file("db")));
  CHECK_FALSE(bed.volumes().contains("data-db-0"));
  CHECK_THAT(read_file(bed.hosts()), Contains("db-0-1.db-0") && !Contains("127.0.10.1"));
  struct stat info = {};
  REQUIRE(::stat(bed.hosts().c_str(), &info) == 0);
  CHECK((info.st_mode & 07777) == 0604);

  for (const std::string ordinal : {"db-0-0", "db-0-1"}) {
    CHECK(read_file("/srv/" + ordinal + "/data/name") == ordinal);
    REQUIRE(bed.ctl({"unclaim", ordinal}).status == 0);
  }
  CHECK(bed.ctl({"delete", "db-0", "--yes"}).status == 0);
  CHECK(read_file(bed.hosts()) == "127.0.0.1\tlocalhost\n");
  CHECK(bed.volumes().size() == 2);
  bed.install("db-0");
  REQUIRE(bed.ctl({"claim", "db-0-0"}).status == 0);
  CHECK(read_file("/srv/db-0-0/data/name") == "db-0-0");
  REQUIRE(bed.ctl({"unclaim", "db-0-0"}).status == 0);
}

}  // namespace ordinald::testing
