#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <catch2/catch.hpp>
#include <csignal>
#include <cstdio>
#include <stdexcept>

#include "tests/claims/bed.hpp"
#include "tests/support/workload.hpp"

/// `ordinalctl claim` and `unclaim` as programs against a daemon.
namespace ordinald::testing {

using Catch::Contains;
using nlohmann::json;

namespace {

std::uint64_t size_at(const fs::path& path) {
  struct statvfs info = {};
  REQUIRE(::statvfs(path.c_str(), &info) == 0);
  return std::uint64_t{info.f_blocks} * info.f_frsize;
}

/// Somebody else's hold, by the socket alone: the same ordinal at a target of its own.
class OtherHolder {
 public:
  OtherHolder(ClaimBed& bed, const std::string& claim) : bed_(bed), id_(bed.volumes().at(claim).id) {
    fs::create_directories(staging_);
    fs::create_directories(target_.parent_path());
    const csi::Capability capability{.mode = csi::AccessMode::single_node_single_writer};
    const std::string ordinal = claim.substr(claim.find('-') + 1);
    REQUIRE(bed.client().stage({.volume_id = id_, .staging_path = staging_, .capability = capability}, std::chrono::seconds{30}));
    REQUIRE(
        bed.client().publish({.volume_id = id_,
                              .staging_path = staging_,
                              .target_path = target_,
                              .capability = capability,
                              .volume_context = {{"csi.storage.k8s.io/pod.namespace", "host"}, {"csi.storage.k8s.io/pod.name", ordinal}}},
                             std::chrono::seconds{30}));
  }
  void let_go() { REQUIRE(bed_.client().unpublish({.volume_id = id_, .target_path = target_}, std::chrono::seconds{30})); }
  const fs::path& target() const { return target_; }

 private:
  ClaimBed& bed_;
  std::string id_;
  fs::path staging_ = bed_.root() / "other" / "staging";
  fs::path target_ = bed_.root() / "other" / "pod" / "volume";
};

}  // namespace

TEST_CASE("a claim makes, mounts and tells; unclaim takes back and keeps", "[root]") {
  ClaimBed bed;
  bed.install("db", {{"replicas", 2},
                     {"addressBase", "127.0.10.1"},
                     {"volumeClaimTemplates",
                      {{{"name", "data"}, {"size", "64MiB"}}, {{"name", "wal-log"}, {"size", "32MiB"}, {"mountOptions", {"noatime"}}}}},
                     {"owner", "nobody"},
                     {"group", "12345"},
                     {"mode", "2750"}});
  for (int round = 0; round < 2; ++round) {
    const Ended claimed = bed.ctl({"claim", "db-1"});
    INFO(claimed.err);
    REQUIRE(claimed.status == 0);
    CHECK(claimed.out == "data-db-1  /srv/db-1/data\nwal-log-db-1  /srv/db-1/wal-log\n");
  }
  CHECK(bed.volumes().size() == 2);
  struct stat root = {};
  REQUIRE(::stat("/srv/db-1/wal-log", &root) == 0);
  CHECK(root.st_uid == 65534);
  CHECK(root.st_gid == 12345);
  CHECK((root.st_mode & 07777) == 02750);
  REQUIRE(::stat("/srv/db-1/data/lost+found", &root) == 0);
  CHECK(root.st_uid == 0);  // the root alone
  CHECK(read_file(bed.run_dir() / "db-1.env") ==
        "ORDINAL=\"1\"\nSET_NAME=\"db\"\nPOD_NAME=\"db-1\"\nREPLICAS=\"2\"\nPEERS=\"db-0.db\"\nADDRESS=\"127.0.10.2\"\n"
        "DATA_PATH=\"/srv/db-1/data\"\nWAL_LOG_PATH=\"/srv/db-1/wal-log\"\n");

  write_file("/srv/db-1/data/ours", "kept");
  for (int round = 0; round < 2; ++round) {
    const Ended unclaimed = bed.ctl({"unclaim", "db-1"});
    INFO(unclaimed.err);
    CHECK(unclaimed.status == 0);
  }
  CHECK_FALSE(fs::exists("/srv/db-1"));
  CHECK_FALSE(fs::exists(bed.run_dir() / "db-1.env"));
  CHECK_FALSE(fs::exists(bed.run_dir() / "data-db-1"));
  CHECK(bed.volumes().size() == 2);

  // What somebody put beside the mounts is not ours to remove, and in nobody's way.
  REQUIRE(bed.ctl({"claim", "db-1", "--output", "json"}).status == 0);
  CHECK(read_file("/srv/db-1/data/ours") == "kept");
  write_file("/srv/db-1/notes", "a person's");
  CHECK(bed.ctl({"unclaim", "db-1"}).status == 0);
  CHECK(read_file("/srv/db-1/notes") == "a person's");
  fs::remove_all("/srv/db-1");
}

TEST_CASE("for which unit an ordinal was claimed is known until it is unclaimed", "[root]") {
  ClaimBed bed;
  const auto unit = [&] { return json::parse(read_file(bed.run_dir() / "db-0.json")).at("unit").get<std::string>(); };
  for (const std::string name : {"postgres", "pg"}) {
    bed.install("db", {{"unit", name + "@.service"}});
    REQUIRE(bed.ctl({"claim", "db-0"}).status == 0);
    CHECK(unit() == name + "@0.service");
    bed.install("db", {{"unit", "other@.service"}});  // in its place, while that one runs
    CHECK_THAT(bed.ctl({"claim", "db-0", "--timeout", "0"}).err, Contains("for host/db-0 (unit " + name + "@0.service)"));
    CHECK(unit() == name + "@0.service");
    REQUIRE(bed.ctl({"unclaim", "db-0"}).status == 0);
  }
}

TEST_CASE("a service's user can enter its volumes whatever the claim's umask", "[root]") {
  ClaimBed bed;
  bed.install("db", {{"owner", "nobody"}});
  const mode_t ours = ::umask(077);
  const Ended claimed = bed.ctl({"claim", "db-0"});
  ::umask(ours);
  INFO(claimed.err);
  REQUIRE(claimed.status == 0);
  struct stat info = {};
  REQUIRE(::stat("/srv/db-0", &info) == 0);
  CHECK((info.st_mode & 07777) == 0755);
  REQUIRE(::stat((bed.run_dir() / "data-db-0").c_str(), &info) == 0);
  CHECK((info.st_mode & 07777) == 0700);
  CHECK(bed.ctl({"unclaim", "db-0"}).status == 0);
}

TEST_CASE("a claim that can't be is refused before anything is made", "[root]") {
  ClaimBed bed;
  bed.install("db", {{"replicas", 2}, {"startOrdinal", 3}});
  CHECK(bed.ctl({"claim", "db-0"}).status == 2);
  CHECK_THAT(bed.ctl({"claim", "db-5"}).err, Contains("set db has 2 replicas from ordinal 3 on, db-5 is none of them"));
  CHECK_THAT(bed.ctl({"claim", "web-0"}).err, Contains("there is no set web") && Contains("there are db"));
  CHECK_THAT(bed.ctl({"unclaim", "web-0"}).err, Contains("there is no set web"));
  const Ended none = bed.ctl({"unclaim", "db-7"});  // of an ordinal that was scaled away it would be right
  CHECK(none.status == 0);
  CHECK_THAT(none.err, Contains("db-7 is not claimed, and none of the 2 ordinals of set db"));
  CHECK(bed.ctl({"claim", "db"}).status == 2);
  bed.install("db", {{"owner", "no-such-user"}});
  CHECK_THAT(bed.ctl({"claim", "db-0"}).err, Contains("there is no \"no-such-user\" on this node"));
  write_file(bed.set_file("db"), "{\"set\": \"db\"");
  const Ended broken = bed.ctl({"claim", "db-0", "--output", "json"});
  CHECK(broken.status == 2);
  CHECK(broken.out.empty());
  CHECK_THAT(json::parse(broken.err).at("error").at("message").get<std::string>(), Contains("db.json: not valid JSON: line 1"));
  CHECK(bed.volumes().empty());

  // Two sets that would share a claim: both are named.
  bed.install("db-0");
  bed.install("0", {{"volumeClaimTemplates", {{{"name", "data-db"}, {"size", "64MiB"}}}}});
  const Ended shared = bed.ctl({"claim", "0-0"});
  CHECK(shared.status == 2);
  CHECK_THAT(shared.err, Contains("the sets db-0 and 0 would both have claims of the name data-db-0-<ordinal>"));
}

TEST_CASE("a claim waits for who has the volume, and says who", "[root]") {
  ClaimBed bed;
  bed.install("db");
  REQUIRE(bed.ctl({"claim", "db-0"}).status == 0);
  REQUIRE(bed.ctl({"unclaim", "db-0"}).status == 0);
  OtherHolder other{bed, "data-db-0"};

  const Ended late = bed.ctl({"claim", "db-0", "--timeout", "1"});
  CHECK(late.status == 4);
  CHECK_THAT(late.err, Contains("db-0: waiting (0 s of 1 s)") && Contains("db-0: gave up after 1 s") && Contains("held by host/db-0") &&
                           Contains(other.target().string()));
  CHECK(bed.ctl({"claim", "db-0", "--timeout", "0", "--output", "json"}).status == 4);

  Running waiting = bed.start({"claim", "db-0", "--timeout", "60"});
  REQUIRE(waiting.prints("waiting"));
  Running second = bed.start({"claim", "db-0", "--timeout", "60"});
  REQUIRE(second.prints("waiting"));
  other.let_go();
  CHECK(waiting.wait().status == 0);
  CHECK(second.wait().status == 0);
  CHECK(is_mounted("/srv/db-0/data"));

  // One who waits for a unit does not keep that unit from giving back.
  REQUIRE(bed.ctl({"unclaim", "db-0"}).status == 0);
  REQUIRE(bed.ctl({"claim", "db-0", "--unit", "a.service"}).status == 0);
  Running next = bed.start({"claim", "db-0", "--unit", "b.service"});
  REQUIRE(next.prints("host/db-0 (unit a.service)"));
  REQUIRE(bed.ctl({"unclaim", "db-0", "--timeout", "10"}).status == 0);
  CHECK(next.wait().status == 0);
  CHECK(is_mounted("/srv/db-0/data"));

  // A process in it keeps unclaim waiting.
  {
    Running holds{{"/bin/sh", "-c", "exec 3>/srv/db-0/data/open; echo ready; exec sleep 1000"}, {}, {}};
    REQUIRE(holds.prints("ready"));
    const Ended held = bed.ctl({"unclaim", "db-0", "--timeout", "1"});
    CHECK(held.status == 4);
    CHECK_THAT(held.err, Contains("a process has a file or a working directory there"));
    CHECK(is_mounted("/srv/db-0/data"));
    Running unclaim = bed.start({"unclaim", "db-0"});
    REQUIRE(unclaim.prints("waiting"));
    Running second_unclaim = bed.start({"unclaim", "db-0"});
    REQUIRE(second_unclaim.prints("another ordinalctl is at work on db-0 (process " + std::to_string(unclaim.pid())));
    holds.kill();
    CHECK(unclaim.wait().status == 0);
    CHECK(second_unclaim.wait().status == 0);
  }
  CHECK_FALSE(is_mounted("/srv/db-0/data"));
}

TEST_CASE("a claim that fails leaves nothing claimed, and one that is there alone", "[root]") {
  ClaimBed bed;
  bed.install("db", {{"volumeClaimTemplates", {{{"name", "data"}, {"size", "64MiB"}}, {{"name", "wal"}, {"size", "64MiB"}}}}});
  REQUIRE(bed.ctl({"claim", "db-0"}).status == 0);
  REQUIRE(bed.ctl({"unclaim", "db-0"}).status == 0);
  const auto nothing_is_left = [&] {
    CHECK_FALSE(is_mounted("/srv/db-0/data"));
    CHECK_FALSE(fs::exists("/srv/db-0"));
    CHECK_FALSE(fs::exists(bed.run_dir() / "db-0.json"));
    CHECK_FALSE(fs::exists(bed.run_dir() / "data-db-0"));
    CHECK_FALSE(fs::exists(bed.run_dir() / "wal-db-0"));
  };
  const Ended wrong = bed.ctl({"claim", "db-0", "--unit", "nonsense"});
  CHECK(wrong.status == 1);
  CHECK_THAT(wrong.err, Contains("is no name of a systemd service"));
  nothing_is_left();

  // Refused before anything was staged.
  const fs::path image = bed.root() / "agent" / "pool" / (bed.volumes().at("data-db-0").id + ".img");
  REQUIRE(fs::exists(image));
  fs::rename(image, bed.root() / "away");
  CHECK(bed.ctl({"claim", "db-0"}).status == 1);
  nothing_is_left();
  fs::rename(bed.root() / "away", image);

  OtherHolder other{bed, "wal-db-0"};  // data was published before that showed
  CHECK(bed.ctl({"claim", "db-0", "--timeout", "0"}).status == 4);
  nothing_is_left();
  CHECK(is_mounted(other.target()));
  other.let_go();

  REQUIRE(bed.ctl({"claim", "db-0"}).status == 0);
  CHECK(bed.ctl({"claim", "db-0", "--unit", "nonsense"}).status == 1);
  CHECK(is_mounted("/srv/db-0/data"));
  CHECK(is_mounted("/srv/db-0/wal"));
  CHECK(bed.ctl({"unclaim", "db-0"}).status == 0);
}

TEST_CASE("a claim that a signal ends while it waits leaves nothing claimed", "[root]") {
  ClaimBed bed;
  bed.install("db", {{"volumeClaimTemplates", {{{"name", "data"}, {"size", "64MiB"}}, {{"name", "wal"}, {"size", "64MiB"}}}}});
  REQUIRE(bed.ctl({"claim", "db-0"}).status == 0);
  REQUIRE(bed.ctl({"unclaim", "db-0"}).status == 0);
  OtherHolder other{bed, "wal-db-0"};
  const auto [signal, name] = GENERATE(std::pair{SIGTERM, "TERM"}, std::pair{SIGINT, "INT"});
  Running waiting = bed.start({"claim", "db-0", "--timeout", "86400"});
  REQUIRE(waiting.prints("waiting"));
  CHECK(is_mounted("/srv/db-0/data"));
  REQUIRE(::kill(waiting.pid(), signal) == 0);
  const Ended ended = waiting.wait();
  CHECK(ended.status == 4);
  CHECK_THAT(ended.err, Contains("db-0: broken off by SIG" + std::string{name} + ": ") && Contains("held by host/db-0"));
  CHECK_FALSE(fs::exists("/srv/db-0"));
  for (const char* left : {"db-0.json", "db-0.env", "data-db-0", "wal-db-0"}) CHECK_FALSE(fs::exists(bed.run_dir() / left));
  other.let_go();
}

TEST_CASE("what a unit claimed no other unit claims or takes back", "[root]") {
  ClaimBed bed;
  bed.install("db");
  const auto by = [&](const std::string& command, const std::string& unit) {
    return bed.ctl({command, "db-0", "--by", unit, "--timeout", "0"});
  };
  REQUIRE(by("claim", "a.service").status == 0);
  REQUIRE(by("claim", "a.service").status == 0);
  for (const std::string command : {"claim", "unclaim"}) {
    const Ended other = by(command, "b.service");
    CHECK(other.status == 4);
    CHECK_THAT(other.err, Contains("db-0 was claimed by a.service") && Contains("not b.service"));
    CHECK(is_mounted("/srv/db-0/data"));
  }
  // A person may look at it, which changes nothing, and take it back.
  REQUIRE(bed.ctl({"claim", "db-0"}).status == 0);
  CHECK(by("unclaim", "b.service").status == 4);
  const Ended person = bed.ctl({"unclaim", "db-0"});
  CHECK(person.status == 0);
  CHECK_THAT(person.err, Contains("taken back from a.service"));

  // One that did not get it keeps nobody out.
  OtherHolder holder{bed, "data-db-0"};
  CHECK(by("claim", "a.service").status == 4);
  holder.let_go();
  CHECK(by("claim", "b.service").status == 0);
  CHECK(by("unclaim", "a.service").status == 4);
  CHECK(by("unclaim", "b.service").status == 0);
  CHECK_FALSE(is_mounted("/srv/db-0/data"));
}

TEST_CASE("after a lost ledger no other unit gets what a process of the first still has", "[root]") {
  if (!TestCgroup::possible()) {
    std::printf("SKIPPED: control groups can't be made here\n");
    return;
  }
  ClaimBed bed;
  bed.install("db");
  const auto claim = [&](const std::string& unit) { return bed.ctl({"claim", "db-0", "--unit", unit, "--timeout", "0"}); };
  REQUIRE(claim("a.service").status == 0);
  const auto lose_ledger = [&] {
    bed.kill_agent();
    fs::remove_all(bed.root() / "agent" / "run" / "ledger");
    bed.start_agent();
  };
  {
    const Workload first{"a.service", [] {
                           if (::open("/srv/db-0/data/file", O_RDWR | O_CREAT, 0600) < 0) throw std::runtime_error("open");
                         }};
    lose_ledger();
    for (int i = 0; i < 2; ++i) {
      const Ended other = claim("b.service");
      CHECK(other.status == 4);
      CHECK_THAT(other.err, Contains("process " + std::to_string(first.pid()) + " (workload, ") && Contains("/srv/db-0/data/file"));
      CHECK(is_mounted("/srv/db-0/data"));
    }
    CHECK(claim("a.service").status == 0);
    lose_ledger();
  }
  CHECK(claim("b.service").status == 0);
  CHECK(claim("a.service").status == 4);
  CHECK(bed.ctl({"unclaim", "db-0"}).status == 0);
}

TEST_CASE("after a reboot a claim works again, with what was there", "[root]") {
  ClaimBed bed;
  bed.install("db");
  REQUIRE(bed.ctl({"claim", "db-0"}).status == 0);
  write_file("/srv/db-0/data/ours", "kept");
  bed.reboot();
  CHECK(fs::is_empty("/srv/db-0/data"));
  REQUIRE(bed.ctl({"unclaim", "db-0"}).status == 0);  // of which nothing is left
  REQUIRE(bed.ctl({"claim", "db-0"}).status == 0);
  CHECK(read_file("/srv/db-0/data/ours") == "kept");
  REQUIRE(bed.ctl({"unclaim", "db-0"}).status == 0);
}

TEST_CASE("a claim's volume is told by its claim, whatever its name", "[root]") {
  ClaimBed bed;
  bed.install("db", {{"replicas", 2}});
  const auto make = [&](const std::string& name, const std::string& claim) {
    const csi::StringMap parameters{
        {"identity", "ordinal"}, {"csi.storage.k8s.io/pvc/namespace", "host"}, {"csi.storage.k8s.io/pvc/name", claim}};
    auto made = bed.client().create_volume({.name = name,
                                            .capacity = {.required = 64 << 20},
                                            .capabilities = {{.mode = csi::AccessMode::single_node_single_writer}},
                                            .parameters = parameters},
                                           std::chrono::seconds{30});
    REQUIRE(made.has_value());
    CHECK(made.value().context.empty());  // what Kubernetes would keep for ever
    return made.value().id;
  };
  const std::string of_0 = make("pvc-1", "data-db-0");
  make("data-db-1", "data-web-7");  // has the name that the claim would have chosen
  REQUIRE(bed.ctl({"claim", "db-0"}).status == 0);
  REQUIRE(bed.ctl({"claim", "db-1"}).status == 0);
  CHECK(bed.volumes().at("data-db-0").id == of_0);
  CHECK(bed.volumes().size() == 3);

  make("pvc-2", "data-db-0");
  const Ended twins = bed.ctl({"claim", "db-0"});
  CHECK(twins.status == 1);
  CHECK_THAT(twins.err, Contains("two volumes have the claim host/data-db-0: ") && Contains(of_0));
  CHECK(bed.ctl({"claim", "db-1"}).status == 0);
  CHECK(bed.ctl({"unclaim", "db-0"}).status == 0);
  CHECK(bed.ctl({"unclaim", "db-1"}).status == 0);
}

TEST_CASE("claims and unclaims of one ordinal at once leave it one or the other", "[root]") {
  ClaimBed bed;
  bed.install("db", {{"mountPath", "/srv/{set}/{ordinal}/{template}"}, {"replicas", 2}});
  std::vector<Running> running;
  for (int i = 0; i < 6; ++i) {
    running.push_back(bed.start({i % 2 == 0 ? "claim" : "unclaim", "db-0"}));
    running.push_back(bed.start({i % 2 == 0 ? "unclaim" : "claim", "db-1"}));  // with which it shares a directory
  }
  for (Running& each : running) {
    const Ended ended = each.wait();
    INFO(ended.err);
    CHECK(ended.status == 0);
  }
  CHECK(bed.volumes().size() == 2);
  for (const std::string ordinal : {"0", "1"}) {
    const fs::path target = "/srv/db/" + ordinal + "/data";
    CHECK(is_mounted(target) == fs::exists(bed.run_dir() / ("db-" + ordinal + ".env")));
    REQUIRE(bed.ctl({"claim", "db-" + ordinal}).status == 0);
    CHECK(is_mounted(target));
    REQUIRE(bed.ctl({"unclaim", "db-" + ordinal}).status == 0);
  }
  CHECK_FALSE(fs::exists("/srv/db"));
}

TEST_CASE("a claim lives through the agent's death", "[root]") {
  ClaimBed bed;
  bed.install("db", {{"replicas", 4}});
  bed.kill_agent();
  Running waiting = bed.start({"claim", "db-0"});
  REQUIRE(waiting.prints("waiting"));
  CHECK(bed.ctl({"claim", "db-1", "--timeout", "0"}).status == 3);
  bed.start_agent();
  CHECK(waiting.wait().status == 0);
  for (const std::string ordinal : {"db-1", "db-2", "db-3"}) {
    Running claim = bed.start({"claim", ordinal});
    bed.kill_agent();
    bed.start_agent();
    const Ended ended = claim.wait();
    INFO(ended.err);
    CHECK(ended.status == 0);
    Running unclaim = bed.start({"unclaim", ordinal});
    bed.kill_agent();
    bed.start_agent();
    CHECK(unclaim.wait().status == 0);
    CHECK_FALSE(fs::exists("/srv/" + ordinal));
  }
  CHECK(bed.volumes().size() == 4);
}

TEST_CASE("a larger size in the claim file grows the volume at the next claim, a smaller one nothing", "[root]") {
  const bool by_node = GENERATE(false, true);
  ClaimBed bed{{{"controllerExpansion", !by_node}}};
  const auto install = [&](const std::string& size) {
    bed.install("db", {{"volumeClaimTemplates", {{{"name", "data"}, {"size", size}, {"fsType", "btrfs"}}}}});
  };
  install("128MiB");
  REQUIRE(bed.ctl({"claim", "db-0"}).status == 0);
  write_file("/srv/db-0/data/ours", "kept");
  install("256MiB");
  const Ended grown = bed.ctl({"claim", "db-0"});
  INFO(grown.err);
  CHECK(grown.status == 0);
  CHECK(size_at("/srv/db-0/data") == 256U << 20U);
  install("128MiB");
  const Ended smaller = bed.ctl({"claim", "db-0"});
  CHECK(smaller.status == 0);
  CHECK_THAT(smaller.err, Contains("data-db-0 has 256 MiB, more than the 128 MiB of the claim file; volumes are never shrunk"));
  install("1TiB");
  const Ended too_large = bed.ctl({"claim", "db-0"});
  CHECK(too_large.status == 0);
  CHECK_THAT(too_large.err, Contains("data-db-0 could not be grown, and is served as it is"));
  CHECK(read_file("/srv/db-0/data/ours") == "kept");
}

TEST_CASE("what a changed claim file puts elsewhere is moved, and what it has no more is given back", "[root]") {
  ClaimBed bed;
  bed.install("db", {{"volumeClaimTemplates", {{{"name", "data"}, {"size", "64MiB"}}, {{"name", "wal"}, {"size", "32MiB"}}}}});
  REQUIRE(bed.ctl({"claim", "db-0"}).status == 0);
  write_file("/srv/db-0/data/ours", "kept");
  bed.install("db", {{"mountPath", "/srv/elsewhere/{ordinal}/{template}"}});
  REQUIRE(bed.ctl({"claim", "db-0"}).status == 0);
  CHECK_FALSE(fs::exists("/srv/db-0"));
  CHECK(read_file("/srv/elsewhere/0/data/ours") == "kept");
  // The file may be gone before the claim is.
  fs::remove(bed.set_file("db"));
  CHECK(bed.ctl({"unclaim", "db-0"}).status == 0);
  CHECK_FALSE(fs::exists("/srv/elsewhere/0"));
  fs::remove("/srv/elsewhere");
  CHECK(bed.volumes().size() == 2);
}

TEST_CASE("an adopted filesystem is the ordinal's volume, and grows to what the claim file says", "[root]") {
  ClaimBed bed;
  bed.install("db");
  fs::create_directories(bed.root() / "tree/base");
  write_file(bed.root() / "tree/PG_VERSION", "15");
  const fs::path file = bed.root() / "old.img";
  const auto run = [](const std::vector<std::string>& words) { return Running{words, {}, {}}.wait().status; };
  REQUIRE(run({"/usr/bin/truncate", "--size=48M", file}) == 0);
  REQUIRE(run({"/usr/sbin/mkfs.ext4", "-q", "-d", bed.root() / "tree", file}) == 0);
  const Ended adopted = bed.ctl({"adopt", file, "--claim", "host/data-db-0", "--yes"});
  INFO(adopted.err);
  REQUIRE(adopted.status == 0);
  const std::string id = bed.volumes().at("data-db-0").id;

  const Ended claimed = bed.ctl({"claim", "db-0"});
  INFO(claimed.err);
  REQUIRE(claimed.status == 0);
  CHECK(bed.volumes().size() == 1);
  CHECK(bed.volumes().at("data-db-0").id == id);
  CHECK(bed.volumes().at("data-db-0").capacity == std::int64_t{64} << 20);
  CHECK(read_file("/srv/db-0/data/PG_VERSION") == "15");
  CHECK(bed.ctl({"unclaim", "db-0"}).status == 0);
}

}  // namespace ordinald::testing
