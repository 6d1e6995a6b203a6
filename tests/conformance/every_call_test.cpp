// "For every call": fields, sizes, secrets, what is not served.
#include <algorithm>
#include <functional>
#include <set>
#include <thread>

#include "tests/support/rig.hpp"

namespace ordinald::testing {
namespace {

/// A complete request, and ways to spoil it that must each give INVALID_ARGUMENT.
template <class Request>
struct Spoilt {
  const char* what;
  std::function<void(Request&)> spoil;
};

template <class Request>
void check_spoilt(Rig& rig, const Request& complete, const std::vector<Spoilt<Request>>& ways) {
  for (const Spoilt<Request>& way : ways) {
    Request request = complete;
    way.spoil(request);
    INFO(Request::descriptor()->name() << ": " << way.what);
    CHECK(outcome(rig.call(request)) == INVALID_ARGUMENT);
  }
}

v1::VolumeCapability without_access_type() {
  v1::VolumeCapability capability;
  capability.mutable_access_mode()->set_mode(single_node_writer);
  return capability;
}

v1::VolumeCapability without_mode() {
  v1::VolumeCapability capability;
  capability.mutable_mount();
  return capability;
}

}  // namespace

TEST_CASE("every call: a missing or malformed field is INVALID_ARGUMENT, controller", "[every_call][root]") {
  Rig rig;
  const auto capability = mount_capability(single_node_writer, "ext4");
  check_spoilt<v1::CreateVolumeRequest>(
      rig, rig.create_request("whole", capability, 64 * mebi),
      {{"no name", [](auto& r) { r.clear_name(); }},
       {"no capability", [](auto& r) { r.clear_volume_capabilities(); }},
       {"a capability without an access type", [](auto& r) { *r.mutable_volume_capabilities(0) = without_access_type(); }},
       {"a capability with mode UNKNOWN", [](auto& r) { *r.mutable_volume_capabilities(0) = without_mode(); }},
       {"a negative size", [](auto& r) { r.mutable_capacity_range()->set_required_bytes(-1); }},
       {"a negative limit", [](auto& r) { r.mutable_capacity_range()->set_limit_bytes(-1); }},
       {"required over limit", [](auto& r) { r.mutable_capacity_range()->set_limit_bytes(mebi); }},
       {"a name of 129 bytes", [](auto& r) { r.set_name(std::string(129, 'n')); }},
       {"an unknown parameter", [](auto& r) { (*r.mutable_parameters())["colour"] = "red"; }}});
  check_spoilt<v1::DeleteVolumeRequest>(rig, {}, {{"no volume id", [](auto&) {}}});
  check_spoilt<v1::ControllerGetVolumeRequest>(rig, {}, {{"no volume id", [](auto&) {}}});
  check_spoilt<v1::ControllerGetVolumeHealthRequest>(rig, {}, {{"no volume id", [](auto&) {}}});
  check_spoilt<v1::ListVolumesRequest>(rig, {}, {{"negative max_entries", [](auto& r) { r.set_max_entries(-1); }}});
  check_spoilt<v1::ControllerListVolumeHealthRequest>(rig, {}, {{"negative max_entries", [](auto& r) { r.set_max_entries(-1); }}});

  const std::string id = rig.create("known", capability);
  v1::ValidateVolumeCapabilitiesRequest validate;
  validate.set_volume_id(id);
  *validate.add_volume_capabilities() = capability;
  CHECK(outcome(rig.call(validate)) == OK);
  check_spoilt<v1::ValidateVolumeCapabilitiesRequest>(
      rig, validate,
      {{"no volume id", [](auto& r) { r.clear_volume_id(); }},
       {"no capability", [](auto& r) { r.clear_volume_capabilities(); }},
       {"a capability without an access type", [](auto& r) { *r.mutable_volume_capabilities(0) = without_access_type(); }},
       {"a capability with mode UNKNOWN", [](auto& r) { *r.mutable_volume_capabilities(0) = without_mode(); }}});
  v1::ControllerExpandVolumeRequest expand;
  expand.set_volume_id(id);
  expand.mutable_capacity_range()->set_required_bytes(96 * mebi);
  check_spoilt<v1::ControllerExpandVolumeRequest>(
      rig, expand,
      {{"no volume id", [](auto& r) { r.clear_volume_id(); }},
       {"no capacity range", [](auto& r) { r.clear_capacity_range(); }},
       {"a negative size", [](auto& r) { r.mutable_capacity_range()->set_required_bytes(-1); }},
       {"a capability with mode UNKNOWN", [](auto& r) { *r.mutable_volume_capability() = without_mode(); }}});
}

TEST_CASE("every call: a missing or malformed field is INVALID_ARGUMENT, node", "[every_call][root]") {
  Rig rig;
  const auto capability = mount_capability(single_node_writer, "ext4");
  const LiveVolume volume = bring_up(rig, "known", capability);
  check_spoilt<v1::NodeStageVolumeRequest>(
      rig, rig.stage_request(volume.id, capability, volume.staging),
      {{"no volume id", [](auto& r) { r.clear_volume_id(); }},
       {"no staging path", [](auto& r) { r.clear_staging_target_path(); }},
       {"a relative staging path", [](auto& r) { r.set_staging_target_path("some/path"); }},
       {"no capability", [](auto& r) { r.clear_volume_capability(); }},
       {"a capability without an access type", [](auto& r) { *r.mutable_volume_capability() = without_access_type(); }},
       {"a capability with mode UNKNOWN", [](auto& r) { *r.mutable_volume_capability() = without_mode(); }},
       {"a mount group that is no gid", [](auto& r) { r.mutable_volume_capability()->mutable_mount()->set_volume_mount_group("staff"); }},
       {"a volume id of 129 bytes", [](auto& r) { r.set_volume_id(std::string(129, 'v')); }},
       {"a volume context over 4 KiB", [](auto& r) { (*r.mutable_volume_context())["k"] = std::string(4096, 'x'); }},
       {"a publish context over 4 KiB", [](auto& r) { (*r.mutable_publish_context())["k"] = std::string(4096, 'x'); }},
       {"mount flags over 4 KiB", [](auto& r) { r.mutable_volume_capability()->mutable_mount()->add_mount_flags(std::string(4097, 'x')); }},
       {"a path over PATH_MAX", [](auto& r) { r.set_staging_target_path("/" + std::string(4096, 'p')); }}});
  check_spoilt<v1::NodePublishVolumeRequest>(
      rig, rig.publish_request(volume.id, capability, volume.staging, volume.target),
      {{"no volume id", [](auto& r) { r.clear_volume_id(); }},
       {"no target path", [](auto& r) { r.clear_target_path(); }},
       {"a relative target path", [](auto& r) { r.set_target_path("some/path"); }},
       {"no capability", [](auto& r) { r.clear_volume_capability(); }},
       {"a capability without an access type", [](auto& r) { *r.mutable_volume_capability() = without_access_type(); }},
       {"a capability with mode UNKNOWN", [](auto& r) { *r.mutable_volume_capability() = without_mode(); }},
       {"a path over PATH_MAX", [](auto& r) { r.set_target_path("/" + std::string(4096, 'p')); }}});
  v1::NodeUnstageVolumeRequest unstage;
  unstage.set_volume_id(volume.id);
  unstage.set_staging_target_path(volume.staging);
  check_spoilt<v1::NodeUnstageVolumeRequest>(
      rig, unstage,
      {{"no volume id", [](auto& r) { r.clear_volume_id(); }}, {"no staging path", [](auto& r) { r.clear_staging_target_path(); }}});
  v1::NodeUnpublishVolumeRequest unpublish;
  unpublish.set_volume_id(volume.id);
  unpublish.set_target_path(volume.target);
  check_spoilt<v1::NodeUnpublishVolumeRequest>(
      rig, unpublish, {{"no volume id", [](auto& r) { r.clear_volume_id(); }}, {"no target path", [](auto& r) { r.clear_target_path(); }}});
  v1::NodeGetVolumeStatsRequest stats;
  stats.set_volume_id(volume.id);
  stats.set_volume_path(volume.target);
  check_spoilt<v1::NodeGetVolumeStatsRequest>(
      rig, stats, {{"no volume id", [](auto& r) { r.clear_volume_id(); }}, {"no path", [](auto& r) { r.clear_volume_path(); }}});
  v1::NodeExpandVolumeRequest expand;
  expand.set_volume_id(volume.id);
  expand.set_volume_path(volume.target);
  check_spoilt<v1::NodeExpandVolumeRequest>(
      rig, expand,
      {{"no volume id", [](auto& r) { r.clear_volume_id(); }},
       {"no path", [](auto& r) { r.clear_volume_path(); }},
       {"a capability with mode UNKNOWN", [](auto& r) { *r.mutable_volume_capability() = without_mode(); }}});
  check_spoilt<v1::NodeGetVolumeHealthRequest>(rig, {}, {{"no volume id", [](auto&) {}}});
}

TEST_CASE("every call: a method whose capability is not advertised is UNIMPLEMENTED", "[every_call][root]") {
  Rig rig;
  CHECK(outcome(rig.call(v1::ControllerPublishVolumeRequest())) == UNIMPLEMENTED);
  CHECK(outcome(rig.call(v1::ControllerUnpublishVolumeRequest())) == UNIMPLEMENTED);
  CHECK(outcome(rig.call(v1::CreateSnapshotRequest())) == UNIMPLEMENTED);
  CHECK(outcome(rig.call(v1::DeleteSnapshotRequest())) == UNIMPLEMENTED);
  CHECK(outcome(rig.call(v1::ListSnapshotsRequest())) == UNIMPLEMENTED);
  CHECK(outcome(rig.call(v1::GetSnapshotRequest())) == UNIMPLEMENTED);
  CHECK(outcome(rig.call(v1::ControllerModifyVolumeRequest())) == UNIMPLEMENTED);
  // The services that are not served answer so too; their words are the library's.
  CHECK(rig.call(v1::GroupControllerGetCapabilitiesRequest()).code() == UNIMPLEMENTED);
  CHECK(rig.call(v1::CreateVolumeGroupSnapshotRequest()).code() == UNIMPLEMENTED);
}

TEST_CASE("every call: the capabilities are those that are served", "[every_call][root]") {
  const bool controller_expansion = GENERATE(true, false);
  Rig rig(Settings{{"controllerExpansion", controller_expansion}});

  std::set<std::string> controller;
  const auto controller_answer = rig.call(v1::ControllerGetCapabilitiesRequest());
  for (const auto& capability : controller_answer->capabilities())
    controller.insert(v1::ControllerServiceCapability_RPC_Type_Name(capability.rpc().type()));
  std::set<std::string> expected = {
      "CREATE_DELETE_VOLUME",    "LIST_VOLUMES", "GET_CAPACITY", "GET_VOLUME", "GET_VOLUME_HEALTH", "LIST_VOLUME_HEALTH",
      "SINGLE_NODE_MULTI_WRITER"};
  if (controller_expansion) expected.insert("EXPAND_VOLUME");
  CHECK(controller == expected);

  std::set<std::string> node;
  const auto node_answer = rig.call(v1::NodeGetCapabilitiesRequest());
  for (const auto& capability : node_answer->capabilities()) node.insert(v1::NodeServiceCapability_RPC_Type_Name(capability.rpc().type()));
  CHECK(node == std::set<std::string>{"STAGE_UNSTAGE_VOLUME", "GET_VOLUME_STATS", "GET_VOLUME_HEALTH", "GET_STORAGE_HEALTH",
                                      "EXPAND_VOLUME", "SINGLE_NODE_MULTI_WRITER", "VOLUME_MOUNT_GROUP"});

  std::set<std::string> plugin;
  const auto plugin_answer = rig.call(v1::GetPluginCapabilitiesRequest());
  for (const auto& capability : plugin_answer->capabilities()) {
    if (capability.has_service()) plugin.insert(v1::PluginCapability_Service_Type_Name(capability.service().type()));
    if (capability.has_volume_expansion())
      plugin.insert(v1::PluginCapability_VolumeExpansion_Type_Name(capability.volume_expansion().type()));
  }
  CHECK(plugin == std::set<std::string>{"CONTROLLER_SERVICE", "VOLUME_ACCESSIBILITY_CONSTRAINTS", "ONLINE"});

  const std::string id = rig.create("v", mount_capability(single_node_writer, "ext4"));
  v1::ControllerExpandVolumeRequest expand;
  expand.set_volume_id(id);
  expand.mutable_capacity_range()->set_required_bytes(96 * mebi);
  CHECK(outcome(rig.call(expand)) == (controller_expansion ? OK : UNIMPLEMENTED));
}

TEST_CASE("every call: the plugin's name begins and ends with a letter, and can be configured", "[every_call][root]") {
  {
    Rig rig;
    const auto info = rig.call(v1::GetPluginInfoRequest());
    CHECK(outcome(info) == OK);
    CHECK(info->name() == "csi.ordinald.io");
    CHECK_FALSE(info->vendor_version().empty());
  }
  Rig rig(Settings{{"pluginName", "disks.example.org"}});
  CHECK(rig.call(v1::GetPluginInfoRequest())->name() == "disks.example.org");
}

TEST_CASE("every call: Probe says ready", "[every_call][root]") {
  Rig rig;
  const auto probe = rig.call(v1::ProbeRequest());
  CHECK(outcome(probe) == OK);
  CHECK(probe->ready().value());
}

TEST_CASE("every call: Probe stays well when a pool is in trouble, for a restart would not mend it", "[every_call][root]") {
  Rig rig;
  fs::rename(rig.pool(), rig.root() / "pool-elsewhere");
  const auto probe = rig.call(v1::ProbeRequest());
  CHECK(outcome(probe) == OK);
  CHECK(probe->ready().value());
  fs::rename(rig.root() / "pool-elsewhere", rig.pool());
}

TEST_CASE("every call: NodeGetInfo gives node id, limit and topology", "[every_call][root]") {
  Rig rig(Settings{{"nodeId", "worker-7"}, {"maxVolumesPerNode", 12}});
  const auto info = rig.call(v1::NodeGetInfoRequest());
  CHECK(outcome(info) == OK);
  CHECK(info->node_id() == "worker-7");
  CHECK(info->max_volumes_per_node() == 12);
  CHECK(info->accessible_topology().segments().at("topology.ordinald.io/node") == "worker-7");
}

TEST_CASE("every call: a string of 128 bytes is taken", "[every_call][root]") {
  Rig rig;
  const auto capability = mount_capability(single_node_writer, "ext4");
  const std::string id = rig.create(std::string(128, 'n'), capability);
  CHECK(id.size() <= 128);
  CHECK(rig.stage(id, capability, rig.staging("s")) == OK);
  CHECK(rig.unstage(id, rig.staging("s")) == OK);
}

TEST_CASE("every call: the values of maps may be longer, a pod's name has up to 253 bytes", "[every_call][root]") {
  Rig rig;
  const LiveVolume volume = bring_up(rig, "v", mount_capability(single_node_multi_writer, "ext4"));
  auto request = rig.publish_request(volume.id, volume.capability, volume.staging, rig.target("long"));
  (*request.mutable_volume_context())["csi.storage.k8s.io/pod.name"] = std::string(253, 'p');
  CHECK(outcome(rig.call(request)) == OK);
}

TEST_CASE("every call: names refuse control characters", "[every_call][root]") {
  Rig rig;
  const auto capability = mount_capability(single_node_writer, "ext4");
  for (const char* name : {"a\x01", "a\x08z", "\x0b", "a\x0c", "a\x0e", "a\x1f", "a\x7f", "a\xc2\x80", "a\xc2\x9f"}) {
    INFO("name: " << name);
    CHECK(outcome(rig.call(rig.create_request(name, capability, 64 * mebi))) == INVALID_ARGUMENT);
  }
  CHECK(outcome(rig.call(rig.create_request(std::string("a\0b", 3), capability, 64 * mebi))) == INVALID_ARGUMENT);
}

TEST_CASE("every call: secrets and mount flags never reach the log or an error", "[every_call][root]") {
  Rig rig(Settings{{"logLevel", "trace"}}, false);
  rig.agent().start({}, {{"GRPC_TRACE", "all"}, {"GRPC_VERBOSITY", "debug"}});
  const std::string secret = "hunter2-very-secret";
  const std::string flag = "zebra-crossing";
  const auto capability = mount_capability(single_node_writer, "ext4");
  const auto with_flag = mount_capability(single_node_writer, "ext4", {"noatime", "nodev", flag + "=stripes"});
  const auto check = [&](const Outcome& result) {
    CHECK(result.message.find(secret) == std::string::npos);
    CHECK(result.message.find("zebra") == std::string::npos);
    return result;
  };

  auto create = rig.create_request("v", capability, 64 * mebi);
  (*create.mutable_secrets())["password"] = secret;
  const auto created = rig.call(create);
  REQUIRE(check(outcome(created)) == OK);
  const std::string id = created->volume().volume_id();
  auto stage = rig.stage_request(id, with_flag, rig.staging("v"));
  (*stage.mutable_secrets())["password"] = secret;
  const Outcome refused = check(outcome(rig.call(stage)));
  CHECK(refused == INVALID_ARGUMENT);
  CHECK_THAT(refused.message, Catch::Contains("mount_flags[2]"));
  *stage.mutable_volume_capability() = capability;
  CHECK(check(outcome(rig.call(stage))) == OK);
  auto publish = rig.publish_request(id, with_flag, rig.staging("v"), rig.target("pod"));
  (*publish.mutable_secrets())["password"] = secret;
  CHECK_FALSE(check(outcome(rig.call(publish))) == OK);
  *publish.mutable_volume_capability() = capability;
  CHECK(check(outcome(rig.call(publish))) == OK);
  CHECK(rig.unpublish(id, rig.target("pod")) == OK);
  CHECK(rig.unstage(id, rig.staging("v")) == OK);
  v1::DeleteVolumeRequest remove;
  remove.set_volume_id(id);
  (*remove.mutable_secrets())["password"] = secret;
  CHECK(check(outcome(rig.call(remove))) == OK);

  const std::string log = rig.agent().log();
  CHECK(log.find(secret) == std::string::npos);
  CHECK(log.find("zebra") == std::string::npos);
  CHECK(log.find("NodeStageVolume") != std::string::npos);
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(rig.root())) {
    if (!entry.is_regular_file() || entry.path().extension() == ".img") continue;
    INFO(entry.path());
    CHECK(read_file(entry.path()).find("zebra") == std::string::npos);
    CHECK(read_file(entry.path()).find(secret) == std::string::npos);
  }
}

TEST_CASE("every call: a call on a volume that is busy waits, and is ABORTED shortly before its deadline", "[every_call][root]") {
  Rig rig;
  const auto capability = mount_capability(single_node_writer, "ext4");
  const std::string id = rig.create("v", capability);
  ToolGate gate("/usr/sbin/mke2fs");
  Outcome first;
  std::jthread staging([&] { first = outcome(rig.call(rig.stage_request(id, capability, rig.staging("v")))); });
  gate.wait_for_one();

  const auto begin = std::chrono::steady_clock::now();
  const Outcome second = outcome(rig.call(rig.stage_request(id, capability, rig.staging("v")), std::chrono::seconds(5)));
  const auto took = std::chrono::steady_clock::now() - begin;
  CHECK(second == ABORTED);
  CHECK_THAT(second.message, Catch::Contains("NodeStageVolume"));  // what has been running, since when
  CHECK(took >= std::chrono::seconds(4));
  CHECK(took < std::chrono::seconds(5));

  gate.let_one_through();
  staging.join();
  CHECK(first == OK);
}

TEST_CASE("every call: volumes never wait for one another", "[every_call][root]") {
  Rig rig;
  const auto capability = mount_capability(single_node_writer, "ext4");
  const std::string slow = rig.create("slow", capability);
  ToolGate gate("/usr/sbin/mke2fs");
  Outcome first;
  std::jthread staging([&] { first = outcome(rig.call(rig.stage_request(slow, capability, rig.staging("slow")))); });
  gate.wait_for_one();
  const LiveVolume other = bring_up(rig, "other", mount_capability(single_node_writer, "xfs"));
  CHECK(rig.unpublish(other.id, other.target) == OK);
  gate.let_one_through();
  staging.join();
  CHECK(first == OK);
}

TEST_CASE("every call: a caller that gives up stops nothing, and the retry finds it done", "[every_call][root]") {
  Rig rig;
  const auto capability = mount_capability(single_node_writer, "ext4");
  const std::string id = rig.create("v", capability);
  ToolGate gate("/usr/sbin/mke2fs");
  Outcome first;
  std::jthread staging(
      [&] { first = outcome(rig.call(rig.stage_request(id, capability, rig.staging("v")), std::chrono::milliseconds(1000))); });
  gate.wait_for_one();
  staging.join();
  CHECK_FALSE(first == OK);
  gate.let_one_through();
  CHECK(rig.stage(id, capability, rig.staging("v")) == OK);
  CHECK(gate.runs() == 1);
  CHECK(mounted_at(rig.staging("v")).fs_type == "ext4");
}

}  // namespace ordinald::testing
