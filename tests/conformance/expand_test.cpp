// "Node" and "Controller": expansion.
#include "tests/support/rig.hpp"

namespace ordinald::testing {
namespace {

v1::NodeExpandVolumeRequest node_expand(const std::string& id, const fs::path& path, std::int64_t required) {
  v1::NodeExpandVolumeRequest request;
  request.set_volume_id(id);
  request.set_volume_path(path);
  if (required > 0) request.mutable_capacity_range()->set_required_bytes(required);
  return request;
}

v1::ControllerExpandVolumeRequest controller_expand(const std::string& id, std::int64_t required) {
  v1::ControllerExpandVolumeRequest request;
  request.set_volume_id(id);
  request.mutable_capacity_range()->set_required_bytes(required);
  return request;
}

std::int64_t total(Rig& rig, const std::string& id, const fs::path& path) {
  v1::NodeGetVolumeStatsRequest request;
  request.set_volume_id(id);
  request.set_volume_path(path);
  const auto reply = rig.call(request);
  REQUIRE(outcome(reply) == OK);
  return reply->usage(0).total();
}

}  // namespace

TEST_CASE("node expand: an unknown volume, and a path that is not its own, are NOT_FOUND", "[expand][root]") {
  Rig rig;
  const LiveVolume volume = bring_up(rig, "v", mount_capability(single_node_writer, "xfs"));
  CHECK(outcome(rig.call(node_expand("no-such-volume", volume.target, 0))) == NOT_FOUND);
  CHECK(outcome(rig.call(node_expand("no-such-volume", "some/path", 0))) == NOT_FOUND);
  CHECK(outcome(rig.call(node_expand(volume.id, rig.root() / "nothing-here", 0))) == NOT_FOUND);
}

TEST_CASE("node expand: the pool grows the volume first, and the filesystem follows while it is mounted", "[expand][root]") {
  const std::string fs_type = GENERATE("xfs", "btrfs");
  Rig rig;
  const LiveVolume volume = bring_up(rig, "v", mount_capability(single_node_writer, fs_type));
  const std::int64_t size = 2 * small_size(fs_type);
  const auto reply = rig.call(node_expand(volume.id, volume.target, size));
  REQUIRE(outcome(reply) == OK);
  CHECK(reply->capacity_bytes() == size);
  CHECK(total(rig, volume.id, volume.target) > small_size(fs_type) * 3 / 2);
  CHECK(fs::file_size(rig.image_of(volume.id)) == static_cast<std::uintmax_t>(size));
  v1::ControllerGetVolumeRequest get;
  get.set_volume_id(volume.id);
  CHECK(rig.call(get)->volume().capacity_bytes() == size);
}

TEST_CASE("expand: a btrfs is not grown to less than Linux can, and stays usable", "[expand][root]") {
  Rig rig;
  const LiveVolume volume = bring_up(rig, "v", mount_capability(single_node_writer, "btrfs"), 128 * mebi);
  v1::ControllerExpandVolumeRequest request;
  request.set_volume_id(volume.id);
  request.mutable_capacity_range()->set_required_bytes(160 * mebi);
  CHECK(outcome(rig.call(request)) == OUT_OF_RANGE);
  CHECK(outcome(rig.call(node_expand(volume.id, volume.target, 160 * mebi))) == OUT_OF_RANGE);
  REQUIRE(rig.unpublish(volume.id, volume.target) == OK);
  REQUIRE(rig.unstage(volume.id, volume.staging) == OK);
  CHECK(rig.stage(volume.id, volume.capability, volume.staging) == OK);
  CHECK(outcome(rig.call(node_expand(volume.id, volume.staging, 256 * mebi))) == OK);
  CHECK(total(rig, volume.id, volume.staging) > 200 * mebi);
  // One that was never formatted is made as large as it is by then.
  const std::string blank = rig.create("blank", volume.capability, 128 * mebi);
  request.set_volume_id(blank);
  CHECK(outcome(rig.call(request)) == OK);
  CHECK(rig.stage(blank, volume.capability, rig.staging("blank")) == OK);
}

TEST_CASE("node expand: a mounted ext4 grows with CAP_SYS_RESOURCE; without, the refusal says so and the next stage grows it",
          "[expand][root]") {
  Rig rig;
  const LiveVolume volume = bring_up(rig, "v", mount_capability(single_node_writer, "ext4"));
  const std::int64_t before = total(rig, volume.id, volume.target);
  const Outcome result = outcome(rig.call(node_expand(volume.id, volume.target, 128 * mebi)));
  if (result == OK) {
    CHECK(total(rig, volume.id, volume.target) > before * 3 / 2);
    return;
  }
  CHECK(result == FAILED_PRECONDITION);
  CHECK_THAT(result.message, Catch::Contains("CAP_SYS_RESOURCE"));
  CHECK(rig.node_health(volume.id) == "GrowthPending");
  REQUIRE(rig.unpublish(volume.id, volume.target) == OK);
  REQUIRE(rig.unstage(volume.id, volume.staging) == OK);
  REQUIRE(rig.stage(volume.id, volume.capability, volume.staging) == OK);
  CHECK(total(rig, volume.id, volume.staging) > before * 3 / 2);
  CHECK(rig.node_health(volume.id) == "");
  CHECK(outcome(rig.call(node_expand(volume.id, volume.staging, 128 * mebi))) == OK);
}

TEST_CASE("node expand: the agent says once at start that a mounted ext4 can't grow", "[expand][root]") {
  Rig rig;
  const LiveVolume volume = bring_up(rig, "v", mount_capability(single_node_writer, "ext4"));
  const bool grows = outcome(rig.call(node_expand(volume.id, volume.target, 128 * mebi))) == OK;
  rig.agent().stop();
  fs::remove(rig.root() / "agent.log");
  rig.agent().start();
  CHECK((rig.agent().log().find("CAP_SYS_RESOURCE") == std::string::npos) == grows);
}

TEST_CASE("node expand: capacity_range is optional, and already large enough is OK", "[expand][root]") {
  Rig rig;
  const std::string fs_type = GENERATE("ext4", "xfs", "btrfs");
  const LiveVolume volume = bring_up(rig, "v", mount_capability(single_node_writer, fs_type));
  CHECK(outcome(rig.call(node_expand(volume.id, volume.target, 0))) == OK);
  const auto same = rig.call(node_expand(volume.id, volume.target, small_size(fs_type)));
  CHECK(outcome(same) == OK);
  CHECK(same->capacity_bytes() == small_size(fs_type));
}

TEST_CASE("node expand: never shrinks", "[expand][root]") {
  Rig rig;
  const LiveVolume volume = bring_up(rig, "v", mount_capability(single_node_writer, "xfs"));
  const auto reply = rig.call(node_expand(volume.id, volume.target, 100 * mebi));
  CHECK(outcome(reply) == OK);
  CHECK(reply->capacity_bytes() == 320 * mebi);
  CHECK(fs::file_size(rig.image_of(volume.id)) == static_cast<std::uintmax_t>(320 * mebi));
}

TEST_CASE("node expand: beyond limit_bytes is OUT_OF_RANGE, beyond the pool RESOURCE_EXHAUSTED", "[expand][root]") {
  Rig rig;
  const LiveVolume volume = bring_up(rig, "v", mount_capability(single_node_writer, "xfs"));
  auto request = node_expand(volume.id, volume.target, 0);
  request.mutable_capacity_range()->set_limit_bytes(100 * mebi);
  CHECK(outcome(rig.call(request)) == OUT_OF_RANGE);
  CHECK(outcome(rig.call(node_expand(volume.id, volume.target, std::int64_t{1} << 50))) == RESOURCE_EXHAUSTED);
  CHECK(fs::file_size(rig.image_of(volume.id)) == static_cast<std::uintmax_t>(320 * mebi));
}

TEST_CASE("node expand: block too, and the workload's device sees it", "[expand][root]") {
  Rig rig;
  const LiveVolume volume = bring_up(rig, "v", block_capability(single_node_writer), 64 * mebi);
  const auto reply = rig.call(node_expand(volume.id, volume.target, 96 * mebi));
  REQUIRE(outcome(reply) == OK);
  CHECK(reply->capacity_bytes() == 96 * mebi);
  CHECK(total(rig, volume.id, volume.target) == 96 * mebi);
}

TEST_CASE("controller expand: exactly the bytes asked; mounts need the node's part", "[expand][root]") {
  Rig rig;
  const std::string mount = rig.create("mount", mount_capability(single_node_writer, "ext4"));
  const auto reply = rig.call(controller_expand(mount, 100 * mebi));
  REQUIRE(outcome(reply) == OK);
  CHECK(reply->capacity_bytes() == 100 * mebi);
  CHECK(reply->node_expansion_required());
  const auto again = rig.call(controller_expand(mount, 100 * mebi));
  CHECK(outcome(again) == OK);
  CHECK(again->capacity_bytes() == 100 * mebi);
  const auto smaller = rig.call(controller_expand(mount, 50 * mebi));
  CHECK(outcome(smaller) == OK);
  CHECK(smaller->capacity_bytes() == 100 * mebi);
}

TEST_CASE("controller expand: unknown NOT_FOUND, beyond limit OUT_OF_RANGE, beyond the pool RESOURCE_EXHAUSTED or OUT_OF_RANGE",
          "[expand][root]") {
  Rig rig;
  const std::string id = rig.create("v", mount_capability(single_node_writer, "ext4"));
  CHECK(outcome(rig.call(controller_expand("no-such-volume", gibi))) == NOT_FOUND);
  v1::ControllerExpandVolumeRequest request;
  request.set_volume_id(id);
  request.mutable_capacity_range()->set_limit_bytes(mebi);
  CHECK(outcome(rig.call(request)) == OUT_OF_RANGE);
  const Outcome huge = outcome(rig.call(controller_expand(id, std::int64_t{1} << 50)));
  CHECK((huge == RESOURCE_EXHAUSTED || huge == OUT_OF_RANGE));
}

TEST_CASE("controller expand: the node's part comes later, with the pod's path, staging path, capability and bytes", "[expand][root]") {
  const std::string fs_type = GENERATE("xfs", "btrfs");
  Rig rig;
  const LiveVolume volume = bring_up(rig, "v", mount_capability(single_node_single_writer, fs_type));
  const std::int64_t size = 2 * small_size(fs_type);
  REQUIRE(outcome(rig.call(controller_expand(volume.id, size))) == OK);
  auto request = node_expand(volume.id, volume.target, size);
  request.set_staging_target_path(volume.staging);
  *request.mutable_volume_capability() = volume.capability;
  const auto reply = rig.call(request);
  REQUIRE(outcome(reply) == OK);
  CHECK(reply->capacity_bytes() == size);
  CHECK(total(rig, volume.id, volume.target) > small_size(fs_type) * 3 / 2);
}

}  // namespace ordinald::testing
