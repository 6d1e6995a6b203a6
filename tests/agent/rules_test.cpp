#include <catch2/catch.hpp>
#include <thread>

#include "agent/access_rules.hpp"
#include "agent/keyed_digest.hpp"
#include "agent/promises.hpp"
#include "agent/volume_locks.hpp"
#include "agent/volume_parameters.hpp"
#include "tests/support/temp.hpp"

using namespace ordinald::agent;
using namespace std::chrono_literals;
using ordinald::csi::CallContext;
using ordinald::testing::TempDir;

namespace {

constexpr std::array modes{AccessMode::single_node_writer,       AccessMode::single_node_reader_only, AccessMode::multi_node_reader_only,
                           AccessMode::multi_node_single_writer, AccessMode::multi_node_multi_writer, AccessMode::single_node_single_writer,
                           AccessMode::single_node_multi_writer};

Publication publication(const std::string& target, AccessMode mode) {
  Publication p;
  p.target = target;
  p.staging_path = "/stage";
  p.mode = mode;
  p.holder = Holder{.pod_namespace = "prod", .pod_name = "db-1", .pod_uid = "uid-1", .service_account = "default"};
  p.since = "2026-01-31T21:03:04Z";
  return p;
}

bool exclusive(AccessMode mode) {
  return mode == AccessMode::single_node_writer || mode == AccessMode::single_node_reader_only ||
         mode == AccessMode::single_node_single_writer;
}

}  // namespace

TEST_CASE("the access-mode table, every mode held against every mode asked") {
  for (const AccessMode held : modes) {
    for (const AccessMode asked : modes) {
      CAPTURE(to_string(held), to_string(asked));
      VolumeState state;
      state.publications.push_back(publication("/a", held));
      const auto elsewhere = judge_publish(state, publication("/b", asked));
      const auto here = judge_publish(state, publication("/a", asked));
      if (exclusive(held) || exclusive(asked)) {
        REQUIRE_FALSE(elsewhere);
        CHECK(elsewhere.error().code == ordinald::mount::ErrorCode::failed_precondition);
        CHECK_THAT(elsewhere.error().message,
                   Catch::Contains("prod/db-1 (uid uid-1)") && Catch::Contains("/a") && Catch::Contains("2026-01-31"));
      } else {
        CHECK(elsewhere.value() == PublishVerdict::fresh);
      }
      if (held == asked) {
        CHECK(here.value() == PublishVerdict::repeated);
      } else {
        REQUIRE_FALSE(here);
        CHECK(here.error().code == ordinald::mount::ErrorCode::already_exists);
      }
    }
  }
}

TEST_CASE("any other argument on the same target is another publication") {
  VolumeState state;
  state.publications.push_back(publication("/a", AccessMode::single_node_multi_writer));
  state.publications.front().group = 1000;
  const auto with = [&](auto change, const char* named) {
    Publication asked = publication("/a", AccessMode::single_node_multi_writer);
    asked.group = 1000;
    change(asked);
    const auto verdict = judge_publish(state, asked);
    REQUIRE_FALSE(verdict);
    CHECK(verdict.error().code == ordinald::mount::ErrorCode::already_exists);
    CHECK_THAT(verdict.error().message, Catch::Contains(named));
  };
  with([](Publication& p) { p.block = true; }, "access type");
  with([](Publication& p) { p.read_only = true; }, "readonly");
  with([](Publication& p) { p.flags_digest = "x"; }, "mount flags");
  with([](Publication& p) { p.fs_type = "xfs"; }, "fs_type");
  with([](Publication& p) { p.group = 2000; }, "volume_mount_group");
  with([](Publication& p) { p.group = no_group; }, "volume_mount_group");
  with([](Publication& p) { p.staging_path = "/other"; }, "staging path");
  with([](Publication& p) { p.holder.pod_uid = "uid-2"; }, "holder (prod/db-1 (uid uid-2))");
  Publication renamed = publication("/a", AccessMode::single_node_multi_writer);
  renamed.holder.service_account = "another";
  renamed.group = 1000;
  CHECK(judge_publish(state, renamed).value() == PublishVerdict::repeated);
}

TEST_CASE("a publication's mount group comes back from the ledger's file, and one that is not known there is equal to any") {
  for (const std::optional<std::int64_t> held : {std::optional<std::int64_t>{}, std::optional{no_group}, std::optional{std::int64_t{7}}}) {
    VolumeState state;
    state.publications.push_back(publication("/a", AccessMode::single_node_multi_writer));
    state.publications.front().group = held;
    const auto read = parse_state(to_json(state, "boot"), "boot");
    REQUIRE(read);
    CHECK(read.value()->publications.front().group == held);
    Publication asked = publication("/a", AccessMode::single_node_multi_writer);
    asked.group = 7;
    CHECK(judge_publish(*read.value(), asked).has_value() == (held != no_group));
  }
}

TEST_CASE("read-only and writable block publications of one volume don't go together") {
  VolumeState state;
  Publication held = publication("/a", AccessMode::single_node_multi_writer);
  held.block = true;
  state.publications.push_back(held);
  Publication asked = held;
  asked.target = "/b";
  CHECK(judge_publish(state, asked));
  asked.read_only = true;
  const auto verdict = judge_publish(state, asked);
  REQUIRE_FALSE(verdict);
  CHECK(verdict.error().code == ordinald::mount::ErrorCode::failed_precondition);
}

TEST_CASE("a call waits until a tenth of its time is left, at least 200 ms, or 60 s") {
  const auto now = VolumeLocks::Clock::now();
  CHECK(VolumeLocks::patience({}, now) == now + 60s);
  CHECK(VolumeLocks::patience({.deadline = now + 100s}, now) == now + 90s);
  CHECK(VolumeLocks::patience({.deadline = now + 1s}, now) == now + 800ms);
  CHECK(VolumeLocks::patience({.deadline = now + 100ms}, now) == now);
  CHECK(VolumeLocks::patience({.deadline = now - 1s}, now) == now);
}

TEST_CASE("a second call on a volume waits for the first, and others never wait") {
  VolumeLocks locks{8};
  auto first = locks.acquire("v", "NodeStageVolume", {});
  REQUIRE(first);
  CHECK(locks.acquire("w", "NodeStageVolume", {}));
  const auto late = locks.acquire("v", "NodePublishVolume", {.deadline = VolumeLocks::Clock::now()});
  REQUIRE_FALSE(late);
  CHECK(late.error().code == ordinald::mount::ErrorCode::aborted);
  CHECK_THAT(late.error().message, Catch::Contains("NodeStageVolume has been running since") && Catch::Contains("volume v"));
  std::thread waiter{[&] { CHECK(locks.acquire("v", "NodePublishVolume", {.deadline = VolumeLocks::Clock::now() + 60s})); }};
  {
    const auto released = std::move(first.value());
  }
  waiter.join();
  CHECK(locks.acquire("v", "NodePublishVolume", {.deadline = VolumeLocks::Clock::now()}));
}

TEST_CASE("parameters: each is read, each bad value and each unknown key is named") {
  const auto good = read_parameters({{"pool", "fast"},
                                     {"csi.storage.k8s.io/fstype", "xfs"},
                                     {"fsType", "xfs"},
                                     {"blockSize", "512"},
                                     {"multiNodeModes", "allow"},
                                     {"mkfsOptions", "-m reflink=1"},
                                     {"csi.storage.k8s.io/pvc/name", "data-db-0"},
                                     {"csi.storage.k8s.io/pvc/namespace", "prod"},
                                     {"csi.storage.k8s.io/pv/name", "pvc-1"}});
  REQUIRE(good);
  CHECK(good.value().pool == "fast");
  CHECK(good.value().fs_type == "xfs");
  CHECK(good.value().block_size == 512);
  CHECK(good.value().multi_node);
  CHECK(good.value().metadata.size() == 3);
  const auto refuses = [](const StringMap& parameters, const std::string& named) {
    const auto read = read_parameters(parameters);
    REQUIRE_FALSE(read);
    CHECK(read.error().code == ordinald::mount::ErrorCode::invalid_argument);
    CHECK_THAT(read.error().message, Catch::Contains(named));
  };
  refuses({{"fsType", "zfs"}}, "fsType");
  refuses({{"fsType", "xfs"}, {"csi.storage.k8s.io/fstype", "ext4"}}, "fsType");
  refuses({{"blockSize", "1024"}}, "blockSize");
  refuses({{"multiNodeModes", "yes"}}, "multiNodeModes");
  refuses({{"Pool", "x"}}, "\"Pool\"");
}

TEST_CASE("promises: honest on one file system, thin and thick, with a reserve") {
  const PoolConfig thin{.name = "thin", .directory = "/p/thin"};
  const PoolConfig thick{.name = "thick", .directory = "/p/thick", .thick = true};
  const PoolConfig over{.name = "over", .directory = "/p/over", .overcommit = 2.0};
  const PoolConfig elsewhere{.name = "elsewhere", .directory = "/q"};
  // A file system of 1000 with 700 free; images of ours hold 100, one that isn't ours 50.
  ordinald::mount::PoolUsage usage{.total = 1000, .free = 700, .device = 1, .filesystem = "x", .read_only = false, .images = {}};
  ordinald::mount::PoolUsage with_images = usage;
  with_images.images = {{.file = "a.img", .size = 400, .allocated = 100, .volume_id = "a"},
                        {.file = "x.img", .size = 50, .allocated = 50, .volume_id = ""}};
  ordinald::mount::PoolUsage other{.total = 10, .free = 10, .device = 1, .filesystem = "y", .read_only = false, .images = {}};
  ordinald::mount::PoolUsage subvolume = usage;  // of a btrfs
  subvolume.device = 3;
  const std::vector<PoolView> pools{{&thin, with_images}, {&thick, subvolume}, {&over, usage}, {&elsewhere, other}};
  // 700 free + 100 of ours - 10 % of 1000 = 700.
  CHECK(promisable("thin", pools, {}) == 700);
  CHECK(promisable("thin", pools, {{"thin", 400}}) == 300);
  CHECK(promisable("thick", pools, {{"thin", 400}}) == 300);
  CHECK(promisable("over", pools, {{"thin", 400}}) == 600);
  CHECK(promisable("thin", pools, {{"over", 400}}) == 500);
  CHECK(promisable("thin", pools, {{"thin", 9000}}) == 0);
  CHECK(promisable("elsewhere", pools, {{"thin", 400}}) == 9);
  CHECK(promisable("gone", pools, {}) == 0);
  auto read_only = pools;
  read_only.front().usage.read_only = true;
  CHECK(promisable("thin", read_only, {}) == 0);

  PromiseBook book;
  // An image whose record is lost weighs what it is.
  CHECK(book.available("thin", pools, {}) == 300);
  VolumeRecord a;
  a.id = "a";
  a.pool = "thin";
  const std::vector records{std::make_shared<const VolumeRecord>(a)};
  {
    const auto first = book.reserve({.pool = "thin", .bytes = 500}, pools, records);
    REQUIRE(first);
    CHECK(book.available("thin", pools, records) == 200);
    const auto second = book.reserve({.pool = "thick", .bytes = 201}, pools, records);
    REQUIRE_FALSE(second);
    CHECK(second.error().code == ordinald::mount::ErrorCode::resource_exhausted);
    CHECK_THAT(second.error().message, Catch::Contains("only 200"));
  }
  CHECK(book.available("thin", pools, records) == 700);
  {  // A volume that is being made counts once: by its call, and then by its record.
    const auto made = book.reserve({.pool = "thin", .bytes = 300, .volume = "b", .size = 300}, pools, records);
    REQUIRE(made);
    CHECK(book.available("thin", pools, records) == 400);
    VolumeRecord b;
    b.id = "b";
    b.pool = "thin";
    b.size = 300;
    std::vector both{records.front(), std::make_shared<const VolumeRecord>(b)};
    CHECK(book.available("thin", pools, both) == 400);
    const auto grown = book.reserve({.pool = "thin", .bytes = 100, .volume = "b", .size = 400}, pools, both);
    REQUIRE(grown);
    CHECK(book.available("thin", pools, both) == 300);
    b.size = 400;
    both.back() = std::make_shared<const VolumeRecord>(b);
    CHECK(book.available("thin", pools, both) == 300);
  }
  // The copy of a device, half done: what it has taken is its own, and all that it will be is promised.
  std::vector<PoolView> copying = pools;
  copying[0].usage.free -= 60;
  copying[0].usage.images.push_back({.file = ".sdb1+copy.img.new", .size = 250, .allocated = 60, .volume_id = ""});
  CHECK(book.available("thin", copying, records) == 450);
}

TEST_CASE("digests: the same under one key, other under another, and no list is like another") {
  const TempDir temp{"digest"};
  const auto digest = KeyedDigest::open(temp.path());
  REQUIRE(digest);
  CHECK(digest.value().of({}).empty());
  CHECK(digest.value().of({"ab", "c"}) != digest.value().of({"a", "bc"}));
  CHECK(digest.value().of({"noatime"}) == KeyedDigest::open(temp.path()).value().of({"noatime"}));
  CHECK_THAT(digest.value().of({"noatime"}), !Catch::Contains("noatime"));
  const TempDir other{"digest"};
  CHECK(digest.value().of({"noatime"}) != KeyedDigest::open(other.path()).value().of({"noatime"}));
  const auto permissions = std::filesystem::status(temp.path() / "key").permissions();
  CHECK((permissions & (std::filesystem::perms::group_all | std::filesystem::perms::others_all)) == std::filesystem::perms::none);
}

TEST_CASE("digests under a key that is lost can't be compared, and no flags still are none") {
  VolumeState state;
  state.stages.emplace_back().flags_digest = "a1";
  state.publications.push_back(publication("/pods/a", AccessMode::single_node_writer));
  state.publications.front().flags_digest = "b2";
  const std::string text = to_json(state, "boot", "one");
  const auto same = parse_state(text, "boot", "one");
  REQUIRE(same);
  CHECK(same.value()->stages.front().flags_digest == "a1");
  const auto other = parse_state(text, "boot", "another");
  REQUIRE(other);
  CHECK(other.value()->stages.front().flags_digest == unknown_digest);
  CHECK(other.value()->stages.front().options_digest.empty());
  Publication asked = state.publications.front();
  asked.flags_digest = "of the new key";
  CHECK(judge_publish(*other.value(), asked));
  CHECK_FALSE(judge_publish(*same.value(), asked));
}
