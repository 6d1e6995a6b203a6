// Devices that answer with errors, and backing files that are deleted, cut or replaced: the right code, words that help, nothing lost, no
// loop device left, and the volume is served again once the device answers.
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/loop.h>
#include <linux/seccomp.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <thread>

#include "tests/faults/measure.hpp"
#include "tests/faults/sick_directory.hpp"
#include "tests/support/rig.hpp"

namespace ordinald::testing {
namespace {

const auto ext4 = mount_capability(single_node_single_writer, "ext4");

/// An agent whose pool is sick when asked.
struct SickRig {
  explicit SickRig(const Settings& settings = {}) : rig(settings, false), disk(rig.pool()) { rig.agent().start(); }
  ~SickRig() { disk.heal(); }
  SickRig(const SickRig&) = delete;
  SickRig& operator=(const SickRig&) = delete;

  Rig rig;
  SickDirectory disk;
};

/// That a refusal says what was tried, on what, and what the system said.
void check_words(const Outcome& outcome, const std::vector<std::string>& words) {
  for (const std::string& word : words) CHECK_THAT(outcome.message, Catch::Contains(word));
}

void check_served(Rig& rig, const std::string& id, const v1::VolumeCapability& capability, const std::string& name) {
  CHECK(rig.stage(id, capability, rig.staging(name)) == OK);
  CHECK(rig.publish(id, capability, rig.staging(name), rig.target(name + "-pod")) == OK);
  CHECK(rig.node_health(id) == "");
  CHECK(rig.unpublish(id, rig.target(name + "-pod")) == OK);
  CHECK(rig.unstage(id, rig.staging(name)) == OK);
  CHECK(loops_beneath(rig.pool()).empty());
}

}  // namespace

TEST_CASE("devices: a read that fails while probing is an error, never blank", "[devices][root]") {
  SickRig sick;
  Rig& rig = sick.rig;
  for (const char* fs_type : {"ext4", "xfs", "btrfs"}) {
    INFO(fs_type);
    const auto capability = mount_capability(single_node_single_writer, fs_type);
    const std::string id = rig.create(std::string("v-") + fs_type, capability, small_size(fs_type));
    // A blank one, whose first or last bytes can't be read.
    const auto size = static_cast<std::uint64_t>(small_size(fs_type));
    for (const auto& [begin, end] : {std::pair<std::uint64_t, std::uint64_t>{0, 4096}, {size - 65536, size}}) {
      sick.disk.fail(sick_read, EIO, begin, end);
      const Outcome refused = rig.stage(id, capability, rig.staging(fs_type));
      count_fault("devices");
      CHECK(refused == INTERNAL);
      check_words(refused, {id, "/dev/loop", "EIO"});
      CHECK(sick.disk.control().refused > 0);
      CHECK(loops_beneath(rig.pool()).empty());
      sick.disk.heal();
    }
    check_served(rig, id, capability, fs_type);
    // One with a filesystem and a file in it.
    REQUIRE(rig.stage(id, capability, rig.staging(fs_type)) == OK);
    REQUIRE(try_write(rig.staging(fs_type) / "kept", "content") == 0);
    REQUIRE(rig.unstage(id, rig.staging(fs_type)) == OK);
    sick.disk.fail(sick_read);
    const Outcome refused = rig.stage(id, capability, rig.staging(fs_type));
    count_fault("devices");
    CHECK(refused == INTERNAL);
    check_words(refused, {id, "/dev/loop", "EIO"});
    CHECK(loops_beneath(rig.pool()).empty());
    sick.disk.heal();
    REQUIRE(rig.stage(id, capability, rig.staging(fs_type)) == OK);
    CHECK(read_file(rig.staging(fs_type) / "kept") == "content");
    REQUIRE(rig.unstage(id, rig.staging(fs_type)) == OK);
    CHECK(rig.remove(id) == OK);
  }
  CHECK(leaks_beneath(rig.root() / "stage") == "");
}

TEST_CASE("devices: whichever read of a stage fails, the volume is as it was", "[devices][root]") {
  SickRig sick;
  Rig& rig = sick.rig;
  for (const char* fs_type : {"ext4", "xfs", "btrfs"}) {
    INFO(fs_type);
    const auto capability = mount_capability(single_node_single_writer, fs_type);
    const std::string id = rig.create(std::string("v-") + fs_type, capability, small_size(fs_type));
    const fs::path staging = rig.staging(fs_type);
    REQUIRE(rig.stage(id, capability, staging) == OK);
    REQUIRE(try_write(staging / "kept", "content") == 0);
    REQUIRE(rig.unstage(id, staging) == OK);
    constexpr std::uint64_t all = 1U << 30U;
    sick.disk.fail_after(sick_read, all);
    REQUIRE(rig.stage(id, capability, staging) == OK);
    const std::uint64_t reads = all - sick.disk.control().passing;
    sick.disk.heal();
    REQUIRE(rig.unstage(id, staging) == OK);
    int refusals = 0;
    int while_mounting = 0;
    for (std::uint64_t passing = 0; passing < reads; passing += std::max<std::uint64_t>(1, reads / 24)) {
      INFO("after " << passing << " of " << reads << " reads");
      sick.disk.fail_after(sick_read, passing);
      const Outcome told = rig.stage(id, capability, staging);
      sick.disk.heal();
      count_fault("devices");
      if (told == OK) {  // read-ahead that nobody needed
        CHECK(rig.unstage(id, staging) == OK);
      } else {
        ++refusals;
        while_mounting += told.message.find("mounting") != std::string::npos ? 1 : 0;
        CHECK((told == INTERNAL || told == FAILED_PRECONDITION));
        check_words(told, {id, "/dev/loop"});
        CHECK(mounts_beneath(staging).empty());
      }
      REQUIRE(loops_beneath(rig.pool()).empty());
      REQUIRE(rig.stage(id, capability, staging) == OK);
      CHECK(read_file(staging / "kept") == "content");
      REQUIRE(rig.unstage(id, staging) == OK);
    }
    CHECK(refusals > 0);
    CHECK(while_mounting > 0);
    CHECK(rig.remove(id) == OK);
  }
}

TEST_CASE("devices: writes that fail before the unmount are told once, and nothing stays behind", "[devices][root]") {
  SickRig sick;
  Rig& rig = sick.rig;
  for (const char* fs_type : {"ext4", "xfs", "btrfs"}) {
    INFO(fs_type);
    const auto capability = mount_capability(single_node_single_writer, fs_type);
    const LiveVolume volume = bring_up(rig, std::string("v-") + fs_type, capability);
    REQUIRE(try_write(volume.target / "kept", "content") == 0);
    write_file(volume.target / "late", std::string(mebi, 'x'));
    sick.disk.fail(sick_write | sick_sync | sick_allocate);
    CHECK(rig.unpublish(volume.id, volume.target) == OK);
    const Outcome told = rig.unstage(volume.id, volume.staging);
    count_fault("devices");
    CHECK(told == INTERNAL);
    check_words(told, {volume.id, volume.staging.string(), "EIO"});
    // The teardown is not stuck: the repeated call goes through, though the device is as sick as before.
    CHECK(rig.unstage(volume.id, volume.staging) == OK);
    CHECK(leaks_beneath(rig.root() / "stage") == "");
    CHECK(loops_beneath(rig.pool()).empty());
    sick.disk.heal();
    const Outcome again = rig.stage(volume.id, capability, volume.staging);
    CHECK(again == OK);
    if (again == OK) {
      CHECK(read_file(volume.staging / "kept") == "content");
      CHECK(rig.unstage(volume.id, volume.staging) == OK);
    }
    CHECK(rig.remove(volume.id) == OK);
  }
}

TEST_CASE("devices: a failing fsync of a new image", "[devices][root]") {
  SickRig sick;
  Rig& rig = sick.rig;
  sick.disk.fail(sick_sync);
  const auto failed = rig.call(rig.create_request("never", ext4, 16 * mebi));
  count_fault("devices");
  CHECK(outcome(failed) == INTERNAL);
  check_words(outcome(failed), {"never", rig.pool().string(), "EIO"});
  CHECK(fs::is_empty(sick.disk.below()));
  sick.disk.heal();
  CHECK(rig.remove(rig.create("never", ext4, 16 * mebi)) == OK);
}

TEST_CASE("devices: whichever write of the first stage fails, the next one makes the filesystem", "[devices][root]") {
  SickRig sick;
  Rig& rig = sick.rig;
  constexpr std::uint32_t writes = sick_write | sick_sync | sick_allocate;
  for (const char* fs_type : {"ext4", "xfs", "btrfs"}) {
    INFO(fs_type);
    const auto capability = mount_capability(single_node_single_writer, fs_type);
    const fs::path staging = rig.staging(fs_type);
    const auto make = [&] { return rig.create(std::string("v-") + fs_type, capability, small_size(fs_type)); };
    constexpr std::uint64_t all = 1U << 30U;
    std::string id = make();
    sick.disk.fail_after(writes, all);
    REQUIRE(rig.stage(id, capability, staging) == OK);
    const std::uint64_t number = all - sick.disk.control().passing;
    sick.disk.heal();
    int refusals = 0;
    for (std::uint64_t passing = 0; passing < number; passing += std::max<std::uint64_t>(1, number / 16)) {
      INFO("after " << passing << " of " << number << " writes");
      REQUIRE(rig.unstage(id, staging) == OK);
      REQUIRE(rig.remove(id) == OK);
      id = make();
      sick.disk.fail_after(writes, passing);
      const Outcome told = rig.stage(id, capability, staging);
      count_fault("devices");
      sick.disk.heal();
      if (told == OK) {  // the last ones were the kernel's own, later
        const Outcome unstaged = rig.unstage(id, staging);
        CHECK((unstaged == OK || unstaged == INTERNAL));
        CHECK(rig.unstage(id, staging) == OK);
      } else {
        ++refusals;
        CHECK(told == INTERNAL);
        check_words(told, {id, "/dev/loop"});
        CHECK(mounts_beneath(staging).empty());
      }
      REQUIRE(loops_beneath(rig.pool()).empty());
      REQUIRE(rig.stage(id, capability, staging) == OK);
      CHECK(try_write(staging / "file", "content") == 0);
      CHECK(rig.node_health(id) == "");
    }
    CHECK(refusals > 0);
    CHECK(rig.unstage(id, staging) == OK);
    CHECK(rig.remove(id) == OK);
  }
  CHECK(fs::is_empty(sick.disk.below()));
}

TEST_CASE("devices: growth that fails is told, and goes on once the device answers", "[devices][root]") {
  SickRig sick;
  Rig& rig = sick.rig;
  const auto xfs = mount_capability(single_node_single_writer, "xfs");
  const LiveVolume volume = bring_up(rig, "v", xfs);
  v1::NodeExpandVolumeRequest expand;
  expand.set_volume_id(volume.id);
  expand.set_volume_path(volume.target);
  expand.mutable_capacity_range()->set_required_bytes(small_size("xfs") + 64 * mebi);
  sick.disk.fail(sick_sync);
  const auto failed = rig.call(expand);
  count_fault("devices");
  CHECK(outcome(failed) == INTERNAL);
  check_words(outcome(failed), {volume.id, "EIO"});
  sick.disk.heal();
  CHECK(outcome(rig.call(expand)) == OK);
  CHECK(rig.node_health(volume.id) == "");
  CHECK(rig.unpublish(volume.id, volume.target) == OK);
  CHECK(rig.unstage(volume.id, volume.staging) == OK);
}

TEST_CASE("devices: a backing file deleted, cut or replaced while nobody uses it", "[devices][root]") {
  Rig rig;
  const LiveVolume volume = bring_up(rig, "v", ext4);
  REQUIRE(try_write(volume.target / "kept", "content") == 0);
  REQUIRE(rig.unpublish(volume.id, volume.target) == OK);
  REQUIRE(rig.unstage(volume.id, volume.staging) == OK);
  const fs::path image = rig.image_of(volume.id);
  const fs::path kept = rig.root() / "kept.img";
  REQUIRE(run_tool({"cp", "-a", "--sparse=always", image, kept}) == 0);
  const auto put_back = [&] { REQUIRE(run_tool({"cp", "-a", "--sparse=always", kept, image}) == 0); };
  const auto refused = [&](const std::string& word) {
    const Outcome told = rig.stage(volume.id, ext4, volume.staging);
    count_fault("devices");
    CHECK(told == FAILED_PRECONDITION);
    check_words(told, {volume.id, image.string(), word});
    CHECK(rig.node_health(volume.id) != "");
    CHECK(loops_beneath(rig.pool()).empty());
    CHECK(mounts_beneath(volume.staging).empty());
  };
  fs::remove(image);
  refused("put the file back");
  CHECK_FALSE(fs::exists(image));
  put_back();
  fs::resize_file(image, 32 * mebi);
  refused("cut short");
  CHECK(fs::file_size(image) == 32 * mebi);
  put_back();
  fs::remove(image);
  write_file(image, std::string(64 * mebi, '\0'));  // no attribute: not ours
  refused("not this volume's");
  CHECK(read_file(image) == std::string(64 * mebi, '\0'));
  fs::remove(image);
  // Marked as ours, but blank: never formatted, because the record says that there is a filesystem.
  put_back();
  REQUIRE(run_tool({"truncate", "-s", "0", image}) == 0);
  fs::resize_file(image, 64 * mebi);
  const Outcome told = rig.stage(volume.id, ext4, volume.staging);
  count_fault("devices");
  CHECK(told == FAILED_PRECONDITION);
  check_words(told, {volume.id, "no filesystem at all"});
  CHECK(loops_beneath(rig.pool()).empty());
  put_back();
  REQUIRE(rig.stage(volume.id, ext4, volume.staging) == OK);
  CHECK(read_file(volume.staging / "kept") == "content");
  CHECK(rig.node_health(volume.id) == "");
  REQUIRE(rig.unstage(volume.id, volume.staging) == OK);
}

TEST_CASE("devices: a backing file deleted, cut or replaced under a mounted volume", "[devices][root]") {
  Rig rig;
  for (const char* what : {"deleted", "cut", "replaced by a copy", "replaced by another file"}) {
    INFO(what);
    const std::string kind = what;
    const LiveVolume volume = bring_up(rig, "v" + std::to_string(kind.size()), ext4);
    REQUIRE(try_write(volume.target / "kept", "content") == 0);
    const fs::path image = rig.image_of(volume.id);
    const fs::path kept = rig.root() / "kept.img";
    REQUIRE(run_tool({"cp", "-a", "--sparse=always", image, kept}) == 0);
    if (kind == "cut") {
      fs::resize_file(image, 32 * mebi);
    } else {
      fs::remove(image);
    }
    if (kind == "replaced by a copy") REQUIRE(run_tool({"cp", "-a", "--sparse=always", kept, image}) == 0);
    if (kind == "replaced by another file") write_file(image, std::string(64 * mebi, '\0'));
    count_fault("devices");
    CHECK(rig.node_health(volume.id) != "");
    // The same call is still right, a further stage is not: it would be of another file.
    CHECK(rig.stage(volume.id, ext4, volume.staging) == OK);
    const Outcome further = rig.stage(volume.id, ext4, rig.staging("further"));
    CHECK(further == FAILED_PRECONDITION);
    check_words(further, {volume.id, kind == "replaced by a copy" ? loops_beneath(rig.pool()).at(0).path : image.string()});
    CHECK(loops_beneath(rig.pool()).size() == 1);
    CHECK(read_file(volume.target / "kept") == "content");
    CHECK(rig.unpublish(volume.id, volume.target) == OK);
    const Outcome unstaged = rig.unstage(volume.id, volume.staging);
    if (kind == "cut") {
      CHECK((unstaged == OK || unstaged == INTERNAL));  // what lay beyond the cut may have been dirty
      CHECK(rig.unstage(volume.id, volume.staging) == OK);
    } else {
      CHECK(unstaged == OK);
    }
    CHECK(loops_beneath(rig.pool()).empty());
    REQUIRE(run_tool({"cp", "-a", "--sparse=always", kept, image}) == 0);
    REQUIRE(rig.stage(volume.id, ext4, volume.staging) == OK);
    CHECK(read_file(volume.staging / "kept") == "content");
    CHECK(rig.unstage(volume.id, volume.staging) == OK);
    CHECK(rig.remove(volume.id) == OK);
    fs::remove(kept);
  }
  CHECK(leaks_beneath(rig.root()) == "");
}

TEST_CASE("devices: no loop device is left", "[devices][root]") {
  Rig rig({}, false);
  Outcome told;
  std::string id;
  std::string log;
  // The node could have a million: so it is the call that asks for one which finds none, in this agent and its workers only. The filter
  // is this thread's and its children's, who end with it.
  std::thread node([&] {
    sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[1])),  // little-endian: the lower half
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, LOOP_CTL_GET_FREE, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSPC),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog filter{.len = std::size(program), .filter = program};
    if (::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) return;
    rig.agent().start();
    id = rig.create("v", ext4, 16 * mebi);
    told = rig.stage(id, ext4, rig.staging("v"));
    rig.agent().stop();
  });
  node.join();
  REQUIRE_FALSE(id.empty());
  count_fault("devices");
  CHECK(told == RESOURCE_EXHAUSTED);
  CHECK_THAT(told.message, Catch::Contains(id) && Catch::Contains("getting a free loop device") && Catch::Contains("losetup -l"));
  CHECK(loops_beneath(rig.pool()).empty());
  CHECK(mounts_beneath(rig.staging("v")).empty());
  rig.agent().start();
  CHECK(rig.stage(id, ext4, rig.staging("v")) == OK);
  CHECK(rig.unstage(id, rig.staging("v")) == OK);
  CHECK(rig.remove(id) == OK);
}

}  // namespace ordinald::testing
