#include "agent/volume_record.hpp"

#include <catch2/catch.hpp>
#include <cstdio>
#include <filesystem>

#include "agent/durable_file.hpp"
#include "agent/ledger.hpp"
#include "agent/record_store.hpp"
#include "mount/crash_point.hpp"
#include "tests/support/temp.hpp"

using namespace ordinald::agent;
using ordinald::testing::TempDir;

namespace {

VolumeRecord example(const std::string& id = "data-db-0-0a1b2c3d") {
  VolumeRecord record;
  record.id = id;
  record.name = "name of " + id;
  record.pool = "default";
  record.size = 1 << 30;
  record.created_size = 1 << 30;
  record.block_size = 512;
  record.multi_node = true;
  record.fs_type = "xfs";
  record.fs_uuid = make_uuid();
  record.fs_grown_for = 1 << 30;
  record.mkfs_options = "-m reflink=0";
  record.content = Content::formatted;
  record.provisioned = true;
  record.access_types = {"block", "mount"};
  record.parameters = {{"pool", "default"}, {"fsType", "xfs"}};
  record.metadata = {{"csi.storage.k8s.io/pvc/name", "data-db-0"}};
  record.created = "2026-01-31T21:03:04Z";
  return record;
}

}  // namespace

TEST_CASE("a record reads back as it was written") {
  for (const Content content : {Content::blank, Content::formatting, Content::formatted, Content::raw}) {
    VolumeRecord record = example();
    record.content = content;
    record.deleting = content == Content::raw;
    const auto read = parse_record(to_json(record));
    REQUIRE(read);
    CHECK(read.value() == record);
  }
}

TEST_CASE("a record that is nested without end is refused, not followed") {
  std::string text = to_json(example());
  const std::string nest = std::string(100'000, '[') + std::string(100'000, ']');
  text.insert(text.find('{') + 1, "\"deep\": " + nest + ",");
  const auto refused = parse_record(text);
  REQUIRE_FALSE(refused);
  CHECK_FALSE(refused.error().message.empty());
}

TEST_CASE("a record cut short at any byte is refused") {
  const std::string text = to_json(example());
  for (std::size_t length = 0; length + 2 < text.size(); ++length) {
    CHECK_FALSE(parse_record(text.substr(0, length)));
  }
}

TEST_CASE("a record with a flipped bit is refused, or says the same") {
  const VolumeRecord record = example();
  const std::string text = to_json(record);
  std::size_t refused = 0;
  for (std::size_t at = 0; at < text.size(); ++at) {
    for (unsigned bit = 0; bit < 8; ++bit) {
      std::string flipped = text;
      flipped[at] = static_cast<char>(static_cast<unsigned char>(flipped[at]) ^ (1U << bit));
      const auto read = parse_record(flipped);
      if (read ? read.value() != record : read.error().message.empty()) {
        FAIL("bit " << bit << " of byte " << at << " changes it unnoticed: " << flipped);
      }
      refused += read ? 0 : 1;
    }
  }
  CHECK(refused > 7 * text.size());
}

TEST_CASE("a record that a person changed is read once its checksum is taken out") {
  const VolumeRecord record = example();
  std::string text = to_json(record);
  const auto size = text.find("\"size\": 1073741824");
  text[size + 8] = '2';
  const auto refused = parse_record(text);
  REQUIRE_FALSE(refused);
  CHECK_THAT(refused.error().message, Catch::Contains("checksum"));
  const auto line = text.find("  \"checksum\"");
  text.erase(line, text.find('\n', line) + 1 - line);
  const auto read = parse_record(text);
  REQUIRE(read);
  CHECK(read.value().size == 2073741824);
}

TEST_CASE("a volume that is removed leaves no record that was set aside, also after a power loss") {
#ifdef ORDINALD_CRASH_POINTS
  const TempDir temp{"removed"};
  const auto store = RecordStore::open(temp.path());
  REQUIRE(store);
  REQUIRE(store.value()->save(example()));
  std::string acts;
  ordinald::mount::set_act_hook([&](std::string_view act, std::string_view object) {
    acts.append(act).append(object.ends_with(".damaged") ? " the damaged one; " : "; ");
  });
  REQUIRE(store.value()->remove(example().id));
  ordinald::mount::set_act_hook({});
  CHECK(acts == "removing the damaged one; removing; fsync of the directory; ");
#else
  std::printf("SKIPPED: this build has no crash points\n");
#endif
}

TEST_CASE("a state of the ledger that is cut short is refused, and a flipped bit never ends the agent") {
  VolumeState state;
  state.device = ordinald::mount::Device{.path = "/dev/loop7", .number = 1799, .diskseq = 77, .backing_inode = 12, .size = 1 << 26};
  state.fs_type = "ext4";
  state.fs_uuid = make_uuid();
  state.stages.emplace_back().path = "/stage";
  Publication& publication = state.publications.emplace_back();
  publication.target = "/pods/a";
  publication.holder.pod_name = "db-0";
  const std::string text = to_json(state, "boot", "key");
  for (std::size_t length = 0; length < text.size(); ++length) {
    CHECK_FALSE(parse_state(text.substr(0, length), "boot"));
  }
  CHECK(parse_state(text + "   ", "boot"));  // what a longer one leaves behind, where it was overwritten in place
  CHECK_FALSE(parse_state(text + "  x", "boot"));
  for (std::size_t at = 0; at < text.size(); ++at) {
    for (unsigned bit = 0; bit < 8; ++bit) {
      std::string flipped = text;
      flipped[at] = static_cast<char>(static_cast<unsigned char>(flipped[at]) ^ (1U << bit));
      const auto read = parse_state(flipped, "boot");
      if (!read && read.error().message.empty()) {
        FAIL("refused without a word: " << flipped);
      }
    }
  }
}

TEST_CASE("a record with an impossible member is refused, and the refusal says which") {
  const auto with = [](const std::string& from, const std::string& to) {
    std::string text = to_json(example());
    const auto at = text.find(from);
    REQUIRE(at != std::string::npos);
    text.replace(at, from.size(), to);
    const auto read = parse_record(text);
    REQUIRE_FALSE(read);
    return read.error().message;
  };
  CHECK_THAT(with("\"schema\": 1", "\"schema\": 2"), Catch::Contains("schema is 2") && Catch::Contains("knows 1"));
  CHECK_THAT(with("\"blockSize\": 512", "\"blockSize\": 1024"), Catch::Contains("blockSize is 1024"));
  CHECK_THAT(with("\"size\": 1073741824", "\"size\": 0"), Catch::Contains("size is 0"));
  CHECK_THAT(with("\"size\": 1073741824", "\"size\": -1"), Catch::Contains("size"));
  CHECK_THAT(with("\"size\": 1073741824", "\"size\": 1.5"), Catch::Contains("size"));
  CHECK_THAT(with("\"content\": \"formatted\"", "\"content\": \"lost\""), Catch::Contains("lost"));
  CHECK_THAT(with("\"deleting\": false", "\"deleting\": 7"), Catch::Contains("boolean"));
  CHECK_THAT(with("\"provisioned\"", "\"provided\""), Catch::Contains("provisioned"));
  CHECK_THAT(with("\"id\": \"data", "\"id\": \"../data"), Catch::Contains("id"));
}

TEST_CASE("volume ids are safe file names and never the same twice") {
  CHECK(is_volume_id("data-db-0"));
  for (const std::string bad : {"", ".", "..", "a/b", ".hidden", "a b", "é", "a\n"}) {
    CHECK_FALSE(is_volume_id(bad));
  }
  CHECK_FALSE(is_volume_id(std::string(129, 'a')));
  const std::vector<std::string> names{"data-db-0", "set[0]", "../../etc/passwd", "über", "...", std::string(128, 'x')};
  for (const std::string& name : names) {
    const std::string id = make_volume_id(name);
    CHECK(is_volume_id(id));
    CHECK(id != make_volume_id(name));
    CHECK(is_made_id(id));
  }
  for (const std::string other : {"data-db-0", "-1a2b3c4d", "a-1a2b3c4", "a-1A2B3C4D", "a-1a2b3c4g", "a_1a2b3c4d", ".a-1a2b3c4d"}) {
    CHECK_FALSE(is_made_id(other));
  }
  CHECK(make_volume_id("data-db-0").starts_with("data-db-0-"));
  CHECK(make_volume_id("set[0]").starts_with("set_0_-"));
  CHECK(make_uuid() != make_uuid());
  CHECK(make_uuid().size() == 36);
}

TEST_CASE("the store keeps what it saved, and sets aside what it can't read") {
  const TempDir temp{"records"};
  const std::string volumes = temp.path() / "volumes";
  {
    auto store = RecordStore::open(temp.path());
    REQUIRE(store);
    REQUIRE(store.value()->save(example("a")));
    REQUIRE(store.value()->save(example("b")));
    REQUIRE(store.value()->save(example("c")));
    REQUIRE(store.value()->remove("c"));
    CHECK_FALSE(store.value()->find("c"));
    CHECK_FALSE(store.value()->find_by_name("name of c"));
    CHECK((std::filesystem::status(volumes).permissions() & std::filesystem::perms::others_all) == std::filesystem::perms::none);
  }
  // A crash in the middle of a write leaves its temporary file; a bad disk leaves garbage; a hand leaves a copy.
  ordinald::testing::write_file(volumes + "/b.json.tmp", "{");
  ordinald::testing::write_file(volumes + "/d.json", "{\"schema\": 1");
  ordinald::testing::write_file(volumes + "/e.json", to_json(example("a")));
  VolumeRecord twin = example("f");
  twin.name = "name of a";
  ordinald::testing::write_file(volumes + "/f.json", to_json(twin));

  const auto store = RecordStore::open(temp.path());
  REQUIRE(store);
  CHECK(*store.value()->find("a") == *store.value()->find_by_name("name of a"));
  CHECK(store.value()->find("b"));
  CHECK_FALSE(std::filesystem::exists(volumes + "/b.json.tmp"));
  CHECK(store.value()->all().size() == 2);
  const auto damaged = store.value()->damaged();
  REQUIRE(damaged.size() == 3);
  CHECK_THAT(damaged.at("d").why, Catch::Contains("not JSON"));
  CHECK(damaged.at("d").file == volumes + "/d.json.damaged");
  CHECK_THAT(damaged.at("e").why, Catch::Contains("record of volume a"));
  CHECK_THAT(damaged.at("f").why, Catch::Contains("also volume a's"));

  SECTION("a person who mends the file has the volume back") {
    ordinald::testing::write_file(volumes + "/d.json", to_json(example("d")));
    const auto mended = RecordStore::open(temp.path());
    REQUIRE(mended);
    CHECK(mended.value()->find("d"));
    CHECK_FALSE(mended.value()->find_damaged("d"));
  }
  SECTION("what was set aside stays reported") {
    const auto again = RecordStore::open(temp.path());
    REQUIRE(again);
    CHECK(again.value()->damaged().size() == 3);
  }
}

TEST_CASE("a file is written whole or not at all") {
  const TempDir temp{"files"};
  const std::string directory = temp.path();
  REQUIRE(write_file(directory, "f", "old", Durability::power_loss));
  REQUIRE(write_file(directory, "f", "new", Durability::until_reboot));
  CHECK(read_file(directory + "/f").value() == "new");
  CHECK((std::filesystem::status(directory + "/f").permissions()) ==
        (std::filesystem::perms::owner_read | std::filesystem::perms::owner_write));
  CHECK(read_file(directory + "/none").error().code == ErrorCode::not_found);
  const auto lost = write_file(directory + "/none", "f", "x", Durability::power_loss);
  REQUIRE_FALSE(lost);
  CHECK_THAT(lost.error().message, Catch::Contains(directory + "/none/f") && Catch::Contains("ENOENT"));
  REQUIRE(remove_file(directory, "f", Durability::power_loss));
  REQUIRE(remove_file(directory, "f", Durability::power_loss));
}
