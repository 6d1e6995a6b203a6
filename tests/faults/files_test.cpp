// The agent's own files damaged in every way: set aside, reported, nothing lost, the others served.
#include <signal.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <set>
#include <thread>

#include "tests/faults/corpus.hpp"

namespace ordinald::testing {
namespace {

const auto ext4 = mount_capability(single_node_single_writer, "ext4");

struct Damage {
  std::string name{};
  std::function<void(const fs::path& file)> make{};
  /// What it was made of is still there, and must stay.
  bool keeps_file = false;
};

Damage text(const std::string& name, const std::function<std::string(std::string)>& change) {
  return {name, [change](const fs::path& file) { write_file(file, change(read_file(file))); }};
}

void replace_in(std::string& whole, std::string_view from, std::string_view to) {
  const auto at = whole.find(from);
  if (at == std::string::npos) throw std::runtime_error("no \"" + std::string(from) + "\" in " + whole);
  whole.replace(at, from.size(), to);
}

/// Of a JSON file that has a schema and a number.
std::vector<Damage> damages() {
  std::vector<Damage> all = {
      text("empty", [](std::string) { return ""; }),
      text("zeros", [](std::string whole) { return std::string(whole.size(), '\0'); }),
      text("one byte", [](std::string whole) { return whole.substr(0, 1); }),
      text("cut in the middle", [](std::string whole) { return whole.substr(0, whole.size() / 2); }),
      text("its last brace missing", [](std::string whole) { return whole.substr(0, whole.rfind('}')); }),
      text("another file after it", [](std::string whole) { return whole + whole; }),
      text("not UTF-8", [](std::string whole) { return whole.insert(whole.find('"') + 1, "\xff\xfe"); }),
      text("an array", [](std::string) { return "[]"; }),
      text("nested without end", [](std::string) { return std::string(1'000'000, '['); }),
      text("17 MiB", [](std::string whole) { return whole + std::string(17 * mebi, ' '); }),
      {"a directory", [](const fs::path& file) { fs::remove(file), fs::create_directory(file); }},
      {"a directory with content", [](const fs::path& file) { fs::remove(file), fs::create_directories(file / "within"); }},
      {"a symlink to nothing", [](const fs::path& file) { fs::remove(file), fs::create_symlink("/nowhere/at/all", file); }},
      {"a symlink to itself", [](const fs::path& file) { fs::remove(file), fs::create_symlink(file, file); }},
      {"a fifo", [](const fs::path& file) { fs::remove(file), ::mkfifo(file.c_str(), 0600); }},
  };
  for (int i = 0; i < 12; ++i) {
    all.push_back(text("a flipped bit, " + std::to_string(i), [i](std::string whole) {
      // Inside of a value's or a key's text: what is between them may hold any blank.
      std::size_t at = whole.size() * static_cast<std::size_t>(i) / 12;
      while (std::isalnum(static_cast<unsigned char>(whole[at])) == 0) ++at;
      whole[at] = static_cast<char>(whole[at] ^ 1);
      return whole;
    }));
  }
  Damage newer = text("of a newer schema", [](std::string whole) {
    replace_in(whole, "\"schema\": 1", "\"schema\": 2");
    return whole;
  });
  newer.keeps_file = true;
  all.push_back(newer);
  return all;
}

/// The log once a line for each of the volumes says what has become of its record.
std::string wait_for_recovery(Rig& rig, const std::vector<std::pair<Damage, std::string>>& volumes) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  for (;;) {
    const std::string log = rig.agent().log();
    const bool all = std::all_of(volumes.begin(), volumes.end(), [&](const auto& volume) {
      return volume.first.keeps_file || log.find("repair record-recovered: volume " + volume.second) != std::string::npos;
    });
    if (all || std::chrono::steady_clock::now() > until) return log;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

bool contains(const std::string& whole, const std::string& part) { return whole.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("files: a record that is damaged is set aside or made anew, its volume keeps its data, the others are served", "[files][root]") {
  Rig rig;
  const LiveVolume good = bring_up(rig, "good", ext4);
  std::vector<std::pair<Damage, std::string>> volumes;
  for (const Damage& damage : damages()) {
    const std::string id = rig.create("v" + std::to_string(volumes.size()), ext4);
    REQUIRE(rig.stage(id, ext4, rig.staging(id)) == OK);
    REQUIRE(try_write(rig.staging(id) / "file", "the data of " + id) == 0);
    // Every third stays mounted.
    if (volumes.size() % 3 != 0) REQUIRE(rig.unstage(id, rig.staging(id)) == OK);
    volumes.emplace_back(damage, id);
  }
  rig.agent().kill();
  std::map<std::string, std::uint64_t> digests;
  for (const auto& [damage, id] : volumes) {
    damage.make(rig.root() / "state/volumes" / (id + ".json"));
    digests[id] = digest_of(rig.image_of(id));
  }
  rig.agent().start();

  CHECK(try_write(good.target / "file") == 0);
  CHECK(rig.stage(good.id, ext4, good.staging) == OK);
  CHECK(rig.create("new", ext4) != "");
  const std::string log = wait_for_recovery(rig, volumes);
  std::set<std::string> listed;
  const auto list = rig.call(v1::ListVolumesRequest());
  for (const auto& entry : list->entries()) listed.insert(entry.volume().volume_id());
  int served = 0;
  int refused = 0;
  for (std::size_t i = 0; i < volumes.size(); ++i) {
    const auto& [damage, id] = volumes[i];
    INFO("record " << damage.name << " of " << id);
    CHECK(contains(log, "volume " + id));
    CHECK(listed.contains(id));
    const bool mounted = i % 3 == 0;
    if (mounted) CHECK(read_file(rig.staging(id) / "file") == "the data of " + id);
    CHECK(rig.unstage(id, rig.staging(id)) == OK);
    const Outcome staged = rig.stage(id, ext4, rig.staging(id));
    if (staged == OK) {
      CHECK(read_file(rig.staging(id) / "file") == "the data of " + id);
      CHECK(rig.unstage(id, rig.staging(id)) == OK);
      CHECK_FALSE(damage.keeps_file);
      ++served;
    } else {
      INFO(staged.message);
      CHECK(staged == FAILED_PRECONDITION);
      CHECK(contains(staged.message, (rig.root() / "state").string()));
      CHECK_FALSE(rig.controller_health(id).empty());
      CHECK(rig.remove(id) == FAILED_PRECONDITION);
      if (!mounted) CHECK(digest_of(rig.image_of(id)) == digests[id]);
      ++refused;
    }
  }
  CHECK(rig.unpublish(good.id, good.target) == OK);
  CHECK(rig.unstage(good.id, good.staging) == OK);
  CHECK(leaks_beneath(rig.root()) == "");
  std::printf("COUNT: damaged records: %zu, of which %d served from what is left and %d refused, none lost\n", volumes.size(), served,
              refused);
}

TEST_CASE("files: a damaged file of the ledger is set aside, and what is mounted counts all the same", "[files][root]") {
  Rig rig;
  std::vector<std::pair<Damage, LiveVolume>> volumes;
  for (const Damage& damage : damages()) {
    if (damage.name == "of a newer schema") continue;
    volumes.emplace_back(damage, bring_up(rig, "v" + std::to_string(volumes.size()), ext4));
  }
  rig.agent().kill();
  for (const auto& [damage, volume] : volumes) damage.make(rig.root() / "run/ledger" / (volume.id + ".json"));
  rig.agent().start();
  for (const auto& [damage, volume] : volumes) {
    INFO("ledger file " << damage.name << " of " << volume.id);
    CHECK(try_write(volume.target / "file") == 0);
    CHECK_FALSE(rig.publish(volume.id, ext4, volume.staging, rig.target("second")) == OK);
    CHECK(rig.remove(volume.id) == FAILED_PRECONDITION);
    CHECK(rig.unpublish(volume.id, volume.target) == OK);
    CHECK(rig.unstage(volume.id, volume.staging) == OK);
    CHECK(rig.remove(volume.id) == OK);
  }
  CHECK(leaks_beneath(rig.root()) == "");
  std::printf("COUNT: damaged files of the ledger: %zu, no second writer\n", volumes.size());
}

TEST_CASE("files: a damaged key of the digests is replaced and reported", "[files][root]") {
  Rig rig;
  const auto with_flags = mount_capability(single_node_single_writer, "ext4", {"noatime"});
  const LiveVolume plain = bring_up(rig, "plain", ext4);
  const LiveVolume lasting = bring_up(rig, "lasting", with_flags);
  for (const std::string damage : {"removed", "cut", "a directory", "a symlink to nothing", "a fifo"}) {
    INFO(damage);
    rig.agent().kill();
    const fs::path key = rig.root() / "run/key";
    if (damage == "cut") {
      write_file(key, "short");
    } else {
      fs::remove_all(key);
      if (damage == "a directory") fs::create_directory(key);
      if (damage == "a symlink to nothing") fs::create_symlink("/nowhere/at/all", key);
      if (damage == "a fifo") REQUIRE(::mkfifo(key.c_str(), 0600) == 0);
    }
    rig.agent().start();
    CHECK(rig.stage(plain.id, ext4, plain.staging) == OK);
    // Its flags can't be compared with what they were: the same calls are repeated all the same.
    CHECK(rig.stage(lasting.id, with_flags, lasting.staging) == OK);
    CHECK(rig.publish(lasting.id, with_flags, lasting.staging, lasting.target) == OK);
    CHECK(rig.publish(lasting.id, with_flags, lasting.staging, rig.target("second")) == FAILED_PRECONDITION);
    CHECK(fs::is_regular_file(fs::symlink_status(key)));
    CHECK(fs::file_size(key) == 32);
    const LiveVolume flagged = bring_up(rig, "flagged", with_flags);
    CHECK(rig.stage(flagged.id, with_flags, flagged.staging) == OK);
    CHECK(rig.unpublish(flagged.id, flagged.target) == OK);
    CHECK(rig.unstage(flagged.id, flagged.staging) == OK);
  }
  CHECK(contains(rig.agent().log(), "run/key"));
}

TEST_CASE("files: a damaged configuration ends the start with a message that names what is wrong", "[files][root]") {
  const TempDir temp("config");
  AgentProcess agent(ORDINALD_PROGRAM, temp.path());
  agent.start();
  agent.stop();
  const std::string good = read_file(temp.path() / "agent.json");
  int refused = 0;
  for (const Damage& damage : damages()) {
    if (damage.name == "of a newer schema" || damage.name.starts_with("a flipped")) continue;
    INFO(damage.name);
    const fs::path file = temp.path() / "damaged.json";
    fs::remove_all(file);
    write_file(file, good);
    damage.make(file);
    const fs::path said = temp.path() / "said";
    const int status = run_tool(
        {"sh", "-c", std::string("exec timeout 30 ") + ORDINALD_PROGRAM + " --config " + file.string() + " >" + said.string() + " 2>&1"});
    INFO(read_file(said));
    CHECK(status == 2);
    CHECK(contains(read_file(said), file.string()));
    ++refused;
  }
  std::printf("COUNT: damaged configurations refused: %d\n", refused);
}

}  // namespace ordinald::testing
