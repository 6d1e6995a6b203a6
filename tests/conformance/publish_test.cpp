// "Node": Publish and Unpublish, mount flags and the mount group.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "tests/support/rig.hpp"

namespace ordinald::testing {
namespace {

const auto ext4 = mount_capability(single_node_multi_writer, "ext4");

v1::VolumeCapability with_group(const std::string& group) {
  auto capability = ext4;
  capability.mutable_mount()->set_volume_mount_group(group);
  return capability;
}

struct stat look(const fs::path& path) {
  struct stat info{};
  REQUIRE(::lstat(path.c_str(), &info) == 0);
  return info;
}

}  // namespace

TEST_CASE("publish: without a staging path is FAILED_PRECONDITION", "[publish][root]") {
  Rig rig;
  const LiveVolume volume = bring_up(rig, "v", ext4);
  auto request = rig.publish_request(volume.id, ext4, "", rig.target("pod"));
  CHECK(outcome(rig.call(request)) == FAILED_PRECONDITION);
}

TEST_CASE("publish: nothing of ours mounted at the staging path is FAILED_PRECONDITION", "[publish][root]") {
  Rig rig;
  const std::string id = rig.create("v", ext4);
  CHECK(rig.publish(id, ext4, rig.staging("v"), rig.target("pod")) == FAILED_PRECONDITION);
  CHECK(rig.publish(id, ext4, rig.root() / "never-made", rig.target("pod")) == FAILED_PRECONDITION);
  REQUIRE(rig.stage(id, ext4, rig.staging("v")) == OK);
  REQUIRE(rig.unstage(id, rig.staging("v")) == OK);
  CHECK(rig.publish(id, ext4, rig.staging("v"), rig.target("pod")) == FAILED_PRECONDITION);
  CHECK_FALSE(fs::exists(rig.target("pod")));
}

TEST_CASE("publish: somebody else's mount at the staging path is FAILED_PRECONDITION", "[publish][root]") {
  Rig rig;
  const std::string id = rig.create("v", ext4);
  REQUIRE(run_tool({"mount", "-t", "tmpfs", "tmpfs", rig.staging("v")}) == 0);
  CHECK(rig.publish(id, ext4, rig.staging("v"), rig.target("pod")) == FAILED_PRECONDITION);
  CHECK(mounts_beneath(rig.root() / "pods").empty());
}

TEST_CASE("publish: unmounted by somebody since it was staged is FAILED_PRECONDITION, never an empty directory", "[publish][root]") {
  Rig rig;
  const std::string id = rig.create("v", ext4);
  REQUIRE(rig.stage(id, ext4, rig.staging("v")) == OK);
  REQUIRE(run_tool({"umount", rig.staging("v")}) == 0);
  CHECK(rig.publish(id, ext4, rig.staging("v"), rig.target("pod")) == FAILED_PRECONDITION);
  CHECK(mounts_beneath(rig.root() / "pods").empty());
}

TEST_CASE("publish: block not staged there since boot is FAILED_PRECONDITION", "[publish][root]") {
  Rig rig;
  const auto block = block_capability(single_node_writer);
  const std::string id = rig.create("v", block);
  CHECK(rig.publish(id, block, rig.staging("v"), rig.target("pod")) == FAILED_PRECONDITION);
  REQUIRE(rig.stage(id, block, rig.staging("v")) == OK);
  CHECK(rig.publish(id, block, rig.staging("other"), rig.target("pod")) == FAILED_PRECONDITION);
}

TEST_CASE("publish: an unknown volume is NOT_FOUND", "[publish][root]") {
  Rig rig;
  CHECK(rig.publish("no-such-volume", ext4, rig.staging("v"), rig.target("pod")) == NOT_FOUND);
}

TEST_CASE("publish: we make the target, a directory for mount and a file for block, and remove it", "[publish][root]") {
  Rig rig;
  const LiveVolume mount = bring_up(rig, "mount", ext4);
  CHECK(fs::is_directory(mount.target));
  REQUIRE(try_write(mount.target / "file", "content") == 0);
  CHECK(read_file(mount.staging / "file") == "content");
  CHECK(rig.unpublish(mount.id, mount.target) == OK);
  CHECK_FALSE(fs::exists(mount.target));
  CHECK(fs::exists(mount.target.parent_path()));

  const LiveVolume block = bring_up(rig, "block", block_capability(single_node_writer), 64 * mebi);
  CHECK(fs::is_block_file(block.target));
  CHECK(try_write_device(block.target) == 0);
  CHECK(rig.unpublish(block.id, block.target) == OK);
  CHECK_FALSE(fs::exists(block.target));
}

TEST_CASE("publish: a target that is there already is used", "[publish][root]") {
  Rig rig;
  const std::string id = rig.create("v", ext4);
  REQUIRE(rig.stage(id, ext4, rig.staging("v")) == OK);
  fs::create_directory(rig.target("pod"));
  CHECK(rig.publish(id, ext4, rig.staging("v"), rig.target("pod")) == OK);
  CHECK(mounted_at(rig.target("pod")).fs_type == "ext4");
}

TEST_CASE("publish: the parent is the caller's", "[publish][root]") {
  Rig rig;
  const std::string id = rig.create("v", ext4);
  REQUIRE(rig.stage(id, ext4, rig.staging("v")) == OK);
  const fs::path missing = rig.root() / "no-such-parent";
  for (const Outcome& refused : {rig.publish(id, ext4, rig.staging("v"), missing / "volume"), rig.stage(id, ext4, missing / "stage")}) {
    CHECK(refused == FAILED_PRECONDITION);  // NOT_FOUND would be: no such volume
    CHECK_THAT(refused.message, Catch::Contains(missing.string()) && Catch::Contains("make that directory first"));
  }
  CHECK_FALSE(fs::exists(missing));
}

TEST_CASE("publish: never through a symlink", "[publish][root]") {
  Rig rig;
  const std::string id = rig.create("v", ext4);
  REQUIRE(rig.stage(id, ext4, rig.staging("v")) == OK);
  fs::create_directory(rig.root() / "elsewhere");
  fs::create_directory_symlink(rig.root() / "elsewhere", rig.target("pod"));
  CHECK(rig.publish(id, ext4, rig.staging("v"), rig.target("pod")) == FAILED_PRECONDITION);
  CHECK(mounts_beneath(rig.root() / "elsewhere").empty());
  CHECK(rig.unpublish(id, rig.target("pod")) != INTERNAL);
  CHECK(fs::exists(rig.root() / "elsewhere"));
}

TEST_CASE("unpublish: not published is OK, and nothing with content is removed", "[publish][root]") {
  Rig rig;
  const std::string id = rig.create("v", ext4);
  CHECK(rig.unpublish(id, rig.target("never")) == OK);
  CHECK(rig.unpublish(id, rig.root() / "no-such-parent/volume") == OK);
  CHECK(rig.unpublish("no-such-volume", rig.target("never")) == OK);
  const fs::path theirs = rig.target("theirs");
  fs::create_directory(theirs);
  write_file(theirs / "precious", "data");
  rig.unpublish(id, theirs);
  CHECK(read_file(theirs / "precious") == "data");
}

TEST_CASE("unpublish: twice is OK", "[publish][root]") {
  Rig rig;
  const LiveVolume volume = bring_up(rig, "v", ext4);
  CHECK(rig.unpublish(volume.id, volume.target) == OK);
  CHECK(rig.unpublish(volume.id, volume.target) == OK);
}

TEST_CASE("unpublish: never unmounts what is not this volume's", "[publish][root]") {
  Rig rig;
  const LiveVolume one = bring_up(rig, "one", ext4);
  const std::string two = rig.create("two", ext4);
  rig.unpublish(two, one.target);
  CHECK(mounted_at(one.target).fs_type == "ext4");
  const fs::path theirs = rig.target("theirs");
  fs::create_directory(theirs);
  REQUIRE(run_tool({"mount", "-t", "tmpfs", "tmpfs", theirs}) == 0);
  rig.unpublish(two, theirs);
  CHECK(mounted_at(theirs).fs_type == "tmpfs");
}

TEST_CASE("publish: flags of the mount point are set on the bind", "[publish][root]") {
  Rig rig;
  const std::string id = rig.create("v", ext4);
  REQUIRE(rig.stage(id, ext4, rig.staging("v")) == OK);
  const auto flagged = mount_capability(single_node_multi_writer, "ext4", {"noexec", "nosuid", "nodev", "noatime"});
  REQUIRE(rig.publish(id, flagged, rig.staging("v"), rig.target("flagged")) == OK);
  CHECK_THAT(mounted_at(rig.target("flagged")).options,
             Catch::Contains("noexec") && Catch::Contains("nosuid") && Catch::Contains("nodev") && Catch::Contains("noatime"));
  const auto read_only = mount_capability(single_node_multi_writer, "ext4", {"ro"});
  REQUIRE(rig.publish(id, read_only, rig.staging("v"), rig.target("ro")) == OK);
  CHECK(try_write(rig.target("ro") / "file") == EROFS);
  REQUIRE(rig.publish(id, ext4, rig.staging("v"), rig.target("plain")) == OK);
  CHECK_THAT(mounted_at(rig.target("plain")).options, !Catch::Contains("noexec") && Catch::Contains("rw"));
}

TEST_CASE("publish: gets the same mount_flags as Stage; the filesystem's own are refused only when they differ", "[publish][root]") {
  Rig rig;
  const auto staged = mount_capability(single_node_multi_writer, "ext4", {"commit=17", "noexec"});
  const std::string id = rig.create("v", staged);
  REQUIRE(rig.stage(id, staged, rig.staging("v")) == OK);
  REQUIRE(rig.publish(id, staged, rig.staging("v"), rig.target("same")) == OK);
  CHECK_THAT(mounted_at(rig.target("same")).options, Catch::Contains("noexec"));
  const auto other = mount_capability(single_node_multi_writer, "ext4", {"commit=18", "noexec"});
  const Outcome refused = rig.publish(id, other, rig.staging("v"), rig.target("other"));
  CHECK_FALSE(refused == OK);
  CHECK_THAT(refused.message, !Catch::Contains("commit"));
  CHECK_FALSE(fs::exists(rig.target("other")));
}

TEST_CASE("publish: an fs_type other than the volume's is refused", "[publish][root]") {
  Rig rig;
  const std::string id = rig.create("v", ext4);
  REQUIRE(rig.stage(id, ext4, rig.staging("v")) == OK);
  CHECK_FALSE(rig.publish(id, mount_capability(single_node_multi_writer, "xfs"), rig.staging("v"), rig.target("pod")) == OK);
  CHECK_FALSE(rig.publish(id, block_capability(single_node_multi_writer), rig.staging("v"), rig.target("pod")) == OK);
}

TEST_CASE("publish: the mount group gets all that lies beneath", "[publish][root]") {
  Rig rig;
  const LiveVolume volume = bring_up(rig, "v", ext4);
  fs::create_directory(volume.target / "directory");
  write_file(volume.target / "directory/file", "x");
  write_file(volume.target / "program", "x");
  fs::permissions(volume.target / "directory/file", fs::perms(0600));
  fs::permissions(volume.target / "program", fs::perms(0700));
  REQUIRE(::chmod((volume.target / "program").c_str(), 04700) == 0);
  write_file(rig.root() / "outside", "x");
  fs::create_symlink(rig.root() / "outside", volume.target / "link");
  const auto outside = look(rig.root() / "outside");
  REQUIRE(rig.unpublish(volume.id, volume.target) == OK);

  REQUIRE(rig.publish(volume.id, with_group("4711"), volume.staging, volume.target) == OK);
  CHECK(look(volume.target).st_gid == 4711);
  CHECK((look(volume.target).st_mode & 02070) == 02070);
  CHECK(look(volume.target / "directory").st_gid == 4711);
  CHECK((look(volume.target / "directory").st_mode & 02070) == 02070);
  CHECK(look(volume.target / "directory/file").st_gid == 4711);
  CHECK((look(volume.target / "directory/file").st_mode & 07777) == 0660);
  CHECK(look(volume.target / "program").st_gid == 4711);
  CHECK((look(volume.target / "program").st_mode & 07777) == 04770);  // chown clears setuid; it is put back
  CHECK(look(rig.root() / "outside").st_gid == outside.st_gid);
  CHECK(look(rig.root() / "outside").st_mode == outside.st_mode);

  // A file that is made now inherits the group.
  write_file(volume.target / "directory/new", "x");
  CHECK(look(volume.target / "directory/new").st_gid == 4711);
}

TEST_CASE("publish: a read-only publication leaves the group alone", "[publish][root]") {
  Rig rig;
  const std::string id = rig.create("v", ext4);
  REQUIRE(rig.stage(id, ext4, rig.staging("v")) == OK);
  auto request = rig.publish_request(id, with_group("4711"), rig.staging("v"), rig.target("pod"));
  request.set_readonly(true);
  REQUIRE(outcome(rig.call(request)) == OK);
  CHECK(look(rig.target("pod")).st_gid == 0);
}

TEST_CASE("publish: the mount group is not compared at Stage", "[publish][root]") {
  Rig rig;
  const std::string id = rig.create("v", ext4);
  REQUIRE(rig.stage(id, with_group("4711"), rig.staging("v")) == OK);
  CHECK(rig.stage(id, with_group("4712"), rig.staging("v")) == OK);
  CHECK(rig.publish(id, with_group("4712"), rig.staging("v"), rig.target("pod")) == OK);
  CHECK(look(rig.target("pod")).st_gid == 4712);
}

TEST_CASE("publish: a mount group that is no number is INVALID_ARGUMENT", "[publish][root]") {
  Rig rig;
  const std::string id = rig.create("v", ext4);
  REQUIRE(rig.stage(id, ext4, rig.staging("v")) == OK);
  for (const char* group : {"staff", "-1", "4294967296", "12x"}) {
    INFO(group);
    CHECK(rig.publish(id, with_group(group), rig.staging("v"), rig.target("pod")) == INVALID_ARGUMENT);
  }
}

}  // namespace ordinald::testing
