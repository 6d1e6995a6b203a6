#include "agent/ctl/rollout.hpp"

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>

#include "agent/ctl/unit_files.hpp"
#include "tests/support/temp.hpp"
#include "tests/systemd/fake_manager.hpp"

namespace ordinald::testing {
namespace {

using ctl::ClaimSet;
using ctl::Exit;
using Jobs = std::vector<std::string>;
using Numbers = std::vector<std::int64_t>;

/// A set of three that runs, and what is said of it.
struct Bed {
  TempDir temp{"systemd"};
  FakeManager manager{};
  std::string text =
      R"({"set": "db", "replicas": 3, "unit": "postgres@.service", "volumeClaimTemplates": [{"name": "data", "size": "64MiB"}]})";
  ClaimSet set = ctl::parse_claim_set(text, "db.json").value();
  ctl::RolloutOrder order{};
  std::string said{};

  explicit Bed(bool running = true) {
    for (const std::int64_t ordinal : ctl::ordinals(set)) manager.add(ctl::unit_of(set, ordinal), running);
    order.claim_text = text;
    order.memory = (temp.path() / "db.rollout").string();
  }
  ctl::Say say() {
    return [this](const std::string& line) { said += line + "\n"; };
  }
  ctl::Result<ctl::RolledOut> roll() {
    manager.jobs.clear();
    return ctl::roll_out(manager, set, order, say());
  }
  bool remembers() const { return std::filesystem::exists(order.memory); }
};

TEST_CASE("a rollout restarts the highest ordinal first, and forgets that it began when the lowest is done") {
  Bed bed;
  const auto done = bed.roll();
  REQUIRE(done.has_value());
  CHECK(bed.manager.jobs == Jobs{"reload", "restart postgres@2.service", "restart postgres@1.service", "restart postgres@0.service"});
  CHECK(done.value().restarted == Numbers{2, 1, 0});
  CHECK(done.value().were_done.empty());
  CHECK_FALSE(bed.remembers());

  bed.manager.time += std::chrono::minutes{1};
  REQUIRE(bed.roll().has_value());
  CHECK(bed.manager.jobs.size() == 4);  // another rollout restarts them again
}

TEST_CASE("a rollout waits minReadySeconds before it goes on") {
  Bed bed;
  bed.set.min_ready = std::chrono::seconds{30};
  const auto begin = bed.manager.now();
  REQUIRE(bed.roll().has_value());
  CHECK(bed.manager.now() - begin >= std::chrono::seconds{90});
}

TEST_CASE("a rollout stops at the first that fails, says why, and goes on from there") {
  Bed bed;
  bed.manager.plans["postgres@1.service"] = FakeManager::Plan::fails_to_start;
  const auto failed = bed.roll();
  REQUIRE_FALSE(failed.has_value());
  CHECK(failed.error().status == Exit::failed);
  CHECK(failed.error().message.find("FATAL: no room for postgres@1.service") != std::string::npos);
  CHECK(failed.error().message.find("exit-code 1") != std::string::npos);
  CHECK(failed.error().message.find("`ordinalctl rollout db` again") != std::string::npos);
  CHECK(failed.error().message.find("not restarted yet: db-0") != std::string::npos);
  CHECK(bed.manager.jobs == Jobs{"reload", "restart postgres@2.service", "restart postgres@1.service"});
  CHECK(bed.remembers());

  // Again before it is mended: the same, and db-2 is left alone.
  bed.manager.time += std::chrono::minutes{1};
  REQUIRE_FALSE(bed.roll().has_value());
  CHECK(bed.manager.jobs == Jobs{"reload", "restart postgres@1.service"});

  bed.manager.plans.clear();
  const auto done = bed.roll();
  REQUIRE(done.has_value());
  CHECK(bed.manager.jobs == Jobs{"reload", "restart postgres@1.service", "restart postgres@0.service"});
  CHECK(done.value().were_done == Numbers{2});
  CHECK(done.value().restarted == Numbers{1, 0});
  CHECK_FALSE(bed.remembers());
}

TEST_CASE("one that a person mended and started is not restarted again") {
  Bed bed;
  bed.manager.plans["postgres@1.service"] = FakeManager::Plan::fails_to_start;
  REQUIRE_FALSE(bed.roll().has_value());
  bed.manager.plans.clear();
  REQUIRE(bed.manager.run(ctl::Job::start, "postgres@1.service", std::chrono::seconds{1}, {}).has_value());
  REQUIRE(bed.roll().has_value());
  CHECK(bed.manager.jobs == Jobs{"reload", "restart postgres@0.service"});
}

TEST_CASE("a mend of the files begins the rollout anew") {
  Bed bed;
  const auto fragment = bed.temp.path() / "postgres@.service";
  std::ofstream{fragment} << "[Service]\n";
  for (auto& [name, unit] : bed.manager.units) unit.fragment = fragment.string();
  bed.manager.plans["postgres@1.service"] = FakeManager::Plan::fails_to_start;
  REQUIRE_FALSE(bed.roll().has_value());
  bed.manager.plans.clear();
  bed.manager.time += std::chrono::minutes{1};

  SECTION("the unit file") { std::ofstream{fragment} << "[Service]\nNice=1\n"; }
  SECTION("the claim file") { bed.order.claim_text.insert(1, "\"minReadySeconds\": 1, "); }
  REQUIRE(bed.roll().has_value());
  CHECK(bed.manager.jobs == Jobs{"reload", "restart postgres@2.service", "restart postgres@1.service", "restart postgres@0.service"});
}

TEST_CASE("other replicas do not begin a rollout anew, and neither do the generator's drop-ins") {
  Bed bed;
  bed.manager.plans["postgres@1.service"] = FakeManager::Plan::fails_to_start;
  REQUIRE_FALSE(bed.roll().has_value());
  bed.manager.plans.clear();
  bed.order.claim_text = ctl::with_replicas(bed.text, 4).value();
  for (auto& [name, unit] : bed.manager.units) unit.drop_ins = {"/run/systemd/generator.late/" + name + ".d/50-ordinald.conf"};
  REQUIRE(bed.roll().has_value());
  CHECK(bed.manager.jobs == Jobs{"reload", "restart postgres@1.service", "restart postgres@0.service"});
}

TEST_CASE("--anew forgets what was done") {
  Bed bed;
  bed.manager.plans["postgres@0.service"] = FakeManager::Plan::fails_to_start;
  REQUIRE_FALSE(bed.roll().has_value());
  bed.manager.plans.clear();
  bed.manager.time += std::chrono::minutes{1};
  bed.order.anew = true;
  REQUIRE(bed.roll().has_value());
  CHECK(bed.manager.jobs.size() == 4);
}

TEST_CASE("a partition keeps those below it; the rest is done by the next call") {
  Bed bed;
  bed.order.partition = 2;
  REQUIRE(bed.roll().has_value());
  CHECK(bed.manager.jobs == Jobs{"reload", "restart postgres@2.service"});
  bed.order.partition = 0;
  REQUIRE(bed.roll().has_value());
  CHECK(bed.manager.jobs == Jobs{"reload", "restart postgres@1.service", "restart postgres@0.service"});
  bed.order.partition = 9;
  REQUIRE(bed.roll().has_value());
  CHECK(bed.manager.jobs == Jobs{"reload"});
}

TEST_CASE("one that ended at its partition is done: the same again restarts them again") {
  Bed bed;
  bed.order.partition = 1;
  for (int week = 0; week < 2; ++week) {
    REQUIRE(bed.roll().has_value());
    CHECK(bed.manager.jobs == Jobs{"reload", "restart postgres@2.service", "restart postgres@1.service"});
    bed.manager.time += std::chrono::hours{168};
  }
  bed.order.partition = 2;
  REQUIRE(bed.roll().has_value());
  CHECK(bed.manager.jobs == Jobs{"reload", "restart postgres@2.service"});

  // What goes further down goes on, also where it stops in between.
  bed.order.partition = 0;
  bed.manager.plans["postgres@1.service"] = FakeManager::Plan::fails_to_start;
  REQUIRE_FALSE(bed.roll().has_value());
  bed.manager.plans.clear();
  REQUIRE(bed.roll().has_value());
  CHECK(bed.manager.jobs == Jobs{"reload", "restart postgres@1.service", "restart postgres@0.service"});
  CHECK_FALSE(bed.remembers());

  // One that stopped before its partition is not done, and says how it goes on without going further.
  bed.order.partition = 1;
  bed.manager.time += std::chrono::minutes{1};
  bed.manager.plans["postgres@1.service"] = FakeManager::Plan::fails_to_start;
  const auto failed = bed.roll();
  REQUIRE_FALSE(failed.has_value());
  CHECK(failed.error().message.find("`ordinalctl rollout db --partition 1` again") != std::string::npos);
  bed.manager.plans.clear();
  REQUIRE(bed.roll().has_value());
  CHECK(bed.manager.jobs == Jobs{"reload", "restart postgres@1.service"});
}

TEST_CASE("one that does not stay up for minReadySeconds stops the rollout") {
  Bed bed;
  bed.set.min_ready = std::chrono::seconds{10};
  bed.manager.plans["postgres@2.service"] = FakeManager::Plan::falls_over;
  const auto failed = bed.roll();
  REQUIRE_FALSE(failed.has_value());
  CHECK(failed.error().message.find("signal 11") != std::string::npos);
  CHECK(bed.manager.jobs == Jobs{"reload", "restart postgres@2.service"});
}

TEST_CASE("a broken memory of a rollout is none") {
  Bed bed;
  for (const char* text : {"", "{", "[]", R"({"beganMonotonicMicroseconds": "x", "files": 1})"}) {
    std::ofstream{bed.order.memory} << text;
    REQUIRE(bed.roll().has_value());
    CHECK(bed.manager.jobs.size() == 4);
    bed.manager.time += std::chrono::minutes{1};
  }
}

TEST_CASE("a unit that is not there, a dependency, and time that is up are said") {
  Bed bed;
  SECTION("not there") {
    bed.manager.units.erase("postgres@2.service");
    const auto failed = bed.roll();
    REQUIRE_FALSE(failed.has_value());
    CHECK(failed.error().status == Exit::usage);
  }
  SECTION("its claim") {
    bed.manager.job_results["postgres@2.service"] = "dependency";
    const auto failed = bed.roll();
    REQUIRE_FALSE(failed.has_value());
    CHECK(failed.error().message.find("list-dependencies postgres@2.service") != std::string::npos);
  }
  SECTION("time") {
    bed.manager.job_results["postgres@2.service"] = ctl::still_running;
    const auto failed = bed.roll();
    REQUIRE_FALSE(failed.has_value());
    CHECK(failed.error().status == Exit::busy);
  }
}

TEST_CASE("a gate waits on for a unit that failed, a rollout does not") {
  Bed bed{false};
  CHECK_FALSE(
      ctl::await_ready(bed.manager, "postgres@0.service", std::chrono::seconds{5}, std::chrono::seconds{60}, ctl::Patient::no, bed.say()));
  const auto late =
      ctl::await_ready(bed.manager, "postgres@0.service", std::chrono::seconds{5}, std::chrono::seconds{60}, ctl::Patient::yes, bed.say());
  REQUIRE_FALSE(late.has_value());
  CHECK(late.error().status == Exit::busy);
  REQUIRE(bed.manager.run(ctl::Job::start, "postgres@0.service", std::chrono::seconds{1}, {}).has_value());
  const auto began = bed.manager.now();
  CHECK(
      ctl::await_ready(bed.manager, "postgres@0.service", std::chrono::seconds{5}, std::chrono::seconds{60}, ctl::Patient::yes, bed.say()));
  CHECK(bed.manager.now() - began >= std::chrono::seconds{5});
}

TEST_CASE("a set that shrinks: the highest first, with its claim, before systemd reads the file") {
  Bed bed;
  ClaimSet one = bed.set;
  one.replicas = 1;
  REQUIRE(ctl::follow(bed.manager, bed.set, one, {}, std::chrono::seconds{60}, bed.say()));
  CHECK(bed.manager.jobs == Jobs{"stop postgres@2.service", "stop ordinald-claim@db-2.service", "stop postgres@1.service",
                                 "stop ordinald-claim@db-1.service", "reload", "start db.target"});
}

TEST_CASE("what a set's units lack is shown before it is done") {
  Bed bed;
  const auto changes = [&](const ClaimSet& before, const ClaimSet& after, const Numbers& ordinals) {
    ctl::ClaimedUnits claimed;
    for (const std::int64_t ordinal : ordinals) claimed[ordinal] = ctl::unit_of(bed.set, ordinal);
    const auto all = ctl::unit_changes(bed.manager, before, after, claimed).value();
    Jobs words;
    for (const std::string& unit : all.stop) words.push_back("stop " + unit);
    for (const std::string& unit : all.start) words.push_back("start " + unit);
    return words;
  };
  ClaimSet other = bed.set;
  CHECK(changes(bed.set, bed.set, {0, 1, 2}).empty());
  other.replicas = 5;
  CHECK(changes(bed.set, other, {0, 1, 2}) == Jobs{"start postgres@3.service", "start postgres@4.service"});
  other.replicas = 1;
  CHECK(changes(bed.set, other, {}) == Jobs{"stop postgres@2.service", "stop postgres@1.service"});
  CHECK(changes(other, other, {0, 1}) == Jobs{"stop postgres@1.service"});  // shrunk by one that was killed
  other.unit = "";
  CHECK(changes(bed.set, other, {0, 1, 2}) == Jobs{"stop postgres@2.service", "stop postgres@1.service", "stop postgres@0.service"});
  bed.manager.units["postgres@1.service"].active = "failed";
  CHECK(changes(bed.set, bed.set, {0, 1, 2}) == Jobs{"start postgres@1.service"});
  CHECK(bed.manager.jobs.empty());
}

TEST_CASE("shrinking, repeated after a crash, stops what is still claimed") {
  Bed bed;
  ClaimSet two = bed.set;
  two.replicas = 2;
  REQUIRE(ctl::follow(bed.manager, two, two, {{0, ""}, {1, ""}, {2, "postgres@2.service"}}, std::chrono::seconds{60}, bed.say()));
  CHECK(bed.manager.jobs == Jobs{"stop postgres@2.service", "stop ordinald-claim@db-2.service", "reload", "start db.target"});
}

TEST_CASE("a set that grows: the lowest first, after systemd has read the file; one that fails ends it") {
  Bed bed;
  ClaimSet five = bed.set;
  five.replicas = 5;
  SECTION("well") {
    REQUIRE(ctl::follow(bed.manager, bed.set, five, {}, std::chrono::seconds{60}, bed.say()));
    CHECK(bed.manager.jobs == Jobs{"reload", "start postgres@3.service", "start postgres@4.service", "start db.target"});
  }
  SECTION("not well") {
    bed.manager.plans["postgres@3.service"] = FakeManager::Plan::fails_to_start;
    CHECK_FALSE(ctl::follow(bed.manager, bed.set, five, {}, std::chrono::seconds{60}, bed.say()));
    CHECK(bed.manager.jobs == Jobs{"reload", "start postgres@3.service"});
  }
}

TEST_CASE("a set that ends, or whose file names another unit") {
  Bed bed;
  ClaimSet after = bed.set;
  SECTION("ends") {
    after.replicas = 0;
    bed.manager.add("db.target");
    REQUIRE(ctl::follow(bed.manager, bed.set, after, {}, std::chrono::seconds{60}, bed.say()));
    CHECK(bed.manager.jobs.size() == 8);
    CHECK(bed.manager.jobs.back() == "stop db.target");
    bed.manager.jobs.clear();
    bed.manager.units.erase("db.target");  // as the generator leaves it
    REQUIRE(ctl::follow(bed.manager, bed.set, after, {}, std::chrono::seconds{60}, bed.say()));
    CHECK(bed.manager.jobs ==
          Jobs{"stop ordinald-claim@db-2.service", "stop ordinald-claim@db-1.service", "stop ordinald-claim@db-0.service", "reload"});
  }
  SECTION("another unit") {
    after.unit = "pg@.service";
    REQUIRE(ctl::follow(bed.manager, bed.set, after, {}, std::chrono::seconds{60}, bed.say()));
    CHECK(bed.manager.jobs == Jobs{"stop postgres@2.service", "stop ordinald-claim@db-2.service", "stop postgres@1.service",
                                   "stop ordinald-claim@db-1.service", "stop postgres@0.service", "stop ordinald-claim@db-0.service",
                                   "reload", "start pg@0.service", "start pg@1.service", "start pg@2.service", "start db.target"});
  }
}

TEST_CASE("a file changed in its place: the unit that was claimed for stops before the new one starts") {
  Bed bed;
  ClaimSet after = bed.set;
  after.unit = "pg@.service";
  after.replicas = 2;
  const ctl::ClaimedUnits claimed{{0, "postgres@0.service"}, {1, "postgres@1.service"}};
  const auto changes = ctl::unit_changes(bed.manager, after, after, claimed).value();
  CHECK(changes.stop == Jobs{"postgres@1.service", "postgres@0.service"});
  bed.order.claimed = claimed;
  const auto rolled = ctl::roll_out(bed.manager, after, bed.order, bed.say());
  REQUIRE_FALSE(rolled);
  CHECK_THAT(rolled.error().message, Catch::StartsWith("postgres@1.service runs, which the claim file of db names no more"));
  CHECK(bed.manager.jobs.empty());
  CHECK(changes.start == Jobs{"pg@0.service", "pg@1.service"});
  REQUIRE(ctl::follow(bed.manager, after, after, claimed, std::chrono::seconds{60}, bed.say()));
  CHECK(bed.manager.jobs == Jobs{"stop postgres@1.service", "stop ordinald-claim@db-1.service", "stop postgres@0.service",
                                 "stop ordinald-claim@db-0.service", "reload", "start pg@0.service", "start pg@1.service",
                                 "start db.target"});

  // Again, or where the new one has the claim by now: nothing is stopped.
  bed.manager.jobs.clear();
  CHECK(ctl::unit_changes(bed.manager, after, after, claimed).value().stop.empty());
  REQUIRE(ctl::follow(bed.manager, after, after, claimed, std::chrono::seconds{60}, bed.say()));
  CHECK(bed.manager.jobs == Jobs{"reload", "start db.target"});
}

}  // namespace
}  // namespace ordinald::testing
