// "Node": Stage and Unstage.
#include <fcntl.h>
#include <sys/mount.h>
#include <unistd.h>

#include "tests/support/rig.hpp"

namespace ordinald::testing {
namespace {

const auto ext4 = mount_capability(single_node_single_writer, "ext4");

/// Bytes over a part of a file, without changing its size.
void overwrite(const fs::path& file, std::size_t offset, const std::string& bytes) {
  const int fd = ::open(file.c_str(), O_WRONLY | O_CLOEXEC);
  REQUIRE(fd >= 0);
  CHECK(::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset)) == static_cast<ssize_t>(bytes.size()));
  ::fsync(fd);
  ::close(fd);
}

std::int64_t filesystem_size(Rig& rig, const std::string& id, const fs::path& path) {
  v1::NodeGetVolumeStatsRequest request;
  request.set_volume_id(id);
  request.set_volume_path(path);
  const auto reply = rig.call(request);
  REQUIRE(outcome(reply) == OK);
  for (const auto& usage : reply->usage())
    if (usage.unit() == v1::VolumeUsage_Unit_BYTES) return usage.total();
  FAIL("no usage in bytes");
  return 0;
}

void grow(Rig& rig, const std::string& id, std::int64_t size) {
  v1::ControllerExpandVolumeRequest request;
  request.set_volume_id(id);
  request.mutable_capacity_range()->set_required_bytes(size);
  REQUIRE(outcome(rig.call(request)) == OK);
}

}  // namespace

TEST_CASE("stage: makes and mounts the filesystem asked for", "[stage][root]") {
  const std::string fs_type = GENERATE("ext4", "xfs", "btrfs");
  Rig rig;
  const auto capability = mount_capability(single_node_single_writer, fs_type);
  const std::string id = rig.create("v", capability, small_size(fs_type));
  REQUIRE(rig.stage(id, capability, rig.staging("v")) == OK);
  CHECK(mounted_at(rig.staging("v")).fs_type == fs_type);
  CHECK(rig.unstage(id, rig.staging("v")) == OK);
  CHECK(mounted_at(rig.staging("v")).path.empty());
  CHECK(rig.remove(id) == OK);
  CHECK(leaks_beneath(rig.root()) == "");
  CHECK(fs::is_empty(rig.pool()));
}

TEST_CASE("stage: an unknown volume is NOT_FOUND", "[stage][root]") {
  Rig rig;
  CHECK(rig.stage("no-such-volume", ext4, rig.staging("v")) == NOT_FOUND);
}

TEST_CASE("stage: staged the same is OK", "[stage][root]") {
  Rig rig;
  const std::string id = rig.create("v", ext4);
  CHECK(rig.stage(id, ext4, rig.staging("v")) == OK);
  CHECK(rig.stage(id, ext4, rig.staging("v")) == OK);
  CHECK(mounts_beneath(rig.staging("v")).size() == 1);
  CHECK(loops_beneath(rig.pool()).size() == 1);
}

TEST_CASE("stage: staged there with another access type, fs_type, flags or mode is ALREADY_EXISTS", "[stage][root]") {
  Rig rig;
  auto create = rig.create_request("v", ext4, 320 * mebi);
  *create.add_volume_capabilities() = block_capability(single_node_single_writer);
  const auto created = rig.call(create);
  REQUIRE(outcome(created) == OK);
  const std::string id = created->volume().volume_id();
  REQUIRE(rig.stage(id, ext4, rig.staging("v")) == OK);
  CHECK(rig.stage(id, block_capability(single_node_single_writer), rig.staging("v")) == ALREADY_EXISTS);
  CHECK(rig.stage(id, mount_capability(single_node_single_writer, "xfs"), rig.staging("v")) == ALREADY_EXISTS);
  CHECK(rig.stage(id, mount_capability(single_node_single_writer, "ext4", {"noatime"}), rig.staging("v")) == ALREADY_EXISTS);
  CHECK(rig.stage(id, mount_capability(single_node_writer, "ext4"), rig.staging("v")) == ALREADY_EXISTS);
  CHECK(mounts_beneath(rig.staging("v")).size() == 1);
}

TEST_CASE("stage: block staged as block, then asked as mount, is ALREADY_EXISTS", "[stage][root]") {
  Rig rig;
  auto create = rig.create_request("v", ext4, 64 * mebi);
  *create.add_volume_capabilities() = block_capability(single_node_single_writer);
  const std::string id = rig.call(create)->volume().volume_id();
  REQUIRE(rig.stage(id, block_capability(single_node_single_writer), rig.staging("v")) == OK);
  CHECK(rig.stage(id, block_capability(single_node_single_writer), rig.staging("v")) == OK);
  CHECK(rig.stage(id, ext4, rig.staging("v")) == ALREADY_EXISTS);
}

TEST_CASE("stage: an fs_type other than the one on the volume is FAILED_PRECONDITION", "[stage][root]") {
  Rig rig;
  const std::string id = rig.create("v", ext4, 320 * mebi);
  REQUIRE(rig.stage(id, ext4, rig.staging("v")) == OK);
  REQUIRE(rig.unstage(id, rig.staging("v")) == OK);
  const Outcome refused = rig.stage(id, mount_capability(single_node_single_writer, "xfs"), rig.staging("v"));
  CHECK(refused == FAILED_PRECONDITION);
  CHECK_THAT(refused.message, Catch::Contains("ext4"));
  CHECK(rig.stage(id, mount_capability(single_node_single_writer), rig.staging("v")) == OK);  // not said: what is there
  CHECK(mounted_at(rig.staging("v")).fs_type == "ext4");
}

TEST_CASE("stage: the capability's fs_type wins over the parameter", "[stage][root]") {
  Rig rig;
  const std::string id = rig.create("v", mount_capability(single_node_writer), 320 * mebi, {{"csi.storage.k8s.io/fstype", "ext4"}});
  const auto xfs = mount_capability(single_node_writer, "xfs");
  REQUIRE(rig.stage(id, xfs, rig.staging("v")) == OK);
  CHECK(mounted_at(rig.staging("v")).fs_type == "xfs");
}

TEST_CASE("stage: without an fs_type the parameter's is made, and without that ext4", "[stage][root]") {
  Rig rig;
  const auto plain = mount_capability(single_node_writer);
  const std::string key = GENERATE("csi.storage.k8s.io/fstype", "fsType");
  const std::string with = rig.create("with", plain, 128 * mebi, {{key, "btrfs"}});
  REQUIRE(rig.stage(with, plain, rig.staging("with")) == OK);
  CHECK(mounted_at(rig.staging("with")).fs_type == "btrfs");
  const std::string without = rig.create("without", plain);
  REQUIRE(rig.stage(without, plain, rig.staging("without")) == OK);
  CHECK(mounted_at(rig.staging("without")).fs_type == "ext4");
}

TEST_CASE("stage: a filesystem that is not known is refused", "[stage][root]") {
  Rig rig;
  const std::string id = rig.create("v", mount_capability(single_node_writer));
  const Outcome refused = rig.stage(id, mount_capability(single_node_writer, "ntfs"), rig.staging("v"));
  CHECK((refused == INVALID_ARGUMENT || refused == FAILED_PRECONDITION));
  CHECK(loops_beneath(rig.pool()).empty());
}

TEST_CASE("stage: a blank volume asked for reading only is FAILED_PRECONDITION", "[stage][root]") {
  Rig rig;
  const Mode mode = GENERATE(single_node_reader_only, multi_node_reader_only);
  const std::string id = rig.create("v", mount_capability(mode, "ext4"));
  CHECK(rig.stage(id, mount_capability(mode, "ext4"), rig.staging("v")) == FAILED_PRECONDITION);
  CHECK(loops_beneath(rig.pool()).empty());
}

TEST_CASE("stage: mount_flags are applied", "[stage][root]") {
  Rig rig;
  const auto capability = mount_capability(single_node_writer, "ext4", {"noatime", "nosuid", "commit=17"});
  const std::string id = rig.create("v", capability);
  REQUIRE(rig.stage(id, capability, rig.staging("v")) == OK);
  const Mounted mounted = mounted_at(rig.staging("v"));
  CHECK_THAT(mounted.options, Catch::Contains("noatime") && Catch::Contains("nosuid"));
  CHECK_THAT(mounted.super_options, Catch::Contains("commit=17"));
}

TEST_CASE("stage: a mount flag that the filesystem has not is refused, by its position", "[stage][root]") {
  const std::string fs_type = GENERATE("ext4", "xfs", "btrfs");
  Rig rig;
  const auto capability = mount_capability(single_node_writer, fs_type, {"noatime", "frobnicate"});
  const std::string id = rig.create("v", capability, small_size(fs_type));
  const Outcome refused = rig.stage(id, capability, rig.staging("v"));
  CHECK(refused == INVALID_ARGUMENT);
  CHECK_THAT(refused.message, Catch::Contains("mount_flags[1]") && !Catch::Contains("frobnicate"));
  CHECK(mounts_beneath(rig.staging("v")).empty());
}

TEST_CASE("stage: staged the same, a filesystem smaller than its device is grown even then", "[stage][root]") {
  const std::string fs_type = GENERATE("xfs", "btrfs");
  Rig rig;
  const LiveVolume volume = bring_up(rig, "v", mount_capability(single_node_writer, fs_type));
  const std::int64_t before = filesystem_size(rig, volume.id, volume.target);
  grow(rig, volume.id, 2 * small_size(fs_type));
  CHECK(rig.stage(volume.id, volume.capability, volume.staging) == OK);
  CHECK(filesystem_size(rig, volume.id, volume.target) > before * 3 / 2);
}

TEST_CASE("stage: where it can't be grown while mounted it is OK all the same, and health says GrowthPending", "[stage][root]") {
  Rig rig;
  const LiveVolume volume = bring_up(rig, "v", ext4);
  const std::int64_t before = filesystem_size(rig, volume.id, volume.target);
  grow(rig, volume.id, 128 * mebi);
  CHECK(rig.stage(volume.id, volume.capability, volume.staging) == OK);
  if (filesystem_size(rig, volume.id, volume.target) > before * 3 / 2) {
    CHECK(rig.node_health(volume.id) == "");  // with CAP_SYS_RESOURCE it grew at once
    return;
  }
  CHECK(rig.node_health(volume.id) == "GrowthPending");
  REQUIRE(rig.unpublish(volume.id, volume.target) == OK);
  REQUIRE(rig.unstage(volume.id, volume.staging) == OK);
  REQUIRE(rig.stage(volume.id, volume.capability, volume.staging) == OK);
  CHECK(rig.node_health(volume.id) == "");
  CHECK(filesystem_size(rig, volume.id, volume.staging) > before * 3 / 2);
}

TEST_CASE("stage: a volume that was raw block is mounted if it is the filesystem asked for, and never replaced", "[stage][root]") {
  Rig rig;
  auto create = rig.create_request("v", ext4, 64 * mebi);
  *create.add_volume_capabilities() = block_capability(single_node_single_writer);
  const std::string id = rig.call(create)->volume().volume_id();
  const auto block = block_capability(single_node_single_writer);
  const fs::path device = rig.target("block");
  REQUIRE(rig.stage(id, block, rig.staging("v")) == OK);
  REQUIRE(rig.publish(id, block, rig.staging("v"), device) == OK);
  SECTION("the filesystem asked for") {
    REQUIRE(run_tool({"mkfs.ext4", "-q", "-F", device}) == 0);
    REQUIRE(rig.unpublish(id, device) == OK);
    REQUIRE(rig.unstage(id, rig.staging("v")) == OK);
    CHECK(rig.stage(id, ext4, rig.staging("v")) == OK);
    CHECK(mounted_at(rig.staging("v")).fs_type == "ext4");
  }
  SECTION("something else") {
    REQUIRE(try_write_device(device) == 0);
    REQUIRE(rig.unpublish(id, device) == OK);
    REQUIRE(rig.unstage(id, rig.staging("v")) == OK);
    CHECK(rig.stage(id, ext4, rig.staging("v")) == FAILED_PRECONDITION);
    CHECK(read_file(rig.image_of(id)).substr(0, 4096) == std::string(4096, 'x'));
  }
  SECTION("blank") {
    REQUIRE(rig.unpublish(id, device) == OK);
    REQUIRE(rig.unstage(id, rig.staging("v")) == OK);
    CHECK(rig.stage(id, ext4, rig.staging("v")) == FAILED_PRECONDITION);
  }
}

TEST_CASE("stage: a blank volume that holds a signature is refused, says what was found, and is left as it is", "[stage][root]") {
  Rig rig;
  const std::string id = rig.create("v", ext4);
  const fs::path image = rig.image_of(id);
  std::string found;
  SECTION("a filesystem") {
    REQUIRE(run_tool({"mkfs.ext4", "-q", "-F", image}) == 0);
    found = "ext4";
  }
  SECTION("LUKS") {
    overwrite(image, 0, std::string("LUKS\xba\xbe\x00\x02\0\0\0\0\0\0\x40\x00", 16));
    found = "LUKS";
  }
  SECTION("LVM") {
    constexpr std::string_view sector_1 = {"\x01\0\0\0\0\0\0\0", 8};
    constexpr std::string_view no_checksum = {"\0\0\0\0", 4};
    constexpr std::string_view offset = {"\x20\0\0\0", 4};
    std::string label = "LABELONE";
    label.append(sector_1).append(no_checksum).append(offset).append("LVM2 001").append("0123456789abcdef0123456789abcdef");
    overwrite(image, 512, label);
    found = "";  // without its checksum it is no signature, but not zero either
  }
  SECTION("a partition table") {
    std::string mbr(512, '\0');
    mbr[446 + 4] = '\x83';
    mbr[446 + 8] = '\x08';
    mbr[446 + 13] = '\x08';
    mbr[510] = '\x55';
    mbr[511] = '\xaa';
    overwrite(image, 0, mbr);
    found = "dos";
  }
  SECTION("a byte in the middle") {
    overwrite(image, 40 * mebi + 123, "x");
    found = "";
  }
  const std::string before = read_file(image);
  const Outcome refused = rig.stage(id, ext4, rig.staging("v"));
  CHECK(refused == FAILED_PRECONDITION);
  CHECK_THAT(refused.message, Catch::Contains(found));
  CHECK(read_file(image) == before);
  CHECK(mounts_beneath(rig.staging("v")).empty());
}

TEST_CASE("stage: an image that is not the volume's is refused", "[stage][root]") {
  Rig rig;
  const std::string id = rig.create("v", ext4);
  const fs::path image = rig.image_of(id);
  const auto size = fs::file_size(image);
  fs::rename(image, rig.root() / "kept.img");
  write_file(image, "");
  fs::resize_file(image, size);
  CHECK(rig.stage(id, ext4, rig.staging("v")) == FAILED_PRECONDITION);
  CHECK(loops_beneath(rig.pool()).empty());
}

TEST_CASE("stage: the filesystem's UUID is held against the record", "[stage][root]") {
  Rig rig;
  const std::string id = rig.create("v", ext4);
  REQUIRE(rig.stage(id, ext4, rig.staging("v")) == OK);
  REQUIRE(rig.unstage(id, rig.staging("v")) == OK);
  // tune2fs demands a check that is no older than the last mount, and it was made in the second before, at times.
  REQUIRE(run_tool({"e2fsck", "-f", "-p", rig.image_of(id)}) == 0);
  REQUIRE(run_tool({"tune2fs", "-U", "12345678-1234-4234-8234-123456789abc", rig.image_of(id)}) == 0);
  const Outcome refused = rig.stage(id, ext4, rig.staging("v"));
  CHECK(refused == FAILED_PRECONDITION);
  CHECK_THAT(refused.message, Catch::Contains("12345678-1234-4234-8234-123456789abc"));
  CHECK(mounts_beneath(rig.staging("v")).empty());
}

TEST_CASE("stage: a filesystem that e2fsck can't mend by itself is refused, and its health can be asked about", "[stage][root]") {
  Rig rig;
  const std::string id = rig.create("v", ext4);
  REQUIRE(rig.stage(id, ext4, rig.staging("v")) == OK);
  REQUIRE(rig.unstage(id, rig.staging("v")) == OK);
  // The root directory's inode is gone, and the superblock says that there were errors.
  REQUIRE(run_tool({"debugfs", "-w", "-R", "clri <2>", rig.image_of(id)}) == 0);
  REQUIRE(run_tool({"debugfs", "-w", "-R", "set_super_value state 2", rig.image_of(id)}) == 0);
  const Outcome refused = rig.stage(id, ext4, rig.staging("v"));
  CHECK(refused == FAILED_PRECONDITION);
  CHECK_THAT(refused.message, Catch::Contains("e2fsck"));
  CHECK(mounts_beneath(rig.staging("v")).empty());
  CHECK_FALSE(rig.node_health(id).empty());
}

TEST_CASE("stage: a second staging path is a further mount of the same filesystem, unstaged on its own", "[stage][root]") {
  const std::string fs_type = GENERATE("ext4", "xfs", "btrfs");
  Rig rig;
  const auto capability = mount_capability(single_node_writer, fs_type);
  const std::string id = rig.create("v", capability, small_size(fs_type));
  REQUIRE(rig.stage(id, capability, rig.staging("one")) == OK);
  REQUIRE(rig.stage(id, mount_capability(single_node_reader_only, fs_type), rig.staging("two")) == OK);
  CHECK(loops_beneath(rig.pool()).size() == 1);
  REQUIRE(try_write(rig.staging("one") / "file", "one") == 0);
  CHECK(read_file(rig.staging("two") / "file") == "one");
  CHECK(rig.unstage(id, rig.staging("one")) == OK);
  CHECK(read_file(rig.staging("two") / "file") == "one");
  CHECK(rig.unstage(id, rig.staging("two")) == OK);
  CHECK(leaks_beneath(rig.root()) == "");
}

TEST_CASE("unstage: not staged there is OK", "[stage][root]") {
  Rig rig;
  const std::string id = rig.create("v", ext4);
  CHECK(rig.unstage(id, rig.staging("v")) == OK);
  CHECK(rig.unstage(id, rig.root() / "stage/never-made") == OK);
  REQUIRE(rig.stage(id, ext4, rig.staging("v")) == OK);
  CHECK(rig.unstage(id, rig.staging("v")) == OK);
  CHECK(rig.unstage(id, rig.staging("v")) == OK);
  CHECK(rig.remove(id) == OK);
  CHECK(rig.unstage(id, rig.staging("v")) == OK);
}

TEST_CASE("unstage: still published from that staging path is FAILED_PRECONDITION", "[stage][root]") {
  Rig rig;
  const bool block = GENERATE(false, true);
  const LiveVolume volume = bring_up(rig, "v", block ? block_capability(single_node_writer) : ext4, 64 * mebi);
  const Outcome refused = rig.unstage(volume.id, volume.staging);
  CHECK(refused == FAILED_PRECONDITION);
  CHECK_THAT(refused.message, Catch::Contains(volume.target.string()));
  CHECK(rig.unpublish(volume.id, volume.target) == OK);
  CHECK(rig.unstage(volume.id, volume.staging) == OK);
  CHECK(leaks_beneath(rig.root()) == "");
}

TEST_CASE("unstage: never unmounts what is not ours", "[stage][root]") {
  Rig rig;
  const std::string id = rig.create("v", ext4);
  const fs::path somebodys = rig.staging("somebodys");
  REQUIRE(run_tool({"mount", "-t", "tmpfs", "tmpfs", somebodys}) == 0);
  rig.unstage(id, somebodys);
  CHECK(mounted_at(somebodys).fs_type == "tmpfs");
  CHECK_FALSE(rig.stage(id, ext4, somebodys) == OK);
  CHECK(mounts_beneath(somebodys).size() == 1);
}

TEST_CASE("unstage: a busy filesystem is refused plainly, and goes later", "[stage][root]") {
  Rig rig;
  const std::string id = rig.create("v", ext4);
  REQUIRE(rig.stage(id, ext4, rig.staging("v")) == OK);
  const int fd = ::open(rig.staging("v").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  CHECK(rig.unstage(id, rig.staging("v")) == FAILED_PRECONDITION);
  CHECK(mounted_at(rig.staging("v")).fs_type == "ext4");
  ::close(fd);
  CHECK(rig.unstage(id, rig.staging("v")) == OK);
}

TEST_CASE("stage: a filesystem that lives on in another mount namespace is staged again on the same loop, with its data", "[stage][root]") {
  const std::string fs_type = GENERATE("ext4", "xfs", "btrfs");
  Rig rig;
  const LiveVolume volume = bring_up(rig, "v", mount_capability(single_node_writer, fs_type));
  REQUIRE(try_write(volume.target / "file", "mine") == 0);
  {
    const NamespaceHolder elsewhere;
    REQUIRE(rig.unpublish(volume.id, volume.target) == OK);
    CHECK(rig.unstage(volume.id, volume.staging) == OK);
    const auto loops = loops_beneath(rig.pool());
    REQUIRE(loops.size() == 1);
    CHECK(rig.remove(volume.id) == FAILED_PRECONDITION);
    REQUIRE(rig.stage(volume.id, volume.capability, volume.staging) == OK);
    const auto again = loops_beneath(rig.pool());
    REQUIRE(again.size() == 1);
    CHECK(again[0].path == loops[0].path);
    CHECK(read_file(volume.staging / "file") == "mine");
    CHECK(rig.unstage(volume.id, volume.staging) == OK);
  }
  CHECK(rig.remove(volume.id) == OK);
  CHECK(leaks_beneath(rig.root()) == "");
}

TEST_CASE("stage: options that a filesystem which lives on elsewhere has not are refused", "[stage][root]") {
  Rig rig;
  const LiveVolume volume = bring_up(rig, "v", mount_capability(single_node_writer, "ext4", {"commit=77"}));
  {
    const NamespaceHolder elsewhere;
    REQUIRE(rig.unpublish(volume.id, volume.target) == OK);
    REQUIRE(rig.unstage(volume.id, volume.staging) == OK);
    const Outcome refused = rig.stage(volume.id, mount_capability(single_node_writer, "ext4", {"commit=99"}), volume.staging);
    CHECK(refused == FAILED_PRECONDITION);
    CHECK_THAT(refused.message, Catch::Contains("still mounted elsewhere") && Catch::Contains("process "));
    CHECK(refused.message.find("commit") == std::string::npos);
    rig.agent().kill();
    rig.agent().start();
    REQUIRE(rig.stage(volume.id, volume.capability, volume.staging) == OK);
    REQUIRE(rig.unstage(volume.id, volume.staging) == OK);
    REQUIRE(rig.unstage(volume.id, volume.staging) == OK);  // once more: it forgets nothing
    REQUIRE(rig.stage(volume.id, mount_capability(single_node_writer, "ext4"), volume.staging) == OK);
    REQUIRE(rig.unstage(volume.id, volume.staging) == OK);
    REQUIRE(rig.stage(volume.id, volume.capability, volume.staging) == OK);
    rig.agent().kill();
    REQUIRE(::umount2(volume.staging.c_str(), 0) == 0);  // as when it dies between its unmount and its ledger
    rig.agent().start();
    REQUIRE(rig.stage(volume.id, volume.capability, volume.staging) == OK);
    REQUIRE(rig.unstage(volume.id, volume.staging) == OK);
  }
  CHECK(rig.stage(volume.id, mount_capability(single_node_writer, "ext4", {"commit=99"}), volume.staging) == OK);
  CHECK(rig.unstage(volume.id, volume.staging) == OK);
  CHECK(rig.remove(volume.id) == OK);
  CHECK(leaks_beneath(rig.root()) == "");
}

}  // namespace ordinald::testing
