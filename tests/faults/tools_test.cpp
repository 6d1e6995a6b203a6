// The filesystems' tools missing, failing, killed, talking, never ending, greedy; and stopped in the middle of their writes while the
// agent is killed. Nothing is mounted that a check did not let through, nothing that holds data is formatted, and the same call goes on
// once the tool works.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <random>
#include <thread>
#include <utility>

#include "tests/faults/corpus.hpp"
#include "tests/faults/faulty_tool.hpp"

namespace ordinald::testing {
namespace {

const auto ext4 = mount_capability(single_node_single_writer, "ext4");

v1::VolumeCapability as(const std::string& fs_type) { return mount_capability(single_node_single_writer, fs_type); }

void grow(Rig& rig, const std::string& id, std::int64_t size) {
  v1::ControllerExpandVolumeRequest request;
  request.set_volume_id(id);
  request.mutable_capacity_range()->set_required_bytes(size);
  REQUIRE(outcome(rig.call(request)) == OK);
}

/// A volume with a file in it, unstaged.
std::string used_volume(Rig& rig, const std::string& name, const std::string& fs_type = "ext4", std::int64_t size = 0) {
  const std::string id = rig.create(name, as(fs_type), size > 0 ? size : small_size(fs_type));
  REQUIRE(rig.stage(id, as(fs_type), rig.staging(name)) == OK);
  REQUIRE(try_write(rig.staging(name) / "file", "the data of " + name) == 0);
  REQUIRE(rig.unstage(id, rig.staging(name)) == OK);
  return id;
}

void check_data_and_unstage(Rig& rig, const std::string& id, const std::string& name) {
  CHECK(read_file(rig.staging(name) / "file") == "the data of " + name);
  CHECK(rig.unstage(id, rig.staging(name)) == OK);
}

/// What goes for every message: one line, no control character, of a size that every client takes.
void check_well_formed(const std::string& message) {
  INFO(message);
  CHECK(std::none_of(message.begin(), message.end(), [](char c) { return (c >= 0 && c < ' ') || c == 0x7f; }));
  CHECK(message.size() < 4200);
}

/// A tool, and a volume for which staging runs it.
struct Subject {
  std::string program{};
  std::string fs_type{};
  bool formats = false;
  bool grows = false;
};

const Subject subjects[] = {{"/usr/sbin/mke2fs", "ext4", true, false},
                            {"/usr/sbin/mkfs.xfs", "xfs", true, false},
                            {"/usr/sbin/mkfs.btrfs", "btrfs", true, false},
                            {"/usr/sbin/e2fsck", "ext4", false, false},
                            {"/usr/sbin/resize2fs", "ext4", false, true}};

struct Fault {
  std::string name{};
  std::string body{};
  std::string says{};
};

/// Seconds that nobody else sleeps.
const std::string unending = std::to_string(1'000'000'000 + ::getpid());

bool sleeps_on() {
  const std::vector<pid_t> sleeping = processes_of("/usr/bin/sleep");
  return std::any_of(sleeping.begin(), sleeping.end(), [](pid_t pid) {
    std::ifstream words("/proc/" + std::to_string(pid) + "/cmdline");
    return std::string(std::istreambuf_iterator<char>(words), {}).find(unending) != std::string::npos;
  });
}

/// $BAD is a status that means failure.
const Fault faults[] = {
    {"missing", "", "not installed"},
    {"failing", "echo 'it can not be done' >&2; exit $BAD", "it can not be done"},
    {"killed", "kill -9 $$", "signal 9"},
    {"printing megabytes", "head -c 20000000 /dev/zero | tr '\\0' x; echo the last words; exit $BAD", "the last words"},
    {"printing anything", "printf '\\033[31m\\377\\376\\001\\r words\\n\\ttwo'; exit $BAD", "words"},
    {"doing its work, then failing", "real \"$@\"; exit $BAD", "status"},
    {"greedy", "x=x; while :; do x+=$x; done", "cannot allocate"},
    {"never ending", "exec sleep " + unending, "deadline"},
};

}  // namespace

TEST_CASE("tools: fsck's status is a bit mask, of which 0 and 1 mount and all else refuses", "[tools][root]") {
  Rig rig;
  const std::string id = used_volume(rig, "v");
  const std::pair<int, std::string> statuses[] = {{0, ""},
                                                  {1, ""},
                                                  {2, "the system should be rebooted"},
                                                  {3, "errors corrected, the system should be rebooted"},
                                                  {4, "errors left uncorrected"},
                                                  {5, "errors corrected, errors left uncorrected"},
                                                  {8, "operational error"},
                                                  {12, "errors left uncorrected, operational error"},
                                                  {16, "usage error"},
                                                  {32, "cancelled"},
                                                  {128, "shared-library error"}};
  int answered = 0;
  for (const auto& [status, meaning] : statuses) {
    INFO("status " << status);
    const FaultyTool tool("/usr/sbin/e2fsck", "echo 'what e2fsck says'; exit " + std::to_string(status));
    const std::uint64_t before = digest_of(rig.image_of(id));
    const Outcome staged = rig.stage(id, ext4, rig.staging("v"));
    if (status <= 1) {
      REQUIRE(staged == OK);
      check_data_and_unstage(rig, id, "v");
      ++answered;
      continue;
    }
    CHECK(staged == FAILED_PRECONDITION);
    INFO(staged.message);
    CHECK_THAT(staged.message, Catch::Contains("status " + std::to_string(status) + " (" + meaning + ")"));
    CHECK_THAT(staged.message, Catch::Contains("what e2fsck says") && Catch::Contains("e2fsck -f " + rig.image_of(id).string()));
    CHECK(rig.node_health(id) == "StageRefused");
    CHECK(digest_of(rig.image_of(id)) == before);
    CHECK(leaks_beneath(rig.root()) == "");
    ++answered;
  }
  CHECK(rig.stage(id, ext4, rig.staging("v")) == OK);
  CHECK(rig.node_health(id) == "");
  check_data_and_unstage(rig, id, "v");
  std::printf("COUNT: statuses of fsck answered: %d\n", answered);
}

TEST_CASE("tools: missing, failing, killed, talking, greedy, never ending: an error that says so, and the repetition is OK",
          "[tools][root]") {
  Rig rig(Settings{{"toolTimeoutSeconds", 1}, {"toolMemoryMiB", 128}});
  int told = 0;
  for (const Subject& subject : subjects) {
    const std::string name = fs::path(subject.program).filename();
    const std::string id =
        subject.formats ? rig.create(name, as(subject.fs_type), small_size(subject.fs_type)) : used_volume(rig, name, subject.fs_type);
    const std::int64_t size = small_size(subject.fs_type);
    if (subject.grows) grow(rig, id, 2 * size);
    for (const Fault& fault : faults) {
      INFO(subject.program << " " << fault.name);
      const bool checks = !subject.formats && !subject.grows;
      const FaultyTool tool(subject.program, fault.body.empty() ? "" : (checks ? "BAD=8\n" : "BAD=1\n") + fault.body);
      const Outcome staged = rig.stage(id, as(subject.fs_type), rig.staging(name));
      ++told;
      if (subject.grows) {  // served all the same, and the next stage grows it
        REQUIRE(staged == OK);
        CHECK(fs::space(rig.staging(name)).capacity < static_cast<std::uintmax_t>(size));
        CHECK(rig.node_health(id) == "GrowthPending");
        CHECK_THAT(rig.agent().log(), Catch::Contains("it is served with the size that it had") && Catch::Contains(fault.says));
        CHECK(fs::is_empty(rig.root() / "state/undo"));
        check_data_and_unstage(rig, id, name);
        REQUIRE(run_tool({"e2fsck", "-f", "-n", rig.image_of(id)}) == 0);
        continue;
      }
      // A tool that isn't there, or failed at its work, is the node's trouble; what a check says is the volume's.
      CHECK(staged == (checks && !fault.body.empty() ? FAILED_PRECONDITION : INTERNAL));
      CHECK_THAT(staged.message, Catch::Contains(id) && Catch::Contains(fault.says));
      check_well_formed(staged.message);
      CHECK(mounts_beneath(rig.staging(name)).empty());
      CHECK(loops_beneath(rig.pool()).empty());
    }
    INFO(subject.program);
    REQUIRE(rig.stage(id, as(subject.fs_type), rig.staging(name)) == OK);
    if (subject.grows) CHECK(fs::space(rig.staging(name)).capacity > static_cast<std::uintmax_t>(size));
    CHECK(rig.node_health(id) == "");
    if (subject.formats) REQUIRE(try_write(rig.staging(name) / "file", "the data of " + name) == 0);
    check_data_and_unstage(rig, id, name);
  }
  CHECK_FALSE(sleeps_on());
  CHECK(leaks_beneath(rig.root()) == "");
  std::printf("COUNT: faults of tools told: %d\n", told);
}

TEST_CASE("tools: a check that takes longer than ten calls is run once", "[tools][root]") {
  Rig rig;
  const std::string id = used_volume(rig, "v");
  ToolGate gate("/usr/sbin/e2fsck");
  for (int i = 0; i < 11; ++i) {
    const auto staged = outcome(rig.call(rig.stage_request(id, ext4, rig.staging("v")), std::chrono::milliseconds(300)));
    CHECK((staged == ABORTED || staged.code == DEADLINE_EXCEEDED));
    if (i == 0) gate.wait_for_one();
  }
  gate.let_one_through();
  CHECK(rig.stage(id, ext4, rig.staging("v")) == OK);
  CHECK(gate.runs() == 1);
  check_data_and_unstage(rig, id, "v");
}

namespace {

/// Which of its writes a tool is stopped at: the first, the last four (e2fsprogs' tools end with the superblock, piece by piece), and some
/// between.
std::vector<int> points(int writes, std::size_t count, unsigned seed) {
  constexpr int last = 4;
  std::mt19937 generator(seed);
  std::vector<int> all{1};
  for (int i = std::max(2, writes - last + 1); i <= writes; ++i) all.push_back(i);
  std::vector<int> between;
  for (int i = 2; i <= writes - last; ++i) between.push_back(i);
  std::shuffle(between.begin(), between.end(), generator);
  for (const int i : between) {
    if (all.size() < count) all.push_back(i);
  }
  return all;
}

/// Stages while the tool stands in its n-th write; then the agent is killed and started again, and 0 is the answer. `at` 0: the tool is let
/// run, the stage goes well, and how many writes it made is the answer.
int stop_in_write(Rig& rig, const Subject& subject, const std::string& id, const fs::path& staging, int at) {
  StoppedTool tool(subject.program, at, SIGSTOP);
  Outcome staged;
  std::jthread call([&] { staged = rig.stage(id, as(subject.fs_type), staging); });
  const pid_t pid = tool.wait();
  if (pid == 0) {
    call.join();
    CHECK(staged == OK);
    return tool.writes();
  }
  rig.agent().kill();
  call.join();
  rig.agent().start();
  return 0;
}

constexpr std::size_t points_each = 10;

}  // namespace

TEST_CASE("tools: of xfs and btrfs the mount is the check, and the refusal gives the command for repair", "[tools][root]") {
  const auto [fs_type, begin, end, command] = GENERATE(std::make_tuple("xfs", std::int64_t{512}, std::int64_t{65536}, "xfs_repair -n "),
                                                       std::make_tuple("btrfs", mebi, 60 * mebi, "btrfs check --readonly "));
  Rig rig;
  const std::string id = used_volume(rig, "v", fs_type);
  const fs::path image = rig.image_of(id);
  poke(image, begin, std::string(static_cast<std::size_t>(end - begin), '\0'));
  for (int time = 0; time < 2; ++time) {
    const Outcome staged = rig.stage(id, as(fs_type), rig.staging("v"));
    CHECK(staged == FAILED_PRECONDITION);
    CHECK_THAT(staged.message, Catch::Contains(command + image.string()));
    check_well_formed(staged.message);
    CHECK(rig.node_health(id) == "StageRefused");
    CHECK(leaks_beneath(rig.root()) == "");
  }
}

TEST_CASE("tools: a mkfs stopped in the middle of its writes while the agent is killed: the filesystem is made again", "[tools][root]") {
  int stopped = 0;
  for (const Subject& subject : subjects) {
    if (!subject.formats) continue;
    Rig rig;
    const auto capability = as(subject.fs_type);
    const std::string counted = rig.create("counted", capability, small_size(subject.fs_type));
    const int writes = stop_in_write(rig, subject, counted, rig.staging("counted"), 0);
    INFO(subject.program << " makes " << writes << " writes");
    REQUIRE(writes > 0);
    CHECK(rig.unstage(counted, rig.staging("counted")) == OK);
    for (const int at : points(writes, points_each, Catch::rngSeed())) {
      const std::string name = "at-" + std::to_string(at);
      INFO("stopped in write " << at);
      const std::string id = rig.create(name, capability, small_size(subject.fs_type));
      REQUIRE(stop_in_write(rig, subject, id, rig.staging(name), at) == 0);
      REQUIRE(rig.stage(id, capability, rig.staging(name)) == OK);
      REQUIRE(try_write(rig.staging(name) / "file", "the data of " + name) == 0);
      REQUIRE(rig.unstage(id, rig.staging(name)) == OK);
      REQUIRE(rig.stage(id, capability, rig.staging(name)) == OK);
      check_data_and_unstage(rig, id, name);
      CHECK(rig.remove(id) == OK);
      ++stopped;
    }
    CHECK(leaks_beneath(rig.root()) == "");
  }
  std::printf("COUNT: points at which a mkfs was stopped: %d\n", stopped);
}

TEST_CASE("tools: a check stopped in the middle of its writes while the agent is killed: the next one mends the rest", "[tools][root]") {
  const Subject& subject = subjects[3];
  Rig rig;
  const std::string id = used_volume(rig, "v", "ext4", 192 * mebi);  // large enough for a backup superblock
  // A journal to be replayed, and counts that are wrong: as after a power loss.
  REQUIRE(rig.stage(id, ext4, rig.staging("v")) == OK);
  for (int i = 0; i < 40; ++i) REQUIRE(try_write(rig.staging("v") / ("file-" + std::to_string(i)), std::string(5000, 'x')) == 0);
  const fs::path dirty = rig.root() / "dirty";
  const fs::path image = rig.image_of(id);
  REQUIRE(run_tool({"cp", "--sparse=always", image, dirty}) == 0);
  REQUIRE(rig.unstage(id, rig.staging("v")) == OK);
  REQUIRE(run_tool({"debugfs", "-w", "-R", "set_super_value state 2", dirty}) == 0);
  const auto restore = [&] {
    fs::resize_file(image, 0);
    REQUIRE(run_tool({"dd", "if=" + dirty.string(), "of=" + image.string(), "bs=1M", "conv=notrunc,sparse"}) == 0);
    fs::resize_file(image, fs::file_size(dirty));
  };
  restore();
  const int writes = stop_in_write(rig, subject, id, rig.staging("v"), 0);
  INFO("e2fsck makes " << writes << " writes");
  REQUIRE(writes >= static_cast<int>(points_each));
  check_data_and_unstage(rig, id, "v");
  int stopped = 0;
  for (const int at : points(writes, points_each, Catch::rngSeed())) {
    INFO("stopped in write " << at);
    restore();
    if (stop_in_write(rig, subject, id, rig.staging("v"), at) != 0) {
      check_data_and_unstage(rig, id, "v");  // a write fewer than the time before, for the blocks lie elsewhere
      continue;
    }
    REQUIRE(rig.stage(id, ext4, rig.staging("v")) == OK);
    CHECK(fs::is_empty(rig.root() / "state/undo"));
    CHECK(read_file(rig.staging("v") / "file-39") == std::string(5000, 'x'));
    check_data_and_unstage(rig, id, "v");
    CHECK(run_tool({"e2fsck", "-f", "-n", image}) == 0);
    ++stopped;
  }
  std::printf("COUNT: points at which a check was stopped: %d\n", stopped);
}

TEST_CASE("tools: a growth stopped in the middle of its writes while the agent is killed: the next stage grows the rest", "[tools][root]") {
  const Subject& subject = subjects[4];
  Rig rig;
  const std::string id = used_volume(rig, "v", "ext4", 192 * mebi);
  const fs::path image = rig.image_of(id);
  const fs::path small = rig.root() / "small";
  const fs::path small_record = rig.root() / "small-record";
  grow(rig, id, 512 * mebi);
  REQUIRE(run_tool({"cp", "--sparse=always", image, small}) == 0);
  fs::copy_file(rig.record_of(id), small_record);
  const auto restore = [&] {
    rig.agent().stop();
    fs::resize_file(image, 0);
    REQUIRE(run_tool({"dd", "if=" + small.string(), "of=" + image.string(), "bs=1M", "conv=notrunc,sparse"}) == 0);
    fs::resize_file(image, fs::file_size(small));
    fs::copy_file(small_record, rig.record_of(id), fs::copy_options::overwrite_existing);
    rig.agent().start();
  };
  const int writes = stop_in_write(rig, subject, id, rig.staging("v"), 0);
  INFO("resize2fs makes " << writes << " writes");
  REQUIRE(writes >= static_cast<int>(points_each));
  CHECK(fs::space(rig.staging("v")).capacity > static_cast<std::uintmax_t>(400 * mebi));
  check_data_and_unstage(rig, id, "v");
  int stopped = 0;
  for (const int at : points(writes, points_each, Catch::rngSeed())) {
    INFO("stopped in write " << at << " of " << writes);
    restore();
    if (stop_in_write(rig, subject, id, rig.staging("v"), at) != 0) {
      check_data_and_unstage(rig, id, "v");  // a write fewer than the time before, for the blocks lie elsewhere
      continue;
    }
    REQUIRE(rig.stage(id, ext4, rig.staging("v")) == OK);
    CHECK(fs::is_empty(rig.root() / "state/undo"));
    CHECK(fs::space(rig.staging("v")).capacity > static_cast<std::uintmax_t>(400 * mebi));
    check_data_and_unstage(rig, id, "v");
    CHECK(run_tool({"e2fsck", "-f", "-n", image}) == 0);
    ++stopped;
  }
  std::printf("COUNT: points at which a growth was stopped: %d\n", stopped);
}

TEST_CASE("tools: a growth that died is taken back before the volume goes out as a raw block device, and never over what is written then",
          "[tools][root]") {
  Rig rig;
  const std::string id = used_volume(rig, "v", "ext4", 192 * mebi);
  const fs::path image = rig.image_of(id);
  const fs::path small = rig.root() / "small";
  grow(rig, id, 512 * mebi);
  REQUIRE(run_tool({"cp", "--sparse=always", image, small}) == 0);
  REQUIRE(stop_in_write(rig, subjects[4], id, rig.staging("v"), 40) == 0);
  REQUIRE(run_tool({"cmp", "-s", "-n", std::to_string(192 * mebi), image, small}) != 0);

  const auto block = block_capability(single_node_single_writer);
  REQUIRE(rig.stage(id, block, rig.staging("v")) == OK);
  CHECK(fs::is_empty(rig.root() / "state/undo"));
  // What the growth wrote over is back: all but the mark that the filesystem is to be checked.
  CHECK(run_tool({"cmp", "-s", "-i", std::to_string(4096), "-n", std::to_string(192 * mebi - 4096), image, small}) == 0);
  const fs::path target = rig.target("pod");
  REQUIRE(rig.publish(id, block, rig.staging("v"), target) == OK);
  const std::string news(65536, 'n');
  poke(target, 100 * mebi, news);
  REQUIRE(rig.unpublish(id, target) == OK);
  REQUIRE(rig.unstage(id, rig.staging("v")) == OK);
  REQUIRE(rig.stage(id, ext4, rig.staging("v")) == OK);
  CHECK(read_file(rig.staging("v") / "file") == "the data of v");
  CHECK(rig.unstage(id, rig.staging("v")) == OK);
  std::ifstream held(image, std::ios::binary);
  held.seekg(100 * mebi);
  std::string found(news.size(), '\0');
  held.read(found.data(), static_cast<std::streamsize>(found.size()));
  CHECK(found == news);
}

}  // namespace ordinald::testing
