// No room: in the state directory, in the run directory, in a pool, of inodes, of descriptors. Each is told as RESOURCE_EXHAUSTED with
// words that help, leaves nothing behind, and ends with its cause. Then a thousand volumes at once.
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <mutex>
#include <thread>

#include "tests/faults/faulty_tool.hpp"
#include "tests/faults/measure.hpp"
#include "tests/faults/sick_directory.hpp"
#include "tests/support/rig.hpp"

namespace ordinald::testing {
namespace {

const auto ext4 = mount_capability(single_node_single_writer, "ext4");
const auto many = mount_capability(single_node_multi_writer, "ext4");
const auto block = block_capability(single_node_single_writer);

/// A small file system that can be filled to its last byte, or its last inode.
class SmallDirectory {
 public:
  SmallDirectory(fs::path path, const std::string& options) : path_(std::move(path)) {
    fs::create_directories(path_);
    if (::mount("small", path_.c_str(), "tmpfs", 0, options.c_str()) != 0) throw std::runtime_error("can't mount " + path_.string());
  }
  void fill_bytes() {
    const int fd = ::open((path_ / "filler").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    const std::string page(4096, 'x');
    while (::write(fd, page.data(), page.size()) > 0) {
    }
    ::close(fd);
  }
  void fill_inodes() {
    fs::create_directory(path_ / "fillers");
    for (int i = 0; fd_free(path_ / "fillers" / std::to_string(i)); ++i) {
    }
  }
  void empty() {
    fs::remove(path_ / "filler");
    fs::remove_all(path_ / "fillers");
  }

 private:
  static bool fd_free(const fs::path& path) {
    const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0) ::close(fd);
    return fd >= 0;
  }
  fs::path path_;
};

void check_full(const Outcome& outcome, const std::string& word) {
  CHECK(outcome == RESOURCE_EXHAUSTED);
  CHECK_THAT(outcome.message, Catch::Contains(word));
}

Outcome expand(Rig& rig, const std::string& id, std::int64_t size) {
  v1::ControllerExpandVolumeRequest request;
  request.set_volume_id(id);
  request.mutable_capacity_range()->set_required_bytes(size);
  *request.mutable_volume_capability() = ext4;
  return outcome(rig.call(request));
}

}  // namespace

TEST_CASE("space: a full state directory refuses what it can't remember, and lets go of the rest", "[space][root]") {
  for (const bool inodes : {false, true}) {
    INFO((inodes ? "no inodes" : "no bytes"));
    Rig rig(Settings{}, false);
    SmallDirectory state(rig.root() / "state", "size=256k,nr_inodes=200");
    const auto fill = [&] { inodes ? state.fill_inodes() : state.fill_bytes(); };
    rig.agent().start();
    const std::string blank = rig.create("blank", ext4, 16 * mebi);
    const std::string raw = rig.create("raw", block, 16 * mebi);
    const LiveVolume live = bring_up(rig, "live", ext4);
    fill();
    check_full(outcome(rig.call(rig.create_request("more", ext4, 16 * mebi))), "No space left on device");
    count_fault("space");
    check_full(rig.stage(blank, ext4, rig.staging("blank")), blank);
    count_fault("space");
    check_full(rig.stage(raw, block, rig.staging("raw")), raw);
    count_fault("space");
    check_full(expand(rig, blank, 32 * mebi), blank);
    count_fault("space");
    CHECK(loops_beneath(rig.pool()).size() == 1);
    // What needs no memory goes on; and a delete makes room, so it must not need any.
    CHECK(rig.publish(live.id, ext4, live.staging, live.target) == OK);
    CHECK(rig.unpublish(live.id, live.target) == OK);
    CHECK(rig.unstage(live.id, live.staging) == OK);
    CHECK(rig.remove(live.id) == OK);
    count_fault("space");
    CHECK(loops_beneath(rig.pool()).empty());
    // A restart in this state serves, too.
    fill();
    rig.crash();
    CHECK(rig.node_health(blank) == "");
    state.empty();
    CHECK(rig.stage(blank, ext4, rig.staging("blank")) == OK);
    CHECK(rig.unstage(blank, rig.staging("blank")) == OK);
    CHECK(rig.stage(raw, block, rig.staging("raw")) == OK);
    CHECK(rig.unstage(raw, rig.staging("raw")) == OK);
    CHECK(expand(rig, blank, 32 * mebi) == OK);
    const std::string more = rig.create("more", ext4, 16 * mebi);
    for (const std::string& id : {blank, raw, more}) CHECK(rig.remove(id) == OK);
    CHECK(fs::is_empty(rig.pool()));
    rig.agent().stop();
  }
}

TEST_CASE("space: a state directory that fills up while mkfs runs", "[space][root]") {
  Rig rig(Settings{}, false);
  SmallDirectory state(rig.root() / "state", "size=256k");
  rig.agent().start();
  const std::string id = rig.create("v", ext4, 16 * mebi);
  Outcome told;
  {
    ToolGate gate("/usr/sbin/mkfs.ext4");
    std::thread call([&] { told = rig.stage(id, ext4, rig.staging("v")); });
    gate.wait_for_one();
    state.fill_bytes();
    gate.let_one_through();
    call.join();
  }
  count_fault("space");
  check_full(told, id);
  CHECK(mounts_beneath(rig.staging("v")).empty());
  CHECK(loops_beneath(rig.pool()).empty());
  rig.crash();
  state.empty();
  CHECK(rig.stage(id, ext4, rig.staging("v")) == OK);
  CHECK(try_write(rig.staging("v") / "file") == 0);
  CHECK(rig.unstage(id, rig.staging("v")) == OK);
  rig.agent().stop();
}

TEST_CASE("space: a full run directory refuses what is new, and lets go of what is held", "[space][root]") {
  for (const bool inodes : {false, true}) {
    INFO((inodes ? "no inodes" : "no bytes"));
    Rig rig(Settings{}, false);
    SmallDirectory run(rig.root() / "run", "size=512k,nr_inodes=200");
    rig.agent().start();
    const std::string idle = rig.create("idle", ext4, 16 * mebi);
    const std::string id = rig.create("v", many, 16 * mebi);
    std::vector<std::string> others;
    for (int i = 0; i < 16; ++i) {
      const std::string name = "after" + std::to_string(i);
      others.push_back(rig.create(name, ext4, 16 * mebi));
      rig.staging(name);
    }
    REQUIRE(rig.stage(id, many, rig.staging("v")) == OK);
    REQUIRE(rig.publish(id, many, rig.staging("v"), rig.target("a")) == OK);
    REQUIRE(rig.publish(id, many, rig.staging("v"), rig.target("b")) == OK);
    inodes ? run.fill_inodes() : run.fill_bytes();
    const Outcome staged = rig.stage(idle, ext4, rig.staging("idle"));
    count_fault("space");
    check_full(staged, idle);
    const Outcome published = rig.publish(id, many, rig.staging("v"), rig.target("c"));
    count_fault("space");
    check_full(published, id);
    CHECK_FALSE(fs::exists(rig.target("c")));
    CHECK(loops_beneath(rig.pool()).size() == 1);
    count_fault("space");
    CHECK(rig.unpublish(id, rig.target("a")) == OK);
    CHECK(rig.unpublish(id, rig.target("b")) == OK);
    CHECK(rig.unstage(id, rig.staging("v")) == OK);
    CHECK(loops_beneath(rig.pool()).empty());
    // Many at once, so that workers are made that can't note what they work on.
    inodes ? run.fill_inodes() : run.fill_bytes();
    std::vector<std::thread> calls;
    for (int i = 0; i < 16; ++i)
      calls.emplace_back(
          [&, i] { rig.stage(others[static_cast<std::size_t>(i)], ext4, rig.root() / "stage" / ("after" + std::to_string(i))); });
    for (std::thread& call : calls) call.join();
    count_fault("space");
    run.empty();
    std::atomic<int> failures{0};
    calls.clear();
    for (int i = 0; i < 16; ++i)
      calls.emplace_back([&, i] {
        const std::string& other = others[static_cast<std::size_t>(i)];
        const fs::path staging = rig.root() / "stage" / ("after" + std::to_string(i));
        if (!(rig.stage(other, ext4, staging) == OK) || !(rig.unstage(other, staging) == OK) || !(rig.remove(other) == OK)) ++failures;
      });
    for (std::thread& call : calls) call.join();
    CHECK(failures == 0);
    CHECK(rig.stage(idle, ext4, rig.staging("idle")) == OK);
    CHECK(rig.unstage(idle, rig.staging("idle")) == OK);
    CHECK(leaks_beneath(rig.pool()) == "");
    rig.agent().stop();
  }
}

namespace {

/// An ext4 as after a power loss: its forty files are in its journal alone.
class UncleanVolume {
 public:
  explicit UncleanVolume(Rig& rig) : rig_(rig), id_(rig.create("v", ext4, 64 * mebi)), whole_(rig.root() / "unclean") {
    REQUIRE(rig.stage(id_, ext4, staging()) == OK);
    for (int i = 0; i < files; ++i) REQUIRE(try_write(staging() / std::to_string(i), std::string(5000, 'x')) == 0);
    REQUIRE(run_tool({"cp", "--sparse=always", image(), whole_}) == 0);
    REQUIRE(rig.unstage(id_, staging()) == OK);
    restore();
  }
  void restore() {
    fs::resize_file(image(), 0);
    REQUIRE(run_tool({"dd", "if=" + whole_.string(), "of=" + image().string(), "bs=1M", "conv=notrunc,sparse"}) == 0);
    fs::resize_file(image(), fs::file_size(whole_));
  }
  /// It is staged, and all of it is there.
  void check_whole() {
    REQUIRE(rig_.stage(id_, ext4, staging()) == OK);
    for (int i = 0; i < files; ++i) CHECK(read_file(staging() / std::to_string(i)) == std::string(5000, 'x'));
    CHECK(fs::is_empty(rig_.root() / "state/undo"));
    REQUIRE(rig_.unstage(id_, staging()) == OK);
    CHECK(run_tool({"e2fsck", "-f", "-n", image()}) == 0);
  }
  const std::string& id() const { return id_; }
  fs::path staging() const { return rig_.staging("v"); }

 private:
  static constexpr int files = 40;
  fs::path image() const { return rig_.image_of(id_); }
  Rig& rig_;
  const std::string id_;
  const fs::path whole_;
};

}  // namespace

TEST_CASE("space: with a full state directory an ext4 is checked all the same, and grows when there is room", "[space][root]") {
  Rig rig(Settings{}, false);
  SmallDirectory state(rig.root() / "state", "size=64m");
  rig.agent().start();
  UncleanVolume volume(rig);
  state.fill_bytes();
  volume.check_whole();
  count_fault("space");
  state.empty();
  REQUIRE(expand(rig, volume.id(), 512 * mebi) == OK);
  state.fill_bytes();
  const Outcome staged = rig.stage(volume.id(), ext4, volume.staging());
  count_fault("space");
  REQUIRE(staged == OK);
  if (fs::space(volume.staging()).capacity < static_cast<std::uintmax_t>(400 * mebi)) {  // else it was grown while it was mounted
    CHECK(rig.node_health(volume.id()) == "GrowthPending");
    CHECK_THAT(rig.agent().log(), Catch::Contains("make room there"));
  }
  REQUIRE(rig.unstage(volume.id(), volume.staging()) == OK);
  state.empty();
  volume.check_whole();
  REQUIRE(rig.stage(volume.id(), ext4, volume.staging()) == OK);
  CHECK(fs::space(volume.staging()).capacity > static_cast<std::uintmax_t>(400 * mebi));
  REQUIRE(rig.unstage(volume.id(), volume.staging()) == OK);
  rig.agent().stop();
}

TEST_CASE("space: a state directory that fills up while e2fsck runs costs the filesystem nothing", "[space][root]") {
  Rig rig(Settings{}, false);
  SmallDirectory state(rig.root() / "state", "size=64m");
  rig.agent().start();
  UncleanVolume volume(rig);
  for (int left = 0; left <= 64; left += 8) {
    INFO(left << " KiB left");
    volume.restore();
    const FaultyTool tool("/usr/sbin/e2fsck",
                          "if [[ $* = *scratch* ]]; then yes | dd of=/dev/scratch/filler bs=64k 2>/dev/null; truncate -s -" +
                              std::to_string(left) + "K /dev/scratch/filler; fi; real \"$@\"");
    Outcome staged;
    REQUIRE((staged = rig.stage(volume.id(), ext4, volume.staging())) == OK);
    REQUIRE(rig.unstage(volume.id(), volume.staging()) == OK);
    REQUIRE(fs::remove(rig.root() / "state/undo/filler"));
    volume.check_whole();
    count_fault("space");
  }
  rig.agent().stop();
}

TEST_CASE("space: an agent starts with a full run directory, and knows what was let go there", "[space][root]") {
  for (const bool inodes : {false, true}) {
    for (const bool damaged : {false, true}) {
      INFO((inodes ? "no inodes" : "no bytes") << (damaged ? ", a damaged entry" : ""));
      Rig rig(Settings{}, false);
      SmallDirectory run(rig.root() / "run", "size=512k,nr_inodes=200");
      rig.agent().start();
      const std::string id = rig.create("v", many, 16 * mebi);
      const LiveVolume other = bring_up(rig, "other", ext4);
      REQUIRE(rig.stage(id, many, rig.staging("v")) == OK);
      REQUIRE(rig.publish(id, many, rig.staging("v"), rig.target("a")) == OK);
      REQUIRE(rig.publish(id, many, rig.staging("v"), rig.target("b")) == OK);
      inodes ? run.fill_inodes() : run.fill_bytes();
      CHECK(rig.unpublish(id, rig.target("a")) == OK);
      rig.agent().kill();
      REQUIRE(::umount(other.target.c_str()) == 0);  // which the next one drops from the ledger
      if (damaged) {
        std::fstream{rig.root() / "run/ledger" / (id + ".json")} << "x";
      }
      rig.agent().start();
      count_fault("space");
      CHECK((rig.agent().log().find("can't be read") != std::string::npos) == damaged);
      // Where the new entry is no longer than the one that is there, it can be written over that.
      const Outcome full = rig.publish(other.id, ext4, other.staging, rig.target("new"));
      CHECK((full == RESOURCE_EXHAUSTED || full == OK));
      run.empty();
      CHECK(rig.publish(other.id, ext4, other.staging, rig.target("new")) == OK);
      CHECK(rig.publish(id, many, rig.staging("v"), rig.target("b")) == OK);
      CHECK(rig.unpublish(id, rig.target("b")) == OK);
      CHECK(rig.unstage(id, rig.staging("v")) == OK);
      CHECK(rig.unpublish(other.id, rig.target("new")) == OK);
      CHECK(rig.unstage(other.id, other.staging) == OK);
      CHECK(leaks_beneath(rig.pool()) == "");
      rig.agent().stop();
    }
  }
}

TEST_CASE("space: a pool that fills up in the middle of a thick create, or has no inode", "[space][root]") {
  Rig rig(Settings{{"pools", {{{"name", "default"}, {"default", true}}}}}, false);
  rig.agent().configuration()["pools"] = {
      {{"name", "default"}, {"directory", rig.pool().string()}, {"default", true}, {"provisioning", "thick"}, {"reservePercent", 0}}};
  {
    SickDirectory disk(rig.pool());
    rig.agent().start();
    disk.control().allocate_limit = 20 * mebi;
    count_fault("space");
    const auto told = outcome(rig.call(rig.create_request("v", ext4, 64 * mebi)));
    check_full(told, "allocating 67108864 bytes");
    CHECK(fs::is_empty(disk.below()));
    disk.heal();
    const std::string id = rig.create("v", ext4, 64 * mebi);
    disk.control().allocate_limit = 70 * mebi;
    count_fault("space");
    check_full(expand(rig, id, 128 * mebi), id);
    disk.heal();
    struct stat status{};
    CHECK(::stat((disk.below() / (id + ".img")).c_str(), &status) == 0);
    CHECK(status.st_size == 64 * mebi);
    CHECK(status.st_blocks * 512 <= 65 * mebi);
    CHECK(rig.stage(id, ext4, rig.staging("v")) == OK);
    CHECK(rig.unstage(id, rig.staging("v")) == OK);
    CHECK(rig.remove(id) == OK);
    CHECK(fs::is_empty(disk.below()));
    rig.agent().stop();
    ::umount2(rig.pool().c_str(), MNT_DETACH);
  }
  rig.agent().configuration()["pools"][0]["provisioning"] = "thin";
  SmallDirectory small(rig.pool(), "size=64m,nr_inodes=16");
  fs::remove(rig.root() / "state/pools.json");  // else it would not be the pool's directory any more
  rig.agent().start();
  small.fill_inodes();
  count_fault("space");
  check_full(outcome(rig.call(rig.create_request("w", ext4, 16 * mebi))), "has none of its 16 inodes left");
  const auto storage = rig.call(v1::NodeGetStorageHealthRequest());
  REQUIRE(storage->backend_health_size() == 1);
  CHECK(storage->backend_health(0).reason() == "InodesNearlyFull");
  small.empty();
  CHECK(rig.call(v1::NodeGetStorageHealthRequest())->backend_health_size() == 0);
  CHECK(rig.remove(rig.create("w", ext4, 16 * mebi)) == OK);
  CHECK(fs::is_empty(rig.pool()));
  rig.agent().stop();
}

TEST_CASE("space: a thin pool that is full under mkfs and under a workload", "[space][root]") {
  Rig rig(Settings{}, false);
  rig.agent().configuration()["pools"][0]["overcommit"] = 10;
  rig.agent().configuration()["pools"][0]["reservePercent"] = 0;
  SmallDirectory small(rig.pool(), "size=64m");
  rig.agent().start();
  const std::string fresh = rig.create("fresh", ext4, 128 * mebi);
  const LiveVolume live = bring_up(rig, "live", ext4, 128 * mebi);
  REQUIRE(try_write(live.target / "kept", "content") == 0);
  small.fill_bytes();
  count_fault("space");
  const Outcome told = rig.stage(fresh, ext4, rig.staging("fresh"));
  check_full(told, "full");
  CHECK(loops_beneath(rig.pool()).size() == 1);
  count_fault("space");
  CHECK(try_write(live.target / "late", std::string(16 * mebi, 'x')) != 0);  // the workload hears of it at its fsync
  const auto storage = rig.call(v1::NodeGetStorageHealthRequest());
  REQUIRE(storage->backend_health_size() == 1);
  CHECK(storage->backend_health(0).reason() == "NearlyFull");
  CHECK(rig.unpublish(live.id, live.target) == OK);
  const Outcome unstaged = rig.unstage(live.id, live.staging);
  CHECK((unstaged == OK || unstaged == INTERNAL || unstaged == RESOURCE_EXHAUSTED));
  CHECK(rig.unstage(live.id, live.staging) == OK);
  small.empty();
  CHECK(rig.stage(fresh, ext4, rig.staging("fresh")) == OK);
  CHECK(rig.unstage(fresh, rig.staging("fresh")) == OK);
  CHECK(rig.stage(live.id, ext4, live.staging) == OK);
  CHECK(read_file(live.staging / "kept") == "content");
  CHECK(try_write(live.staging / "late", std::string(8 * mebi, 'x')) == 0);
  CHECK(rig.node_health(live.id) == "");
  CHECK(rig.unstage(live.id, live.staging) == OK);
  CHECK(loops_beneath(rig.pool()).empty());
  rig.agent().stop();
}

TEST_CASE("space: no descriptor is left", "[space][root]") {
  Rig rig;
  const LiveVolume live = bring_up(rig, "live", ext4);
  const std::string idle = rig.create("idle", ext4, 16 * mebi);
  const pid_t pid = rig.agent().pid();
  rlimit usual{};
  REQUIRE(::prlimit(pid, RLIMIT_NOFILE, nullptr, &usual) == 0);
  const std::size_t open_before = open_descriptors(pid);
  std::vector<Outcome> refusals;
  for (std::size_t spare = 0; spare < 6; ++spare) {
    const rlimit few{.rlim_cur = open_before + spare, .rlim_max = usual.rlim_max};
    REQUIRE(::prlimit(pid, RLIMIT_NOFILE, &few, nullptr) == 0);
    count_fault("space");
    std::vector<std::thread> calls;
    std::vector<Outcome> outcomes(12);
    for (std::size_t i = 0; i < outcomes.size(); ++i)
      calls.emplace_back([&, i] {
        const std::string name = "new" + std::to_string(i);
        outcomes[i] = i % 3 == 0 ? outcome(rig.call(rig.create_request(name, ext4, 16 * mebi), std::chrono::seconds(20)))
                      : i % 3 == 1
                          ? outcome(rig.call(rig.stage_request(idle, ext4, rig.staging("idle")), std::chrono::seconds(20)))
                          : outcome(rig.call(rig.publish_request(live.id, ext4, live.staging, live.target), std::chrono::seconds(20)));
      });
    for (std::thread& call : calls) call.join();
    for (const Outcome& told : outcomes) {
      if (told == OK) continue;
      refusals.push_back(told);
      CHECK(told == RESOURCE_EXHAUSTED);
      CHECK_THAT(told.message, Catch::Contains("EMFILE"));
    }
  }
  CHECK_FALSE(refusals.empty());
  if (!rig.agent().running()) {
    const std::string log = rig.agent().log();
    FAIL("the agent has ended; the end of its log: " << log.substr(log.size() - std::min<std::size_t>(log.size(), 4000)));
  }
  REQUIRE(::prlimit(pid, RLIMIT_NOFILE, &usual, nullptr) == 0);
  CHECK(rig.stage(idle, ext4, rig.staging("idle")) == OK);
  CHECK(rig.unstage(idle, rig.staging("idle")) == OK);
  CHECK(rig.node_health(live.id) == "");
  CHECK(rig.unpublish(live.id, live.target) == OK);
  CHECK(rig.unstage(live.id, live.staging) == OK);
  CHECK(loops_beneath(rig.pool()).empty());
  CHECK(open_descriptors(pid) <= open_before + 8);
}

TEST_CASE("space: the state directory has no room at the n-th write of a life, for each n", "[space][root]") {
  bool failed = true;
  for (std::uint64_t passing = 0; failed; ++passing) {
    INFO(passing << " writes, fsyncs and reservations pass");
    Rig rig(Settings{}, false);
    fs::create_directories(rig.root() / "state");
    SickDirectory state(rig.root() / "state");
    rig.agent().start();
    std::string id;
    // Everything that a volume's life asks; the codes of what is not OK.
    const auto live = [&] {
      std::string codes;
      const auto note = [&](const Outcome& outcome) { codes += outcome == OK ? "" : " " + outcome.message; };
      const auto made = rig.call(rig.create_request("v", ext4, 16 * mebi));
      note(outcome(made));
      if (!made.ok()) return codes;
      id = made->volume().volume_id();
      for (int round = 0; round < 2; ++round) {
        note(expand(rig, id, 32 * mebi));
        const Outcome staged = rig.stage(id, ext4, rig.staging("v"));
        note(staged);
        if (staged == OK) note(rig.publish(id, ext4, rig.staging("v"), rig.target("v")));
        note(rig.unpublish(id, rig.target("v")));
        note(rig.unstage(id, rig.staging("v")));
      }
      note(rig.remove(id));
      return codes;
    };
    const auto all = static_cast<std::uint32_t>(sick_write) | sick_sync | sick_allocate;
    state.fail_after(all, passing);
    state.control().error = ENOSPC;
    const std::string refused = live();
    INFO(refused);
    failed = state.control().refused > 0;
    CHECK((refused.empty() || refused.find("No space left on device") != std::string::npos));
    if (passing % 2 == 0) {
      state.heal();
      rig.crash();
    } else {  // the next one starts in that state, too
      rig.agent().kill();
      state.control().passing = 0;
      rig.agent().start();
      state.heal();
    }
    count_fault("space");
    CHECK(live() == "");
    for (const fs::path& each : {rig.pool(), rig.root() / "stage", rig.root() / "pods"}) CHECK(leaks_beneath(each) == "");
    CHECK(fs::is_empty(rig.pool()));
    CHECK(fs::is_empty(rig.root() / "state/volumes"));
    rig.agent().stop();
  }
}

TEST_CASE("space: a thousand volumes at once", "[space][root]") {
  constexpr int number = 1000;
  constexpr int clients = 16;
  Rig rig;
  std::vector<std::string> ids(number);
  std::atomic<int> failures{0};
  const auto capability = [](int i) { return i % 10 == 0 ? ext4 : block; };
  const auto name = [](int i) { return "v" + std::to_string(i); };
  const auto for_each = [&](const auto& work) {
    return timed_ms([&] {
      std::atomic<int> next{0};
      std::vector<std::thread> threads;
      for (int t = 0; t < clients; ++t)
        threads.emplace_back([&] {
          CsiClient client(rig.agent().endpoint());
          for (int i = next++; i < number; i = next++)
            if (!work(client, i)) ++failures;
        });
      for (std::thread& thread : threads) thread.join();
    });
  };
  for (int i = 0; i < number; ++i) rig.staging(name(i)), rig.target(name(i));
  const double before = static_cast<double>(resident(process_tree(rig.agent().pid()))) / mebi;
  const double create = for_each([&](CsiClient& client, int i) {
    const auto made = client.call(rig.create_request(name(i), capability(i), 8 * mebi));
    if (made.ok()) ids[static_cast<std::size_t>(i)] = made->volume().volume_id();
    return made.ok();
  });
  const auto id = [&](int i) { return ids[static_cast<std::size_t>(i)]; };
  std::mutex mutex;
  std::string refused;  // the first of them
  const auto is_ok = [&](const auto& reply) {
    if (const std::scoped_lock lock{mutex}; !reply.ok() && refused.empty()) refused = outcome(reply).message;
    return reply.ok();
  };
  const auto up = [&](CsiClient& client, int i) {
    return is_ok(client.call(rig.stage_request(id(i), capability(i), rig.staging(name(i))))) &&
           is_ok(client.call(rig.publish_request(id(i), capability(i), rig.staging(name(i)), rig.target(name(i)))));
  };
  const double stage = for_each(up);
  INFO(refused);
  CHECK(failures == 0);
  CHECK(loops_beneath(rig.pool()).size() == number);
  const double after = static_cast<double>(resident(process_tree(rig.agent().pid()))) / mebi;
  const auto begin = std::chrono::steady_clock::now();
  rig.agent().kill();
  rig.agent().start();
  const double restart = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
  const double again = for_each(up);
  const double down = for_each([&](CsiClient& client, int i) {
    v1::NodeUnpublishVolumeRequest unpublish;
    unpublish.set_volume_id(id(i));
    unpublish.set_target_path(rig.target(name(i)));
    v1::NodeUnstageVolumeRequest unstage;
    unstage.set_volume_id(id(i));
    unstage.set_staging_target_path(rig.staging(name(i)));
    v1::DeleteVolumeRequest remove;
    remove.set_volume_id(id(i));
    return client.call(unpublish).ok() && client.call(unstage).ok() && client.call(remove).ok();
  });
  CHECK(failures == 0);
  CHECK(leaks_beneath(rig.root()) == "");
  CHECK(fs::is_empty(rig.pool()));
  count_fault("space");
  print_figure("1000 volumes: created in " + two_digits(create / 1000) + " s, staged and published in " + two_digits(stage / 1000) +
               " s, the agent killed and back in " + two_digits(restart) + " ms, the same calls again in " + two_digits(again / 1000) +
               " s, torn down and deleted in " + two_digits(down / 1000) + " s; the agent's processes have " + two_digits(after) +
               " MiB (" + two_digits(before) + " before)");
}

}  // namespace ordinald::testing
