// The services over a fake port, through a real socket: what is advertised, what is passed on, what comes back.
#include <catch2/catch.hpp>
#include <chrono>
#include <set>
#include <stdexcept>
#include <string>

#include "csi/status.hpp"
#include "tests/csi/running_server.hpp"

using namespace ordinald;
using namespace ordinald::csi;
using grpc::ClientContext;
using grpc::StatusCode;
using Mode = v1::VolumeCapability::AccessMode;

namespace {

v1::VolumeCapability capability() {
  v1::VolumeCapability result;
  result.mutable_mount()->set_fs_type("ext4");
  result.mutable_access_mode()->set_mode(Mode::SINGLE_NODE_WRITER);
  return result;
}

v1::CreateVolumeRequest create_request() {
  v1::CreateVolumeRequest request;
  request.set_name("pvc-1");
  *request.add_volume_capabilities() = capability();
  return request;
}

v1::NodePublishVolumeRequest publish_request() {
  v1::NodePublishVolumeRequest request;
  request.set_volume_id("v-1");
  request.set_staging_target_path("/stage");
  request.set_target_path("/target");
  *request.mutable_volume_capability() = capability();
  return request;
}

v1::NodeUnpublishVolumeRequest unpublish_request() {
  v1::NodeUnpublishVolumeRequest request;
  request.set_volume_id("v-1");
  request.set_target_path("/target");
  return request;
}

template <class Response>
auto rpc_types(const Response& response) {
  std::set<int> types;
  for (const auto& capability : response.capabilities()) {
    types.insert(capability.rpc().type());
  }
  CHECK(static_cast<int>(types.size()) == response.capabilities_size());  // none twice
  return types;
}

}  // namespace

TEST_CASE("identity: name, version, capabilities, readiness", "[csi][services]") {
  RunningServer server{{.name = "csi.example.org", .vendor_version = "1.2.3", .controller_expansion = true}};

  v1::GetPluginInfoResponse info;
  ClientContext info_call;
  REQUIRE(server.identity->GetPluginInfo(&info_call, {}, &info).ok());
  CHECK(info.name() == "csi.example.org");
  CHECK(info.vendor_version() == "1.2.3");

  v1::GetPluginCapabilitiesResponse offered;
  ClientContext offered_call;
  REQUIRE(server.identity->GetPluginCapabilities(&offered_call, {}, &offered).ok());
  REQUIRE(offered.capabilities_size() == 3);
  CHECK(offered.capabilities(0).service().type() == v1::PluginCapability::Service::CONTROLLER_SERVICE);
  CHECK(offered.capabilities(1).service().type() == v1::PluginCapability::Service::VOLUME_ACCESSIBILITY_CONSTRAINTS);
  CHECK(offered.capabilities(2).volume_expansion().type() == v1::PluginCapability::VolumeExpansion::ONLINE);

  for (const bool ready : {true, false}) {
    server.ops.ready_answer = ready;
    v1::ProbeResponse probe;
    ClientContext probe_call;
    REQUIRE(server.identity->Probe(&probe_call, {}, &probe).ok());
    REQUIRE(probe.has_ready());
    CHECK(probe.ready().value() == ready);
  }
  server.ops.hook = [](const std::string&) -> Result<void> {
    return mount::make_error(mount::ErrorCode::failed_precondition, "restart me");
  };
  v1::ProbeResponse probe;
  ClientContext probe_call;
  CHECK(server.identity->Probe(&probe_call, {}, &probe).error_code() == StatusCode::FAILED_PRECONDITION);
}

TEST_CASE("node and controller advertise exactly what they serve", "[csi][services]") {
  const bool expansion = GENERATE(true, false);
  RunningServer server{{.name = "csi.example.org", .vendor_version = "1", .controller_expansion = expansion}};

  using NodeRpc = v1::NodeServiceCapability::RPC;
  v1::NodeGetCapabilitiesResponse node;
  ClientContext node_call;
  REQUIRE(server.node->NodeGetCapabilities(&node_call, {}, &node).ok());
  CHECK(rpc_types(node) == std::set<int>{NodeRpc::STAGE_UNSTAGE_VOLUME, NodeRpc::GET_VOLUME_STATS, NodeRpc::GET_VOLUME_HEALTH,
                                         NodeRpc::GET_STORAGE_HEALTH, NodeRpc::EXPAND_VOLUME, NodeRpc::SINGLE_NODE_MULTI_WRITER,
                                         NodeRpc::VOLUME_MOUNT_GROUP});

  using ControllerRpc = v1::ControllerServiceCapability::RPC;
  std::set<int> wanted{ControllerRpc::CREATE_DELETE_VOLUME,
                       ControllerRpc::LIST_VOLUMES,
                       ControllerRpc::GET_CAPACITY,
                       ControllerRpc::GET_VOLUME,
                       ControllerRpc::GET_VOLUME_HEALTH,
                       ControllerRpc::LIST_VOLUME_HEALTH,
                       ControllerRpc::SINGLE_NODE_MULTI_WRITER};
  if (expansion) {
    wanted.insert(ControllerRpc::EXPAND_VOLUME);
  }
  v1::ControllerGetCapabilitiesResponse controller;
  ClientContext controller_call;
  REQUIRE(server.controller->ControllerGetCapabilities(&controller_call, {}, &controller).ok());
  CHECK(rpc_types(controller) == wanted);

  v1::ControllerExpandVolumeRequest request;
  request.set_volume_id("v-1");
  request.mutable_capacity_range()->set_required_bytes(2 << 20);
  *request.mutable_volume_capability() = capability();
  v1::ControllerExpandVolumeResponse response;
  ClientContext call;
  const auto status = server.controller->ControllerExpandVolume(&call, request, &response);
  if (expansion) {
    REQUIRE(status.ok());
    CHECK(response.capacity_bytes() == 2 << 20);
    CHECK(response.node_expansion_required());
    CHECK(server.ops.volume_id == "v-1");
    CHECK(server.ops.expand_capacity.required == 2 << 20);
    CHECK(server.ops.expand_capability->fs_type == "ext4");
  } else {
    CHECK(status.error_code() == StatusCode::UNIMPLEMENTED);
    CHECK_FALSE(status.error_message().empty());
    CHECK(server.ops.verbs.empty());
  }
}

TEST_CASE("every method that isn't served is UNIMPLEMENTED, in words, and logged", "[csi][services]") {
  RunningServer server;
  for (const std::string& method : std::initializer_list<std::string>{
           "Controller/ControllerPublishVolume", "Controller/ControllerUnpublishVolume", "Controller/CreateSnapshot",
           "Controller/DeleteSnapshot", "Controller/ListSnapshots", "Controller/GetSnapshot", "Controller/ControllerModifyVolume",
           "GroupController/GroupControllerGetCapabilities", "GroupController/CreateVolumeGroupSnapshot",
           "GroupController/DeleteVolumeGroupSnapshot", "GroupController/GetVolumeGroupSnapshot", "SnapshotMetadata/GetMetadataAllocated",
           "SnapshotMetadata/GetMetadataDelta"}) {
    CAPTURE(method);
    const auto status = raw_call(server.channel, "/csi.v1." + method, "");
    CHECK(status.error_code() == StatusCode::UNIMPLEMENTED);
    CHECK_THAT(status.error_message(), Catch::Matchers::Contains(method.substr(method.find('/') + 1)));
    CHECK(status.error_details().empty());
  }
  CHECK(raw_call(server.channel, "/csi.v1.Node/NodeDance", "").error_code() == StatusCode::UNIMPLEMENTED);
  CHECK_FALSE(raw_call(server.channel, "/csi.v1.Node/NodeDance", "").error_message().empty());
  REQUIRE(server.server->shutdown(std::chrono::seconds{5}));
  CHECK_THAT(server.log.text(), Catch::Matchers::Contains("warning CreateSnapshot result=unimplemented"));
}

TEST_CASE("bytes that aren't the message are INVALID_ARGUMENT, in words", "[csi][services]") {
  RunningServer server;
  for (const std::string& bytes : {std::string{"\x0a\x05zz"}, std::string{"\x0a\x02\xff\xfe"}}) {  // cut short; not UTF-8
    const auto status = raw_call(server.channel, "/csi.v1.Node/NodeUnpublishVolume", bytes);
    CHECK(status.error_code() == StatusCode::INVALID_ARGUMENT);
    CHECK_THAT(status.error_message(), Catch::Matchers::Contains("NodeUnpublishVolume"));
    CHECK(server.ops.verbs.empty());
  }
}

TEST_CASE("controller calls reach the port and bring back its answers", "[csi][services]") {
  RunningServer server;

  v1::CreateVolumeResponse created;
  ClientContext create;
  REQUIRE(server.controller->CreateVolume(&create, create_request(), &created).ok());
  CHECK(server.ops.create_args.name == "pvc-1");
  CHECK(created.volume().volume_id() == "v-1");
  CHECK(created.volume().capacity_bytes() == 1 << 30);
  CHECK(created.volume().volume_context().at("pool") == "p");
  CHECK(created.volume().accessible_topology(0).segments().at("topology.ordinald.io/node") == "n1");

  v1::ControllerGetVolumeRequest get_request;
  get_request.set_volume_id("v-1");
  v1::ControllerGetVolumeResponse got;
  ClientContext get;
  REQUIRE(server.controller->ControllerGetVolume(&get, get_request, &got).ok());
  CHECK(got.volume().volume_id() == "v-1");
  CHECK(got.has_status());

  v1::DeleteVolumeRequest delete_request;
  delete_request.set_volume_id("v-2");
  v1::DeleteVolumeResponse deleted;
  ClientContext remove;
  REQUIRE(server.controller->DeleteVolume(&remove, delete_request, &deleted).ok());
  CHECK(server.ops.volume_id == "v-2");

  server.ops.volumes = {.entries = {Volume{.id = "a", .capacity = 1, .context = {}, .topology = {}},
                                    Volume{.id = "b", .capacity = 2, .context = {}, .topology = {}}},
                        .next = "token"};
  v1::ListVolumesRequest list_request;
  list_request.set_max_entries(2);
  list_request.set_starting_token("start");
  v1::ListVolumesResponse listed;
  ClientContext list;
  REQUIRE(server.controller->ListVolumes(&list, list_request, &listed).ok());
  CHECK(server.ops.page_args.max_entries == 2);
  CHECK(server.ops.page_args.starting_token == "start");
  REQUIRE(listed.entries_size() == 2);
  CHECK(listed.entries(1).volume().volume_id() == "b");
  CHECK(listed.next_token() == "token");

  server.ops.capacity = {.available = 10, .maximum_volume_size = 9, .minimum_volume_size = 1};
  v1::GetCapacityRequest capacity_request;
  (*capacity_request.mutable_accessible_topology()->mutable_segments())["n"] = "1";
  v1::GetCapacityResponse capacity_response;
  ClientContext capacity_call;
  REQUIRE(server.controller->GetCapacity(&capacity_call, capacity_request, &capacity_response).ok());
  CHECK(capacity_response.available_capacity() == 10);
  CHECK(capacity_response.maximum_volume_size().value() == 9);
  CHECK(capacity_response.minimum_volume_size().value() == 1);
  CHECK(server.ops.capacity_args.topology == StringMap{{"n", "1"}});

  server.ops.unwell = {.entries = {{.volume_id = "a", .entries = {{HealthStatus::inaccessible, "FileMissing", "m"}}}}, .next = "more"};
  v1::ControllerListVolumeHealthResponse unwell;
  ClientContext unwell_call;
  REQUIRE(server.controller->ControllerListVolumeHealth(&unwell_call, {}, &unwell).ok());
  CHECK(unwell.entries(0).volume_id() == "a");
  CHECK(unwell.entries(0).health_statuses(0).status() == v1::INACCESSIBLE);
  CHECK(unwell.next_token() == "more");

  v1::ControllerGetVolumeHealthRequest health_request;
  health_request.set_volume_id("v-1");
  v1::ControllerGetVolumeHealthResponse health;
  ClientContext health_call;
  REQUIRE(server.controller->ControllerGetVolumeHealth(&health_call, health_request, &health).ok());
  CHECK(health.volume_health().volume_id() == "v-1");
  CHECK(health.volume_health().health_statuses_size() == 0);
}

TEST_CASE("validation is confirmed with what was asked, or says why not", "[csi][services]") {
  RunningServer server;
  v1::ValidateVolumeCapabilitiesRequest request;
  request.set_volume_id("v-1");
  *request.add_volume_capabilities() = capability();
  (*request.mutable_volume_context())["pool"] = "p";
  (*request.mutable_parameters())["x"] = "y";

  v1::ValidateVolumeCapabilitiesResponse yes;
  ClientContext first;
  REQUIRE(server.controller->ValidateVolumeCapabilities(&first, request, &yes).ok());
  REQUIRE(yes.has_confirmed());
  CHECK(yes.confirmed().volume_capabilities(0).mount().fs_type() == "ext4");
  CHECK(yes.confirmed().volume_context().at("pool") == "p");
  CHECK(yes.confirmed().parameters().at("x") == "y");
  CHECK(server.ops.validate_args.context == StringMap{{"pool", "p"}});

  server.ops.validation = {.confirmed = false, .message = "no such mode here"};
  v1::ValidateVolumeCapabilitiesResponse no;
  ClientContext second;
  REQUIRE(server.controller->ValidateVolumeCapabilities(&second, request, &no).ok());
  CHECK_FALSE(no.has_confirmed());
  CHECK(no.message() == "no such mode here");
}

TEST_CASE("node calls reach the port and bring back its answers", "[csi][services]") {
  RunningServer server;

  v1::NodeStageVolumeRequest stage_request;
  stage_request.set_volume_id("v-1");
  stage_request.set_staging_target_path("/stage");
  *stage_request.mutable_volume_capability() = capability();
  (*stage_request.mutable_volume_context())["pool"] = "p";
  (*stage_request.mutable_secrets())["k"] = "s";
  v1::NodeStageVolumeResponse staged;
  ClientContext stage;
  REQUIRE(server.node->NodeStageVolume(&stage, stage_request, &staged).ok());
  CHECK(server.ops.stage_args.volume_id == "v-1");
  CHECK(server.ops.stage_args.staging_path == "/stage");
  CHECK(server.ops.stage_args.capability.fs_type == "ext4");
  CHECK(server.ops.stage_args.volume_context == StringMap{{"pool", "p"}});

  auto request = publish_request();
  request.set_readonly(true);
  (*request.mutable_volume_context())["csi.storage.k8s.io/pod.uid"] = "u";
  v1::NodePublishVolumeResponse published;
  ClientContext publish;
  REQUIRE(server.node->NodePublishVolume(&publish, request, &published).ok());
  CHECK(server.ops.publish_args.target_path == "/target");
  CHECK(server.ops.publish_args.staging_path == "/stage");
  CHECK(server.ops.publish_args.readonly);
  CHECK(server.ops.publish_args.volume_context.at("csi.storage.k8s.io/pod.uid") == "u");

  v1::NodeUnpublishVolumeResponse unpublished;
  ClientContext unpublish;
  REQUIRE(server.node->NodeUnpublishVolume(&unpublish, unpublish_request(), &unpublished).ok());
  CHECK(server.ops.unpublish_args.target_path == "/target");

  v1::NodeUnstageVolumeRequest unstage_request;
  unstage_request.set_volume_id("v-1");
  unstage_request.set_staging_target_path("/stage");
  v1::NodeUnstageVolumeResponse unstaged;
  ClientContext unstage;
  REQUIRE(server.node->NodeUnstageVolume(&unstage, unstage_request, &unstaged).ok());
  CHECK(server.ops.unstage_args.staging_path == "/stage");

  server.ops.usage = {.block = false, .total = 3, .available = 2, .used = 1, .inodes = 6, .inodes_free = 4, .inodes_used = 2};
  v1::NodeGetVolumeStatsRequest stats_request;
  stats_request.set_volume_id("v-1");
  stats_request.set_volume_path("/target");
  v1::NodeGetVolumeStatsResponse stats;
  ClientContext stats_call;
  REQUIRE(server.node->NodeGetVolumeStats(&stats_call, stats_request, &stats).ok());
  CHECK(stats.usage(0).total() == 3);
  CHECK(stats.usage(1).available() == 4);

  v1::NodeGetVolumeHealthRequest health_request;
  health_request.set_volume_id("v-1");
  health_request.set_volume_publish_path("/target");
  server.ops.health.entries = {{HealthStatus::degraded, "GrowthPending", "m"}};
  v1::NodeGetVolumeHealthResponse health;
  ClientContext health_call;
  REQUIRE(server.node->NodeGetVolumeHealth(&health_call, health_request, &health).ok());
  CHECK(health.volume_health().health_statuses(0).status() == v1::DEGRADED);
  CHECK(server.ops.health_args.publish_path == "/target");

  server.ops.storage = {{StorageStatus::degraded, "NearlyFull", "m"}};
  v1::NodeGetStorageHealthResponse storage;
  ClientContext storage_call;
  REQUIRE(server.node->NodeGetStorageHealth(&storage_call, {}, &storage).ok());
  CHECK(storage.backend_health(0).reason() == "NearlyFull");

  server.ops.expanded = 99;
  v1::NodeExpandVolumeRequest expand_request;
  expand_request.set_volume_id("v-1");
  expand_request.set_volume_path("/target");
  expand_request.mutable_capacity_range()->set_required_bytes(99);
  v1::NodeExpandVolumeResponse expanded;
  ClientContext expand;
  REQUIRE(server.node->NodeExpandVolume(&expand, expand_request, &expanded).ok());
  CHECK(expanded.capacity_bytes() == 99);
  CHECK(server.ops.node_expand_args.capacity.required == 99);

  server.ops.node.max_volumes = 12;
  v1::NodeGetInfoResponse info;
  ClientContext info_call;
  REQUIRE(server.node->NodeGetInfo(&info_call, {}, &info).ok());
  CHECK(info.node_id() == "n1");
  CHECK(info.max_volumes_per_node() == 12);
  CHECK(info.accessible_topology().segments().at("topology.ordinald.io/node") == "n1");
}

TEST_CASE("the port's errors arrive with their code and text, and without details", "[csi][services]") {
  RunningServer server;
  for (const auto code :
       {mount::ErrorCode::not_found, mount::ErrorCode::already_exists, mount::ErrorCode::failed_precondition, mount::ErrorCode::aborted,
        mount::ErrorCode::resource_exhausted, mount::ErrorCode::out_of_range, mount::ErrorCode::internal, mount::ErrorCode::unavailable}) {
    server.ops.hook = [code](const std::string&) -> Result<void> { return mount::make_error(code, "volume v-1: so and so"); };
    v1::NodePublishVolumeResponse response;
    ClientContext context;
    const auto status = server.node->NodePublishVolume(&context, publish_request(), &response);
    CHECK(status.error_code() == to_status_code(code));
    CHECK(status.error_message() == "volume v-1: so and so");
    CHECK(status.error_details().empty());
  }
}

TEST_CASE("a request that convert refuses never reaches the port", "[csi][services]") {
  RunningServer server;
  v1::NodePublishVolumeResponse response;
  ClientContext context;
  CHECK(server.node->NodePublishVolume(&context, {}, &response).error_code() == StatusCode::INVALID_ARGUMENT);
  CHECK(server.ops.verbs.empty());
}

TEST_CASE("an exception is a bug, INTERNAL, and ends nothing else", "[csi][services]") {
  RunningServer server;
  server.ops.hook = [](const std::string& verb) -> Result<void> {
    if (verb == "unpublish") {
      throw std::runtime_error{"out of thin air"};
    }
    throw 5;  // NOLINT(hicpp-exception-baseclass): that is the point
  };
  v1::NodeUnpublishVolumeResponse unpublished;
  ClientContext first;
  const auto status = server.node->NodeUnpublishVolume(&first, unpublish_request(), &unpublished);
  CHECK(status.error_code() == StatusCode::INTERNAL);
  CHECK(status.error_message() == "bug: out of thin air");
  v1::NodePublishVolumeResponse published;
  ClientContext second;
  CHECK(server.node->NodePublishVolume(&second, publish_request(), &published).error_message() == "bug: an unknown exception");
  server.ops.hook = nullptr;
  ClientContext third;
  CHECK(server.node->NodeUnpublishVolume(&third, unpublish_request(), &unpublished).ok());
}

TEST_CASE("the caller's deadline is passed on", "[csi][services]") {
  using std::chrono::steady_clock;
  RunningServer server;
  v1::NodeUnpublishVolumeResponse response;

  ClientContext none;
  REQUIRE(server.node->NodeUnpublishVolume(&none, unpublish_request(), &response).ok());
  CHECK_FALSE(server.ops.context.deadline);

  ClientContext minute;
  minute.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds{60});
  REQUIRE(server.node->NodeUnpublishVolume(&minute, unpublish_request(), &response).ok());
  REQUIRE(server.ops.context.deadline);
  CHECK(*server.ops.context.deadline > steady_clock::now() + std::chrono::seconds{50});
  CHECK(*server.ops.context.deadline < steady_clock::now() + std::chrono::seconds{61});

  ClientContext century;  // further away than a clock of nanoseconds reaches from every epoch
  century.set_deadline(gpr_timespec{.tv_sec = 100LL * 365 * 24 * 3600, .tv_nsec = 0, .clock_type = GPR_TIMESPAN});
  REQUIRE(server.node->NodeUnpublishVolume(&century, unpublish_request(), &response).ok());
  CHECK_FALSE(server.ops.context.deadline);
}

TEST_CASE("one line an operation: method, volume, result, milliseconds, and the error", "[csi][services]") {
  RunningServer server{{}, mount::LogLevel::info};
  v1::NodeUnpublishVolumeResponse response;
  ClientContext good;
  REQUIRE(server.node->NodeUnpublishVolume(&good, unpublish_request(), &response).ok());
  server.ops.hook = [](const std::string&) -> Result<void> { return mount::make_error(mount::ErrorCode::aborted, "two\nlines"); };
  ClientContext bad;
  REQUIRE_FALSE(server.node->NodeUnpublishVolume(&bad, unpublish_request(), &response).ok());
  v1::CreateVolumeResponse created;
  auto named = create_request();
  named.set_name("p\"\n1");
  ClientContext create;
  REQUIRE_FALSE(server.controller->CreateVolume(&create, named, &created).ok());
  v1::NodeGetInfoResponse info;
  ClientContext quiet;
  REQUIRE(server.node->NodeGetInfo(&quiet, {}, &info).ok());
  REQUIRE(server.server->shutdown(std::chrono::seconds{5}));

  std::istringstream lines{server.log.text()};
  std::string line;
  std::getline(lines, line);
  CHECK_THAT(line, Catch::Matchers::Matches(R"(info NodeUnpublishVolume volume="v-1" result=ok ms=[0-9]+\.[0-9])"));
  std::getline(lines, line);
  CHECK_THAT(line, Catch::Matchers::Matches(R"(warning NodeUnpublishVolume volume="v-1" result=aborted ms=[0-9.]+ error="two\\nlines")"));
  std::getline(lines, line);
  CHECK_THAT(line, Catch::Matchers::Matches(R"(warning CreateVolume volume="p\\"\\n1" result=aborted ms=.*)"));
  CHECK_FALSE(std::getline(lines, line));
}
