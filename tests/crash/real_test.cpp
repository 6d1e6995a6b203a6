/// The same on the real kernel: the daemon's program, killed with SIGKILL behind each of its acts, whichever of its processes does them, on
/// real filesystems. Then it is started again, and the orchestrator repeats the call or takes it back. Needs root.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <set>

#include "mount/crash_point.hpp"
#include "tests/crash/counts.hpp"
#include "tests/support/rig.hpp"

namespace ordinald::testing {
namespace {

enum class Level : std::uint8_t { none, created, staged, published };

std::set<std::string> names_in(const fs::path& directory) {
  std::set<std::string> names;
  std::error_code none;  // one that was never needed is not there
  for (const fs::directory_entry& entry : fs::directory_iterator{directory, none}) {
    names.insert(entry.path().filename());
  }
  return names;
}

/// An agent that can be killed at an act, and one volume of its.
class RealWorld {
 public:
  explicit RealWorld(const std::string& fs_type)
      : fs_type_(fs_type), capability_(mount_capability(single_node_single_writer, fs_type)), size_(smallest(fs_type)) {
    const fs::path file = rig_.root() / "crash-page";
    write_file(file, std::string(sizeof(mount::CrashPage), '\0'));
    const int fd = ::open(file.c_str(), O_RDWR | O_CLOEXEC);
    void* memory = ::mmap(nullptr, sizeof(mount::CrashPage), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ::close(fd);
    REQUIRE(memory != MAP_FAILED);
    page_ = static_cast<mount::CrashPage*>(memory);
    environment_ = {{"ORDINALD_CRASH_PAGE", file}};
    staging_ = rig_.staging("v");
    target_ = rig_.target("pod");
    for (std::size_t i = 0; i < 65536; ++i) {
      data_ += static_cast<char>((i * i * 2654435761U) >> 13U);
    }
    start();
  }
  RealWorld(const RealWorld&) = delete;
  RealWorld& operator=(const RealWorld&) = delete;
  ~RealWorld() { ::munmap(page_, sizeof(mount::CrashPage)); }

  void start() { rig_.agent().start({}, environment_); }

  // --- the orchestrator ---
  Outcome create() {
    const auto made = rig_.call(rig_.create_request("data-db-0", capability_, smallest(fs_type_)));
    if (made.ok()) {
      id_ = made->volume().volume_id();
      size_ = smallest(fs_type_);
      written_ = false;
    }
    return outcome(made);
  }
  Outcome stage() { return rig_.stage(id_, capability_, staging_); }
  Outcome publish() { return rig_.publish(id_, capability_, staging_, target_); }
  Outcome unpublish() { return rig_.unpublish(id_, target_); }
  Outcome unstage() { return rig_.unstage(id_, staging_); }
  Outcome remove() {
    written_ = false;
    return rig_.remove(id_);
  }
  /// `wanted_` bytes, which stay the same for a call that is repeated.
  Outcome grow_volume() {
    v1::ControllerExpandVolumeRequest request;
    request.set_volume_id(id_);
    request.mutable_capacity_range()->set_required_bytes(wanted_);
    const auto grown = rig_.call(request);
    if (grown.ok()) {
      size_ = grown->capacity_bytes();
    }
    return outcome(grown);
  }
  Outcome grow() {
    const Outcome grown = grow_volume();
    if (grown.code != OK || fs_type_ == "ext4") {  // which grows unmounted where the capability is missing: "stage grown"
      return grown;
    }
    v1::NodeExpandVolumeRequest request;
    request.set_volume_id(id_);
    request.set_volume_path(target_);
    request.set_staging_target_path(staging_);
    request.mutable_capacity_range()->set_required_bytes(wanted_);
    return outcome(rig_.call(request));
  }
  void want_more() {
    wanted_ = size_ + (fs_type_ == "xfs" ? 64 : 16) * mebi;
    if (fs_type_ == "btrfs") {
      wanted_ = std::max(wanted_, 256 * mebi);  // to less the kernel grows none
    }
  }

  void bring(Level from, Level to) {
    for (; from < to; from = static_cast<Level>(static_cast<int>(from) + 1)) {
      REQUIRE((from == Level::none ? create() : from == Level::created ? stage() : publish()) == OK);
    }
    for (; from > to; from = static_cast<Level>(static_cast<int>(from) - 1)) {
      REQUIRE((from == Level::published ? unpublish() : from == Level::staged ? unstage() : remove()) == OK);
    }
  }
  /// The workload writes, and fsyncs.
  void write() {
    REQUIRE(try_write(target_ / "data", data_) == 0);
    uuid_ = uuid();
    written_ = true;
  }

  // --- the crash ---

  /// Does the call, with the agent killed at its n-th act; false when it had fewer, and was done.
  bool killed_at(std::uint32_t act, const std::function<Outcome()>& call) {
    page_->act[0] = '\0';
    page_->at = page_->passed + act;
    const Outcome end = call();
    page_->at = 0;
    if (page_->act[0] == '\0') {
      REQUIRE(end == OK);
      return false;
    }
    rig_.agent().kill();
    start();
    return true;
  }
  [[nodiscard]] std::string last_act() const { return page_->act; }

  // --- what must hold ---

  void check(Level level) {
    const bool made = level >= Level::created;
    const std::set<std::string> image{id_ + ".img"};
    const std::set<std::string> file{id_ + ".json"};
    const std::set<std::string> nothing;
    CHECK(names_in(rig_.pool()) == (made ? image : nothing));
    CHECK(names_in(rig_.root() / "state/volumes") == (made ? file : nothing));
    if (level != Level::created) {  // a growth that died waits for the next stage, or for the deletion
      CHECK(names_in(rig_.root() / "state/undo") == nothing);
    }
    CHECK(names_in(rig_.root() / "run/ledger") == (level >= Level::staged ? file : nothing));
    CHECK(loops_beneath(rig_.pool()).size() == (level >= Level::staged ? 1 : 0));
    CHECK(mounts_beneath(rig_.root()).size() == (level == Level::published ? 2 : level == Level::staged ? 1 : 0));
    CHECK(fs::exists(target_) == (level == Level::published));
    const auto listed = rig_.call(v1::ListVolumesRequest{});
    REQUIRE(outcome(listed) == OK);
    REQUIRE(listed->entries_size() == (made ? 1 : 0));
    if (made) {
      CHECK(listed->entries(0).volume().capacity_bytes() >= size_);
      CHECK(fs::file_size(rig_.pool() / (id_ + ".img")) >= static_cast<std::uintmax_t>(size_));
    }
    if (written_) {
      CHECK(uuid() == uuid_);
    }
    if (level >= Level::staged && written_) {
      CHECK(read_file(staging_ / "data") == data_);
    }
    if (level == Level::published) {
      CHECK(rig_.publish(id_, capability_, staging_, rig_.target("second")) == FAILED_PRECONDITION);
      CHECK(try_write(target_ / "more") == 0);
    }
  }

 private:
  static std::int64_t smallest(const std::string& fs_type) {
    return fs_type == "xfs" ? 300 * mebi : fs_type == "btrfs" ? 112 * mebi : 16 * mebi;
  }
  std::string uuid() { return nlohmann::json::parse(read_file(rig_.record_of(id_))).at("fsUuid"); }

  const std::string fs_type_;
  const v1::VolumeCapability capability_;
  Rig rig_{Settings{{"repairIntervalSeconds", 0}}, false};
  mount::CrashPage* page_ = nullptr;
  std::map<std::string, std::string> environment_;
  fs::path staging_;
  fs::path target_;
  std::string data_;
  std::string id_;
  std::string uuid_;
  std::int64_t size_;
  std::int64_t wanted_ = 0;
  bool written_ = false;
};

struct Operation {
  const char* name = "";
  Level from = Level::none;
  Level to = Level::none;
  std::function<Outcome(RealWorld&)> act;
  std::function<void(RealWorld&)> prepare = [](RealWorld&) {};  ///< at `from`, before each try
};

std::vector<Operation> operations(const std::string& fs_type) {
  std::vector<Operation> list{
      {.name = "create", .from = Level::none, .to = Level::created, .act = &RealWorld::create},
      {.name = "stage blank",
       .from = Level::created,
       .to = Level::staged,
       .act = &RealWorld::stage,
       .prepare =
           [](RealWorld& world) {
             world.bring(Level::created, Level::none);  // only a new volume is blank
             world.bring(Level::none, Level::created);
           }},
      {.name = "publish", .from = Level::staged, .to = Level::published, .act = &RealWorld::publish},
      {.name = "expand",
       .from = Level::published,
       .to = Level::published,
       .act = &RealWorld::grow,
       .prepare =
           [](RealWorld& world) {
             world.write();
             world.want_more();
           }},
      {.name = "unpublish", .from = Level::published, .to = Level::staged, .act = &RealWorld::unpublish},
      {.name = "unstage", .from = Level::staged, .to = Level::created, .act = &RealWorld::unstage},
      {.name = "stage used", .from = Level::created, .to = Level::staged, .act = &RealWorld::stage},
  };
  if (fs_type == "ext4") {
    list.push_back(
        {.name = "stage grown", .from = Level::created, .to = Level::staged, .act = &RealWorld::stage, .prepare = [](RealWorld& world) {
           world.want_more();
           REQUIRE(world.grow_volume() == OK);
         }});
  }
  list.push_back({.name = "delete", .from = Level::created, .to = Level::none, .act = &RealWorld::remove});
  return list;
}

void sweep(const std::string& fs_type, int& count) {
  RealWorld world{fs_type};
  Level at = Level::none;
  for (const Operation& operation : operations(fs_type)) {
    for (std::uint32_t act = 1;; ++act) {
      world.bring(at, operation.from);
      operation.prepare(world);
      const bool killed = world.killed_at(act, [&] { return operation.act(world); });
      INFO(fs_type << ", " << operation.name << ", killed at act " << act << ": " << world.last_act());
      if (!killed) {
        CHECK(act > 3);
        at = operation.to;
        world.check(at);
        break;
      }
      ++count;
      // Nobody asks for a volume that nobody was told of; and what grows is never taken back.
      const bool reverse = act % 2 == 0 && operation.from != Level::none && operation.from != operation.to;
      if (reverse) {
        world.bring(operation.to, operation.from);
        at = operation.from;
      } else {
        const Outcome repeated = operation.act(world);
        REQUIRE(repeated == OK);
        at = operation.to;
      }
      world.check(at);
    }
  }
}

}  // namespace

TEST_CASE("every crash point on the real kernel: ext4", "[crash][root]") { sweep("ext4", crash_counts.ext4); }
TEST_CASE("every crash point on the real kernel: xfs", "[crash][root]") { sweep("xfs", crash_counts.xfs); }
TEST_CASE("every crash point on the real kernel: btrfs", "[crash][root]") { sweep("btrfs", crash_counts.btrfs); }

}  // namespace ordinald::testing
