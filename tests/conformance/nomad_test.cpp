// "What Nomad really sends".
#include <cerrno>

#include "tests/support/rig.hpp"

namespace ordinald::testing {

TEST_CASE("nomad: the volume's name with brackets goes through create and all paths", "[nomad][root]") {
  Rig rig;
  const auto capability = mount_capability(single_node_writer);
  auto create = rig.create_request("set[0]", capability, 64 * mebi);
  create.mutable_accessibility_requirements();  // comes empty
  const auto created = rig.call(create);
  REQUIRE(outcome(created) == OK);
  const std::string id = created->volume().volume_id();
  const fs::path staging = rig.staging("default/set[0]/rw-file-system-single-node-writer");
  const fs::path target = rig.target("per-alloc/7c0c/set[0]");
  REQUIRE(rig.stage(id, capability, staging) == OK);
  REQUIRE(rig.publish(id, capability, staging, target) == OK);
  CHECK(rig.unpublish(id, target) == OK);
  CHECK(rig.unstage(id, staging) == OK);
  CHECK(rig.remove(id) == OK);
  CHECK(leaks_beneath(rig.root()) == "");
}

TEST_CASE("nomad: each mode, and read-only, has a staging path of its own", "[nomad][root]") {
  Rig rig;
  const auto writer = mount_capability(multi_node_multi_writer, "ext4");
  const auto reader = mount_capability(single_node_reader_only, "ext4");
  const std::string id = rig.create("v", writer, 64 * mebi, {{"multiNodeModes", "allow"}});
  REQUIRE(rig.stage(id, writer, rig.staging("rw")) == OK);
  REQUIRE(rig.stage(id, reader, rig.staging("ro")) == OK);
  REQUIRE(rig.publish(id, writer, rig.staging("rw"), rig.target("alloc-1")) == OK);
  REQUIRE(rig.publish(id, writer, rig.staging("rw"), rig.target("alloc-2")) == OK);
  REQUIRE(try_write(rig.target("alloc-1") / "file", "shared") == 0);
  CHECK(read_file(rig.target("alloc-2") / "file") == "shared");
  CHECK(read_file(rig.staging("ro") / "file") == "shared");
  CHECK(rig.unstage(id, rig.staging("ro")) == OK);
  CHECK(read_file(rig.target("alloc-2") / "file") == "shared");
}

TEST_CASE("nomad: other filesystem flags at a second staging path are refused", "[nomad][root]") {
  Rig rig;
  const std::string id = rig.create("v", mount_capability(single_node_writer, "ext4"));
  REQUIRE(rig.stage(id, mount_capability(single_node_writer, "ext4", {"commit=17"}), rig.staging("one")) == OK);
  CHECK_FALSE(rig.stage(id, mount_capability(single_node_writer, "ext4", {"commit=18"}), rig.staging("two")) == OK);
  CHECK(rig.stage(id, mount_capability(single_node_writer, "ext4", {"commit=17"}), rig.staging("two")) == OK);
}

TEST_CASE("nomad: Unpublish and Unstage come even after a failed Stage, and are repeated", "[nomad][root]") {
  Rig rig;
  const std::string id = rig.create("v", mount_capability(single_node_writer, "ext4"));
  CHECK_FALSE(rig.stage(id, mount_capability(single_node_writer, "ext4", {"frobnicate"}), rig.staging("v")) == OK);
  for (int round = 0; round < 2; ++round) {
    CHECK(rig.unpublish(id, rig.target("alloc")) == OK);
    CHECK(rig.unstage(id, rig.staging("v")) == OK);
  }
  CHECK(leaks_beneath(rig.root()) == "");
  CHECK(rig.remove(id) == OK);
}

TEST_CASE("nomad: never NOT_FOUND while something is mounted there", "[nomad][root]") {
  Rig rig;
  const LiveVolume volume = bring_up(rig, "v", mount_capability(single_node_writer, "ext4"));
  rig.agent().stop();
  fs::remove(rig.record_of(volume.id));
  rig.agent().start();
  CHECK(rig.unpublish(volume.id, volume.target) != NOT_FOUND);
  CHECK(rig.unstage(volume.id, volume.staging) != NOT_FOUND);
  CHECK(mounts_beneath(rig.root()).empty());
}

TEST_CASE("nomad: DeleteVolume for a volume in use, and Unstage while another allocation has it published, are refused", "[nomad][root]") {
  Rig rig;
  const auto writer = mount_capability(multi_node_multi_writer, "ext4");
  const std::string id = rig.create("v", writer, 64 * mebi, {{"multiNodeModes", "allow"}});
  REQUIRE(rig.stage(id, writer, rig.staging("v")) == OK);
  REQUIRE(rig.publish(id, writer, rig.staging("v"), rig.target("alloc-1")) == OK);
  REQUIRE(rig.publish(id, writer, rig.staging("v"), rig.target("alloc-2")) == OK);
  CHECK(rig.remove(id) == FAILED_PRECONDITION);
  CHECK(rig.unpublish(id, rig.target("alloc-1")) == OK);
  CHECK(rig.unstage(id, rig.staging("v")) == FAILED_PRECONDITION);
  CHECK(try_write(rig.target("alloc-2") / "file") == 0);
  CHECK(rig.unpublish(id, rig.target("alloc-2")) == OK);
  CHECK(rig.unstage(id, rig.staging("v")) == OK);
}

TEST_CASE("nomad: a volume that grew while unused is grown by Stage", "[nomad][root]") {
  const std::string fs_type = GENERATE("ext4", "xfs", "btrfs");
  Rig rig;
  const auto capability = mount_capability(single_node_writer, fs_type);
  const std::string id = rig.create("v", capability, small_size(fs_type));
  REQUIRE(rig.stage(id, capability, rig.staging("v")) == OK);
  REQUIRE(try_write(rig.staging("v") / "file", "kept") == 0);
  const auto before = fs::space(rig.staging("v")).capacity;
  REQUIRE(rig.unstage(id, rig.staging("v")) == OK);
  v1::ControllerExpandVolumeRequest expand;
  expand.set_volume_id(id);
  expand.mutable_capacity_range()->set_required_bytes(3 * small_size(fs_type));
  REQUIRE(outcome(rig.call(expand)) == OK);
  REQUIRE(rig.stage(id, capability, rig.staging("v")) == OK);
  CHECK(fs::space(rig.staging("v")).capacity > 2 * before);
  CHECK(read_file(rig.staging("v") / "file") == "kept");
  CHECK(rig.node_health(id) == "");
}

TEST_CASE("nomad: NodeExpand and Validate carry mount {} without fs_type and flags", "[nomad][root]") {
  Rig rig;
  const LiveVolume volume = bring_up(rig, "v", mount_capability(single_node_writer, "xfs", {"noatime"}));
  v1::NodeExpandVolumeRequest expand;
  expand.set_volume_id(volume.id);
  expand.set_volume_path(volume.target);
  expand.mutable_capacity_range()->set_required_bytes(640 * mebi);
  *expand.mutable_volume_capability() = mount_capability(single_node_writer);
  CHECK(outcome(rig.call(expand)) == OK);
  v1::ValidateVolumeCapabilitiesRequest validate;
  validate.set_volume_id(volume.id);
  *validate.add_volume_capabilities() = mount_capability(single_node_writer);
  CHECK(rig.call(validate)->has_confirmed());
}

TEST_CASE("nomad: after its agent's restart nothing comes for running allocations, and they stay held", "[nomad][root]") {
  Rig rig;
  const LiveVolume volume = bring_up(rig, "v", mount_capability(single_node_writer, "ext4"));
  const Ending ending = rig.agent().stop();
  CHECK(ending.exited);
  CHECK(ending.status == 0);
  rig.agent().start();
  CHECK(try_write(volume.target / "file", "on") == 0);
  CHECK(rig.publish(volume.id, volume.capability, volume.staging, rig.target("another")) == FAILED_PRECONDITION);
  CHECK(rig.unpublish(volume.id, volume.target) == OK);
  CHECK(rig.unstage(volume.id, volume.staging) == OK);
}

}  // namespace ordinald::testing
