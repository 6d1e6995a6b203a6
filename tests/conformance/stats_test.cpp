// "Node": GetVolumeStats.
#include <set>

#include "tests/support/rig.hpp"

namespace ordinald::testing {
namespace {

auto stats(Rig& rig, const std::string& id, const std::string& path) {
  v1::NodeGetVolumeStatsRequest request;
  request.set_volume_id(id);
  request.set_volume_path(path);
  return rig.call(request);
}

}  // namespace

TEST_CASE("stats: an unknown volume is NOT_FOUND, before any complaint about the path", "[stats][root]") {
  Rig rig;
  CHECK(outcome(stats(rig, "no-such-volume", "some/path")) == NOT_FOUND);
  CHECK(outcome(stats(rig, "no-such-volume", rig.target("pod"))) == NOT_FOUND);
}

TEST_CASE("stats: a path that is not this volume's is NOT_FOUND", "[stats][root]") {
  Rig rig;
  const LiveVolume one = bring_up(rig, "one", mount_capability(single_node_writer, "ext4"));
  const LiveVolume two = bring_up(rig, "two", mount_capability(single_node_writer, "ext4"));
  CHECK(outcome(stats(rig, one.id, two.target)) == NOT_FOUND);
  CHECK(outcome(stats(rig, one.id, "/")) == NOT_FOUND);
  CHECK(outcome(stats(rig, one.id, rig.root() / "nothing-here")) == NOT_FOUND);
  REQUIRE(rig.unpublish(one.id, one.target) == OK);
  CHECK(outcome(stats(rig, one.id, one.target)) == NOT_FOUND);
}

TEST_CASE("stats: bytes and inodes, never negative, at the target and at the staging path", "[stats][root]") {
  const std::string fs_type = GENERATE("ext4", "xfs", "btrfs");
  Rig rig;
  const LiveVolume volume = bring_up(rig, "v", mount_capability(single_node_writer, fs_type));
  for (const fs::path& path : {volume.target, volume.staging}) {
    const auto reply = stats(rig, volume.id, path);
    REQUIRE(outcome(reply) == OK);
    std::set<int> units;
    for (const auto& usage : reply->usage()) {
      units.insert(usage.unit());
      CHECK(usage.total() >= 0);
      CHECK(usage.used() >= 0);
      CHECK(usage.available() >= 0);
      if (usage.unit() == v1::VolumeUsage_Unit_BYTES) {
        CHECK(usage.total() > small_size(fs_type) / 2);
        CHECK(usage.total() <= small_size(fs_type));
      }
    }
    CHECK(units.contains(v1::VolumeUsage_Unit_BYTES));
    CHECK(units.contains(v1::VolumeUsage_Unit_INODES));
  }
}

TEST_CASE("stats: what a workload writes is seen", "[stats][root]") {
  Rig rig;
  const LiveVolume volume = bring_up(rig, "v", mount_capability(single_node_writer, "ext4"));
  const auto before = stats(rig, volume.id, volume.target)->usage(0).used();
  REQUIRE(try_write(volume.target / "file", std::string(8 * mebi, 'x')) == 0);
  CHECK(stats(rig, volume.id, volume.target)->usage(0).used() >= before + 8 * mebi);
}

TEST_CASE("stats: of a block volume the device's size", "[stats][root]") {
  Rig rig;
  const LiveVolume volume = bring_up(rig, "v", block_capability(single_node_writer), 96 * mebi);
  const auto reply = stats(rig, volume.id, volume.target);
  REQUIRE(outcome(reply) == OK);
  REQUIRE(reply->usage_size() == 1);
  CHECK(reply->usage(0).unit() == v1::VolumeUsage_Unit_BYTES);
  CHECK(reply->usage(0).total() == 96 * mebi);
}

}  // namespace ordinald::testing
