// ordinalctl against a real agent with real mounts.
#include <filesystem>
#include <string>

#include "tests/support/rig.hpp"  // first: it says csi::v1 for ::csi::v1, which ordinald::csi would hide

#include "agent/ctl/csi_client.hpp"

namespace ordinald::testing {
namespace {

using namespace std::chrono_literals;
using ctl::Exit;

csi::Capability exclusive_ext4() {
  csi::Capability capability;
  capability.mode = csi::AccessMode::single_node_single_writer;
  capability.fs_type = "ext4";
  capability.mount_flags = {"noatime"};
  return capability;
}

csi::StringMap pod(const std::string& name, const std::string& uid) {
  return {{"csi.storage.k8s.io/pod.namespace", "prod"}, {"csi.storage.k8s.io/pod.name", name}, {"csi.storage.k8s.io/pod.uid", uid}};
}

}  // namespace

TEST_CASE("ctl: the CSI client takes a volume through its life", "[root]") {
  Rig rig;
  ctl::CsiClient client{rig.agent().endpoint()};
  csi::CreateVolumeArgs create;
  create.name = "pvc-1";
  create.capacity.required = 64 * mebi;
  create.capabilities = {exclusive_ext4()};
  create.parameters = {{"csi.storage.k8s.io/pvc/namespace", "prod"}, {"csi.storage.k8s.io/pvc/name", "data-db-0"}, {"identity", "ordinal"}};
  const auto volume = client.create_volume(create, 30s);
  REQUIRE(volume);
  CHECK(volume.value().capacity == 64 * mebi);
  CHECK(volume.value().topology == csi::StringMap{{"topology.ordinald.io/node", "node-1"}});
  const std::string id = volume.value().id;
  const auto listed = client.list_volumes(30s);
  REQUIRE(listed);
  CHECK(listed.value().size() == 1);
  CHECK(client.node_info(30s).value().node_id == "node-1");

  csi::StageArgs stage;
  stage.volume_id = id;
  stage.staging_path = rig.staging("pvc-1");
  stage.capability = exclusive_ext4();
  REQUIRE(client.stage(stage, 30s));
  csi::PublishArgs publish;
  publish.volume_id = id;
  publish.staging_path = stage.staging_path;
  publish.target_path = rig.target("a");
  publish.capability = exclusive_ext4();
  publish.volume_context = pod("db-0", "uid-a");
  REQUIRE(client.publish(publish, 30s));
  CHECK(try_write(rig.target("a") / "file") == 0);

  csi::PublishArgs second = publish;
  second.target_path = rig.target("b");
  second.volume_context = pod("db-0", "uid-b");
  const auto refused = client.publish(second, 30s);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == "FAILED_PRECONDITION");
  CHECK(refused.error().status == Exit::failed);
  CHECK(refused.error().message.find("prod/db-0") != std::string::npos);

  const auto grown = client.expand_volume(id, {.required = 96 * mebi, .limit = 0}, exclusive_ext4(), 30s);
  REQUIRE(grown);
  CHECK(grown.value().capacity == 96 * mebi);
  csi::NodeExpandArgs expand;
  expand.volume_id = id;
  expand.volume_path = publish.target_path;
  expand.staging_path = stage.staging_path;
  expand.capacity.required = 96 * mebi;
  expand.capability = exclusive_ext4();
  const auto node_grown = client.node_expand(expand, 30s);
  CHECK((!node_grown || node_grown.value() == 96 * mebi));  // a container may lack what a mounted ext4 needs to grow

  CHECK(client.delete_volume(id, 30s).error().code == "FAILED_PRECONDITION");
  CHECK(client.unpublish({.volume_id = id, .target_path = publish.target_path}, 30s));
  CHECK(client.unstage({.volume_id = id, .staging_path = stage.staging_path}, 30s));
  CHECK(client.delete_volume(id, 30s));
  CHECK(client.stage(stage, 30s).error().code == "NOT_FOUND");

  rig.agent().stop();
  const auto gone = client.list_volumes(30s);
  REQUIRE_FALSE(gone);
  CHECK(gone.error().status == Exit::unreachable);
  CHECK(gone.error().message.find("no agent at") != std::string::npos);
  ctl::CsiClient nobody{"unix:///nowhere/csi.sock"};
  CHECK(nobody.node_info(30s).error().status == Exit::unreachable);
}

TEST_CASE("ctl: a call that the agent does not finish in time is busy, and the next one joins it", "[root]") {
  const WritableUsr usr;
  Rig rig;
  ctl::CsiClient client{rig.agent().endpoint()};
  const std::string id = rig.create("pvc-1", mount_capability(single_node_single_writer, "ext4"));
  csi::StageArgs stage;
  stage.volume_id = id;
  stage.staging_path = rig.staging("pvc-1");
  stage.capability = exclusive_ext4();
  ToolGate gate{"/usr/sbin/mkfs.ext4"};
  const auto late = client.stage(stage, 300ms);
  REQUIRE_FALSE(late);
  CHECK(late.error().status == Exit::busy);
  CHECK(late.error().message.find("joins it") != std::string::npos);
  gate.wait_for_one();
  gate.let_one_through();
  CHECK(client.stage(stage, 30s));
  CHECK(gate.runs() == 1);
  CHECK(client.unstage({.volume_id = id, .staging_path = stage.staging_path}, 30s));
}

}  // namespace ordinald::testing
