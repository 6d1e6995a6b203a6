/// The same on the real kernel: the daemon's program, killed with SIGKILL behind each of its acts, whichever of its processes does them, on
/// real filesystems. Then it is started again, and the orchestrator repeats the call or takes it back. Needs root.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <set>

#include "tests/crash/counts.hpp"
#include "tests/support/deadly_agent.hpp"

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

struct VolumeKind {
  std::string fs_type;  ///< "block": raw
  bool thick = false;

  [[nodiscard]] bool block() const { return fs_type == "block"; }
  [[nodiscard]] std::string name() const { return fs_type + (thick ? ", thick" : ""); }
};

/// An agent that can be killed at an act, and one volume of its.
class RealWorld {
 public:
  explicit RealWorld(const VolumeKind& kind)
      : kind_(kind),
        fs_type_(kind.fs_type),
        capability_(kind.block() ? block_capability(single_node_single_writer) : mount_capability(single_node_single_writer, fs_type_)),
        size_(smallest(fs_type_)) {
    if (kind.thick) {
      rig_.agent().configuration()["pools"][0]["provisioning"] = "thick";
    }
    staging_ = rig_.staging("v");
    target_ = rig_.target("pod");
    for (std::size_t i = 0; i < 65536; ++i) {
      data_ += static_cast<char>((i * i * 2654435761U) >> 13U);
    }
    agent_.start();
  }

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
  /// The workload's group gets all that is in the volume.
  Outcome publish_for_group() {
    v1::VolumeCapability capability = capability_;
    capability.mutable_mount()->set_volume_mount_group(std::to_string(group_));
    return rig_.publish(id_, capability, staging_, target_);
  }
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
    if (grown.code != OK || fs_type_ == "ext4" || kind_.block()) {  // ext4 grows unmounted where the capability is missing: "stage grown"
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

  /// OK, or the first call's end that is not.
  Outcome go(Level from, Level to) {
    Outcome end{.code = OK, .message = {}};
    for (; from < to && end == OK; from = static_cast<Level>(static_cast<int>(from) + 1)) {
      end = from == Level::none ? create() : from == Level::created ? stage() : publish();
    }
    for (; from > to && end == OK; from = static_cast<Level>(static_cast<int>(from) - 1)) {
      end = from == Level::published ? unpublish() : from == Level::staged ? unstage() : remove();
    }
    return end;
  }
  void bring(Level from, Level to) { REQUIRE(go(from, to) == OK); }
  /// The workload writes, and fsyncs.
  void write() {
    REQUIRE(write_data(data_) == 0);
    uuid_ = uuid();
    written_ = true;
  }
  /// Two programs that run as somebody else, in a volume that no group has yet.
  void make_programs() {
    ++group_;
    for (const char* name : {"set-user-id", "capable"}) {
      write_file(staging_ / name, "program");
    }
    REQUIRE(::chmod((staging_ / "set-user-id").c_str(), 06755) == 0);
    REQUIRE(::setxattr((staging_ / "capable").c_str(), "security.capability", capability_bytes, sizeof capability_bytes, 0) == 0);
  }

  DeadlyAgent& agent() { return agent_; }

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
    const std::size_t staged = level >= Level::staged && !kind_.block() ? 1 : 0;  // nothing is mounted of a raw block device
    CHECK(mounts_beneath(rig_.root()).size() == (level == Level::published ? staged + 1 : staged));
    CHECK(fs::exists(target_) == (level == Level::published));
    const auto listed = rig_.call(v1::ListVolumesRequest{});
    REQUIRE(outcome(listed) == OK);
    REQUIRE(listed->entries_size() == (made ? 1 : 0));
    if (made) {
      CHECK(listed->entries(0).volume().capacity_bytes() >= size_);
      CHECK(fs::file_size(rig_.pool() / (id_ + ".img")) >= static_cast<std::uintmax_t>(size_));
    }
    if (made && kind_.thick) {
      struct stat status{};
      REQUIRE(::stat((rig_.pool() / (id_ + ".img")).c_str(), &status) == 0);
      CHECK(status.st_blocks * 512 >= size_);
    }
    if (written_) {
      CHECK(uuid() == uuid_);
    }
    if (level >= Level::staged && written_) {
      CHECK(read_data() == data_);
    }
    if (level >= Level::staged) {
      CHECK(device_size() >= size_);
    }
    if (level == Level::published) {
      CHECK(rig_.publish(id_, capability_, staging_, rig_.target("second")) == FAILED_PRECONDITION);
      CHECK((kind_.block() ? try_write_device(target_) : try_write(target_ / "more")) == 0);
    }
  }
  void check_programs() {
    struct stat status{};
    REQUIRE(::stat((staging_ / "set-user-id").c_str(), &status) == 0);
    CHECK((status.st_mode & 07777) == 06775);
    CHECK(status.st_gid == group_);
    unsigned char found[sizeof capability_bytes] = {};
    CHECK(::getxattr((staging_ / "capable").c_str(), "security.capability", found, sizeof found) == sizeof found);
    CHECK(std::equal(std::begin(found), std::end(found), std::begin(capability_bytes)));
  }

 private:
  static std::int64_t smallest(const std::string& fs_type) {
    return fs_type == "xfs" ? 300 * mebi : fs_type == "btrfs" ? 112 * mebi : 16 * mebi;
  }
  std::int64_t device_size() const {
    const int fd = ::open(loops_beneath(rig_.pool()).at(0).path.c_str(), O_RDONLY | O_CLOEXEC);
    const std::int64_t size = ::lseek(fd, 0, SEEK_END);
    ::close(fd);
    return size;
  }
  std::string uuid() { return nlohmann::json::parse(read_file(rig_.record_of(id_))).at("fsUuid"); }
  /// 0, or an errno.
  int write_data(const std::string& data) const {
    if (!kind_.block()) {
      return try_write(target_ / "data", data);
    }
    const int fd = ::open(target_.c_str(), O_WRONLY | O_CLOEXEC);
    const bool good = fd >= 0 && ::pwrite(fd, data.data(), data.size(), 4 * mebi) == static_cast<ssize_t>(data.size()) && ::fsync(fd) == 0;
    const int error = good ? 0 : errno;
    ::close(fd);
    return error;
  }
  std::string read_data() const {
    if (!kind_.block()) {
      return read_file(staging_ / "data");
    }
    std::string data(data_.size(), '\0');
    const int fd = ::open((rig_.pool() / (id_ + ".img")).c_str(), O_RDONLY | O_CLOEXEC);
    const ssize_t got = ::pread(fd, data.data(), data.size(), 4 * mebi);
    ::close(fd);
    data.resize(static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    return data;
  }

  /// VFS_CAP_REVISION_2, cap_net_raw permitted.
  static constexpr unsigned char capability_bytes[20] = {1, 0, 0, 2, 0, 0x20, 0, 0};

  const VolumeKind kind_;
  const std::string fs_type_;
  const v1::VolumeCapability capability_;
  Rig rig_{Settings{{"repairIntervalSeconds", 0}}, false};
  DeadlyAgent agent_{rig_};
  fs::path staging_;
  fs::path target_;
  std::string data_;
  std::string id_;
  std::string uuid_;
  std::int64_t size_;
  std::int64_t wanted_ = 0;
  bool written_ = false;
  gid_t group_ = 4000;
};

struct Operation {
  const char* name = "";
  Level from = Level::none;
  Level to = Level::none;
  std::function<Outcome(RealWorld&)> act;
  std::function<void(RealWorld&)> prepare = [](RealWorld&) {};  ///< at `from`, before each try
  std::function<void(RealWorld&)> check = [](RealWorld&) {};    ///< at `to`
};

std::vector<Operation> operations(const VolumeKind& kind) {
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
  if (kind.fs_type == "ext4") {
    list.insert(list.begin() + 3, {.name = "publish for a group",
                                   .from = Level::staged,
                                   .to = Level::published,
                                   .act = &RealWorld::publish_for_group,
                                   .prepare = &RealWorld::make_programs,
                                   .check = &RealWorld::check_programs});
    list.push_back(
        {.name = "stage grown", .from = Level::created, .to = Level::staged, .act = &RealWorld::stage, .prepare = [](RealWorld& world) {
           world.want_more();
           REQUIRE(world.grow_volume() == OK);
         }});
  }
  list.push_back({.name = "delete", .from = Level::created, .to = Level::none, .act = &RealWorld::remove});
  return list;
}

/// The agent is killed at each act of each operation, and at every seventh of these the agent that follows it dies as well.
void sweep(const VolumeKind& kind, int& count) {
  constexpr int one_in = 7;
  RealWorld world{kind};
  Level at = Level::none;
  for (const Operation& operation : operations(kind)) {
    if (kind.thick && !kind.block() && operation.from >= Level::staged && operation.from != operation.to) {
      continue;  // a thick image is what a thin one is to these
    }
    for (std::uint32_t act = 1;; ++act) {
      world.bring(at, operation.from);
      operation.prepare(world);
      const auto again = count % one_in == one_in - 1 ? 1 + static_cast<std::uint32_t>(count / one_in) % 13 : 0;
      const auto died_at = world.agent().killed_at(
          act,
          [&] {
            const Outcome end = operation.act(world);
            CHECK((end == OK || end.code == UNAVAILABLE || end.code == CANCELLED || end.code == UNKNOWN || end.code == INTERNAL));
          },
          again);
      INFO(kind.name() << ", " << operation.name << ", killed at act " << act << ": " << died_at.value_or("none")
                       << (again > 0 ? ", and again at act " + std::to_string(again) : ""));
      if (!died_at) {
        CHECK(act > 2);
        at = operation.to;
        world.check(at);
        operation.check(world);
        break;
      }
      ++count;
      // Nobody asks for a volume that nobody was told of; and what grows is never taken back.
      const bool reverse = act % 2 == 0 && operation.from != Level::none && operation.from != operation.to;
      at = reverse ? operation.from : operation.to;
      const Outcome recovered =
          world.agent().recover([&] { return reverse ? world.go(operation.to, operation.from) : operation.act(world); });
      REQUIRE(recovered == OK);
      world.check(at);
      if (!reverse) {
        operation.check(world);
      }
    }
  }
  crash_counts.again += world.agent().deaths_again();
}

}  // namespace

TEST_CASE("every crash point on the real kernel: ext4", "[crash][root]") { sweep({.fs_type = "ext4"}, crash_counts.ext4); }
TEST_CASE("every crash point on the real kernel: ext4, thick", "[crash][root]") {
  sweep({.fs_type = "ext4", .thick = true}, crash_counts.ext4);
}
TEST_CASE("every crash point on the real kernel: xfs", "[crash][root]") { sweep({.fs_type = "xfs"}, crash_counts.xfs); }
TEST_CASE("every crash point on the real kernel: btrfs", "[crash][root]") { sweep({.fs_type = "btrfs"}, crash_counts.btrfs); }
TEST_CASE("every crash point on the real kernel: block, thick", "[crash][root]") {
  sweep({.fs_type = "block", .thick = true}, crash_counts.block);
}

}  // namespace ordinald::testing
