// Every rule about a request's fields, on the messages themselves.
#include "csi/convert.hpp"

#include <catch2/catch.hpp>
#include <cstdint>
#include <string>
#include <utility>

#include "csi/answers.hpp"

using namespace ordinald;
using namespace ordinald::csi;
using Mode = v1::VolumeCapability::AccessMode;

namespace {

v1::VolumeCapability mount_capability(Mode::Mode mode = Mode::SINGLE_NODE_WRITER) {
  v1::VolumeCapability capability;
  capability.mutable_mount();
  capability.mutable_access_mode()->set_mode(mode);
  return capability;
}

v1::CreateVolumeRequest create_request() {
  v1::CreateVolumeRequest request;
  request.set_name("pvc-1");
  *request.add_volume_capabilities() = mount_capability();
  return request;
}

v1::NodeStageVolumeRequest stage_request() {
  v1::NodeStageVolumeRequest request;
  request.set_volume_id("v-1");
  request.set_staging_target_path("/stage/v-1");
  *request.mutable_volume_capability() = mount_capability();
  return request;
}

v1::NodePublishVolumeRequest publish_request() {
  v1::NodePublishVolumeRequest request;
  request.set_volume_id("v-1");
  request.set_staging_target_path("/stage/v-1");
  request.set_target_path("/pods/1/mount");
  *request.mutable_volume_capability() = mount_capability();
  return request;
}

/// The message of the refusal, which must be one of the request itself.
template <class Request>
std::string refusal(const Request& request) {
  const auto args = to_args(request);
  REQUIRE_FALSE(args);
  CHECK(args.error().code == mount::ErrorCode::invalid_argument);
  return args.error().message;
}

auto names(const std::string& field) { return Catch::Matchers::StartsWith(field); }

}  // namespace

TEST_CASE("a whole create request becomes the port's struct", "[csi][convert]") {
  auto request = create_request();
  request.mutable_capacity_range()->set_required_bytes(5);
  request.mutable_capacity_range()->set_limit_bytes(7);
  (*request.mutable_parameters())["pool"] = "fast";
  (*request.mutable_secrets())["key"] = "x";
  (*request.mutable_accessibility_requirements()->add_requisite()->mutable_segments())["topology.ordinald.io/node"] = "n1";
  auto& capability = *request.mutable_volume_capabilities(0);
  capability.mutable_access_mode()->set_mode(Mode::SINGLE_NODE_SINGLE_WRITER);
  capability.mutable_mount()->set_fs_type("xfs");
  capability.mutable_mount()->add_mount_flags("noatime");
  capability.mutable_mount()->set_volume_mount_group("1000");

  const auto args = to_args(request);
  REQUIRE(args);
  CHECK(args.value().name == "pvc-1");
  CHECK(args.value().capacity.required == 5);
  CHECK(args.value().capacity.limit == 7);
  CHECK(args.value().parameters == StringMap{{"pool", "fast"}});
  CHECK(args.value().requisite == std::vector<StringMap>{{{"topology.ordinald.io/node", "n1"}}});
  REQUIRE(args.value().capabilities.size() == 1);
  const auto& got = args.value().capabilities.front();
  CHECK_FALSE(got.block);
  CHECK(got.mode == AccessMode::single_node_single_writer);
  CHECK(got.fs_type == "xfs");
  CHECK(got.mount_flags == std::vector<std::string>{"noatime"});
  CHECK(got.group == 1000U);
}

TEST_CASE("what Nomad and Kubernetes leave out or add is fine", "[csi][convert]") {
  auto create = create_request();
  create.mutable_accessibility_requirements();
  create.mutable_capacity_range();
  const auto args = to_args(create);
  REQUIRE(args);
  CHECK(args.value().requisite.empty());
  CHECK(args.value().capacity.required == 0);
  CHECK(args.value().capabilities.front().fs_type.empty());
  create.set_name("set[0]");
  CHECK(to_args(create));

  auto publish = publish_request();
  (*publish.mutable_volume_context())["csi.storage.k8s.io/pod.name"] = std::string(253, 'p');
  (*publish.mutable_volume_context())["csi.storage.k8s.io/pod.anything"] = "x";
  const auto published = to_args(publish);
  REQUIRE(published);
  CHECK(published.value().volume_context.size() == 2);
}

TEST_CASE("required fields are required", "[csi][convert]") {
  auto create = create_request();
  create.clear_name();
  CHECK_THAT(refusal(create), names("name is missing"));
  create = create_request();
  create.clear_volume_capabilities();
  CHECK_THAT(refusal(create), names("volume_capabilities is missing"));

  CHECK_THAT(refusal(v1::DeleteVolumeRequest{}), names("volume_id is missing"));
  CHECK_THAT(refusal(v1::ControllerGetVolumeRequest{}), names("volume_id is missing"));
  CHECK_THAT(refusal(v1::ControllerGetVolumeHealthRequest{}), names("volume_id is missing"));
  CHECK_THAT(refusal(v1::NodeGetVolumeHealthRequest{}), names("volume_id is missing"));

  v1::ValidateVolumeCapabilitiesRequest validate;
  CHECK_THAT(refusal(validate), names("volume_id is missing"));
  validate.set_volume_id("v");
  CHECK_THAT(refusal(validate), names("volume_capabilities is missing"));

  v1::ControllerExpandVolumeRequest expand;
  CHECK_THAT(refusal(expand), names("volume_id is missing"));
  expand.set_volume_id("v");
  CHECK_THAT(refusal(expand), names("capacity_range is missing"));
  expand.mutable_capacity_range();
  CHECK_THAT(refusal(expand), names("capacity_range is missing"));

  auto stage = stage_request();
  stage.clear_volume_id();
  CHECK_THAT(refusal(stage), names("volume_id is missing"));
  stage = stage_request();
  stage.clear_staging_target_path();
  CHECK_THAT(refusal(stage), names("staging_target_path is missing"));
  stage = stage_request();
  stage.clear_volume_capability();
  CHECK_THAT(refusal(stage), names("volume_capability is missing"));

  v1::NodeUnstageVolumeRequest unstage;
  CHECK_THAT(refusal(unstage), names("volume_id is missing"));
  unstage.set_volume_id("v");
  CHECK_THAT(refusal(unstage), names("staging_target_path is missing"));

  auto publish = publish_request();
  publish.clear_volume_id();
  CHECK_THAT(refusal(publish), names("volume_id is missing"));
  publish = publish_request();
  publish.clear_target_path();
  CHECK_THAT(refusal(publish), names("target_path is missing"));
  publish = publish_request();
  publish.clear_volume_capability();
  CHECK_THAT(refusal(publish), names("volume_capability is missing"));

  v1::NodeUnpublishVolumeRequest unpublish;
  CHECK_THAT(refusal(unpublish), names("volume_id is missing"));
  unpublish.set_volume_id("v");
  CHECK_THAT(refusal(unpublish), names("target_path is missing"));

  v1::NodeGetVolumeStatsRequest stats;
  CHECK_THAT(refusal(stats), names("volume_id is missing"));
  stats.set_volume_id("v");
  CHECK_THAT(refusal(stats), names("volume_path is missing"));

  v1::NodeExpandVolumeRequest node_expand;
  CHECK_THAT(refusal(node_expand), names("volume_id is missing"));
  node_expand.set_volume_id("v");
  CHECK_THAT(refusal(node_expand), names("volume_path is missing"));
}

TEST_CASE("a publish without a staging path is the port's to refuse", "[csi][convert]") {
  auto request = publish_request();
  request.clear_staging_target_path();
  const auto args = to_args(request);
  REQUIRE(args);
  CHECK(args.value().staging_path.empty());
}

TEST_CASE("names and ids: at most 128 bytes, and no control characters", "[csi][convert]") {
  auto request = create_request();
  request.set_name(std::string(128, 'n'));
  CHECK(to_args(request));
  request.set_name(std::string(129, 'n'));
  CHECK_THAT(refusal(request), names("name has 129 bytes"));

  for (unsigned code = 0; code <= 0xa0; ++code) {
    std::string name = "a";
    if (code < 0x80) {
      name += static_cast<char>(code);
    } else {
      name += {static_cast<char>(0xc2), static_cast<char>(code)};
    }
    name += 'b';
    const bool refused = code <= 0x08 || code == 0x0b || code == 0x0c || (code >= 0x0e && code <= 0x1f) || (code >= 0x7f && code <= 0x9f);
    CAPTURE(code);
    request.set_name(name);
    CHECK(to_args(request).has_value() != refused);
    v1::DeleteVolumeRequest by_id;
    by_id.set_volume_id(name);
    CHECK(to_args(by_id).has_value() != refused);
  }

  v1::DeleteVolumeRequest odd;  // of no volume, but that is NOT_FOUND and not this floor's to say
  for (const auto* id : {"../../etc", "a/b", "..", "ü", " "}) {
    odd.set_volume_id(id);
    CHECK(to_args(odd));
  }
  odd.set_volume_id(std::string(129, 'v'));
  CHECK_THAT(refusal(odd), names("volume_id has 129 bytes"));
}

TEST_CASE("maps: at most 4 KiB of keys and values together, however long one is", "[csi][convert]") {
  auto create = create_request();
  const std::string rest(4096 - 3, 'v');
  (*create.mutable_parameters())["key"] = rest;
  CHECK(to_args(create));
  (*create.mutable_parameters())["key"] = rest + "v";
  CHECK_THAT(refusal(create), names("parameters has 4097 bytes"));

  create = create_request();
  (*create.mutable_secrets())["key"] = rest + "v";
  CHECK(refusal(create).find("vvv") == std::string::npos);
  CHECK_THAT(refusal(create), names("secrets has 4097 bytes"));

  create = create_request();
  (*create.mutable_accessibility_requirements()->add_preferred()->mutable_segments())["key"] = rest + "v";
  CHECK_THAT(refusal(create), names("accessibility_requirements.preferred[0].segments has"));

  const auto too_much = [&](auto request, auto map, const char* field) {
    (*(request.*map)())["key"] = rest + "v";
    CHECK_THAT(refusal(request), names(field));
  };
  too_much(stage_request(), &v1::NodeStageVolumeRequest::mutable_publish_context, "publish_context has");
  too_much(stage_request(), &v1::NodeStageVolumeRequest::mutable_volume_context, "volume_context has");
  too_much(stage_request(), &v1::NodeStageVolumeRequest::mutable_secrets, "secrets has");
  too_much(publish_request(), &v1::NodePublishVolumeRequest::mutable_publish_context, "publish_context has");
  too_much(publish_request(), &v1::NodePublishVolumeRequest::mutable_volume_context, "volume_context has");
  too_much(publish_request(), &v1::NodePublishVolumeRequest::mutable_secrets, "secrets has");
  too_much(v1::NodeGetStorageHealthRequest{}, &v1::NodeGetStorageHealthRequest::mutable_secrets, "secrets has");
  too_much(v1::ControllerListVolumeHealthRequest{}, &v1::ControllerListVolumeHealthRequest::mutable_secrets, "secrets has");
  too_much(v1::GetCapacityRequest{}, &v1::GetCapacityRequest::mutable_parameters, "parameters has");
}

TEST_CASE("capabilities: an access type and a known mode", "[csi][convert]") {
  auto request = stage_request();
  for (int mode = 1; mode <= 7; ++mode) {
    request.mutable_volume_capability()->mutable_access_mode()->set_mode(static_cast<Mode::Mode>(mode));
    const auto args = to_args(request);
    REQUIRE(args);
    CHECK(static_cast<int>(args.value().capability.mode) == mode);
  }
  for (const int mode : {8, 99, -1}) {
    request.mutable_volume_capability()->mutable_access_mode()->set_mode(static_cast<Mode::Mode>(mode));
    CHECK_THAT(refusal(request), names("volume_capability.access_mode.mode is " + std::to_string(mode)));
  }
  request.mutable_volume_capability()->mutable_access_mode()->set_mode(Mode::UNKNOWN);
  CHECK_THAT(refusal(request), names("volume_capability.access_mode is missing"));
  request.mutable_volume_capability()->clear_access_mode();
  CHECK_THAT(refusal(request), names("volume_capability.access_mode is missing"));

  request = stage_request();
  request.mutable_volume_capability()->clear_mount();
  CHECK_THAT(refusal(request), names("volume_capability has no access type"));
  request.mutable_volume_capability()->mutable_block();
  const auto block = to_args(request);
  REQUIRE(block);
  CHECK(block.value().capability.block);

  auto create = create_request();
  create.add_volume_capabilities()->mutable_block();
  CHECK_THAT(refusal(create), names("volume_capabilities[1].access_mode is missing"));
  v1::GetCapacityRequest capacity;
  CHECK(to_args(capacity));
  capacity.add_volume_capabilities();
  CHECK_THAT(refusal(capacity), names("volume_capabilities[0] has no access type"));
  v1::NodeExpandVolumeRequest expand;
  expand.set_volume_id("v");
  expand.set_volume_path("/p");
  CHECK(to_args(expand));
  expand.mutable_volume_capability();
  CHECK_THAT(refusal(expand), names("volume_capability has no access type"));
}

TEST_CASE("mount flags: at most 4 KiB together, never shown", "[csi][convert]") {
  auto request = stage_request();
  auto& mount = *request.mutable_volume_capability()->mutable_mount();
  mount.add_mount_flags(std::string(4000, 'f'));  // one alone may be longer than 128 bytes
  mount.add_mount_flags(std::string(96, 'f'));
  CHECK(to_args(request));
  mount.add_mount_flags("f");
  CHECK_THAT(refusal(request), names("volume_capability.mount.mount_flags have 4097 bytes"));
  mount.clear_mount_flags();
  mount.add_mount_flags("noatime");
  mount.add_mount_flags("hidden\x01");
  CHECK_THAT(refusal(request), names("volume_capability.mount.mount_flags[1] has a control character"));
  CHECK(refusal(request).find("hidden") == std::string::npos);
  mount.set_mount_flags(1, "");
  CHECK_THAT(refusal(request), names("volume_capability.mount.mount_flags[1] is empty"));
}

TEST_CASE("the mount group is a gid in decimal", "[csi][convert]") {
  auto request = publish_request();
  auto& mount = *request.mutable_volume_capability()->mutable_mount();
  const auto group = [&](const std::string& text) {
    mount.set_volume_mount_group(text);
    return to_args(request);
  };
  CHECK_FALSE(group("").value().capability.group);
  CHECK(group("0").value().capability.group == 0U);
  CHECK(group("4294967294").value().capability.group == 4294967294U);
  for (const auto* text : {"4294967295", "4294967296", "-1", "+1", "1 ", " 1", "0x10", "staff", "1.5", "99999999999999999999999"}) {
    CAPTURE(text);
    mount.set_volume_mount_group(text);
    CHECK_THAT(refusal(request), names("volume_capability.mount.volume_mount_group must be"));
  }
}

TEST_CASE("fs_type is a plain name", "[csi][convert]") {
  auto request = stage_request();
  auto& mount = *request.mutable_volume_capability()->mutable_mount();
  for (const auto* name : {"", "ext4", "xfs", "btrfs", "fuse.x-1_y"}) {
    mount.set_fs_type(name);
    CHECK(to_args(request));
  }
  for (const std::string& name :
       {std::string{"ext4 "}, std::string{"../x"}, std::string{"a/b"}, std::string{"ext4\0", 5}, std::string(129, 'e')}) {
    mount.set_fs_type(name);
    CHECK_THAT(refusal(request), names("volume_capability.mount.fs_type is not the name"));
  }
}

TEST_CASE("paths are absolute, plain and at most PATH_MAX long", "[csi][convert]") {
  auto request = stage_request();
  const auto path = [&](const std::string& text) {
    request.set_staging_target_path(text);
    return to_args(request);
  };
  CHECK(path("/a/b").value().staging_path == "/a/b");
  CHECK(path("//a///b//").value().staging_path == "/a/b");
  CHECK(path("/./a/./b/.").value().staging_path == "/a/b");
  CHECK(path("/a/...b/..c/d..").value().staging_path == "/a/...b/..c/d..");
  CHECK(path("/a b/set[0]/ü").value().staging_path == "/a b/set[0]/ü");
  CHECK(path("/").value().staging_path == "/");
  CHECK(path("/" + std::string(4094, 'p')));

  request.set_staging_target_path("/" + std::string(4095, 'p'));
  CHECK_THAT(refusal(request), names("staging_target_path has 4096 bytes"));
  for (const auto* relative : {"a/b", "./a", "~/a"}) {
    request.set_staging_target_path(relative);
    CHECK_THAT(refusal(request), names("staging_target_path must be an absolute path"));
  }
  for (const auto* upward : {"/..", "/a/../b", "/a/.."}) {
    request.set_staging_target_path(upward);
    CHECK_THAT(refusal(request), names("staging_target_path must not have a \"..\""));
  }
  for (const std::string& controls : {std::string{"/a\0b", 4}, std::string{"/a\x1b"}, std::string{"/a\x7f"}, std::string{"/a\xc2\x85"}}) {
    request.set_staging_target_path(controls);
    CHECK_THAT(refusal(request), names("staging_target_path has a control character"));
  }

  auto publish = publish_request();
  publish.set_target_path("t");
  CHECK_THAT(refusal(publish), names("target_path must be an absolute path"));
  publish = publish_request();
  publish.set_staging_target_path("s");
  CHECK_THAT(refusal(publish), names("staging_target_path must be an absolute path"));
  v1::NodeUnstageVolumeRequest unstage;
  unstage.set_volume_id("v");
  unstage.set_staging_target_path("s");
  CHECK_THAT(refusal(unstage), names("staging_target_path must be an absolute path"));
  v1::NodeUnpublishVolumeRequest unpublish;
  unpublish.set_volume_id("v");
  unpublish.set_target_path("/a/../b");
  CHECK_THAT(refusal(unpublish), names("target_path must not"));
  v1::NodeGetVolumeHealthRequest health;
  health.set_volume_id("v");
  CHECK(to_args(health));
  health.set_volume_publish_path("p");
  CHECK_THAT(refusal(health), names("volume_publish_path must be an absolute path"));
  health.set_volume_publish_path("/p");
  health.set_staging_target_path("s");
  CHECK_THAT(refusal(health), names("staging_target_path must be an absolute path"));
}

TEMPLATE_TEST_CASE("a volume_path that can't be ours goes on to the port, which knows the volume", "[csi][convert]",
                   v1::NodeGetVolumeStatsRequest, v1::NodeExpandVolumeRequest) {
  TestType request;
  request.set_volume_id("v");
  const auto path = [&](const std::string& text) {
    request.set_volume_path(text);
    return to_args(request).value().volume_path;
  };
  CHECK(path("some/path") == "some/path");
  CHECK(path("/a/../b") == "/a/../b");
  CHECK(path("/a//b/") == "/a/b");
  request.set_volume_path("/" + std::string(4095, 'p'));
  CHECK_THAT(refusal(request), names("volume_path has 4096 bytes"));
  request.set_volume_path(std::string{"a\0b", 3});
  CHECK_THAT(refusal(request), names("volume_path has a control character"));
  request.set_volume_path("/a");
  request.set_staging_target_path("s");
  CHECK_THAT(refusal(request), names("staging_target_path must be an absolute path"));
}

TEST_CASE("sizes: nothing negative, and required not above limit", "[csi][convert]") {
  auto request = create_request();
  auto& range = *request.mutable_capacity_range();
  range.set_required_bytes(-1);
  CHECK_THAT(refusal(request), names("capacity_range has a negative size"));
  range.set_required_bytes(0);
  range.set_limit_bytes(-1);
  CHECK_THAT(refusal(request), names("capacity_range has a negative size"));
  range.set_required_bytes(2);
  range.set_limit_bytes(1);
  CHECK_THAT(refusal(request), names("capacity_range.required_bytes (2) is more than"));
  range.set_limit_bytes(2);
  CHECK(to_args(request));

  v1::ControllerExpandVolumeRequest expand;
  expand.set_volume_id("v");
  expand.mutable_capacity_range()->set_required_bytes(INT64_MIN);
  CHECK_THAT(refusal(expand), names("capacity_range has a negative size"));
  expand.mutable_capacity_range()->set_required_bytes(INT64_MAX);
  CHECK(to_args(expand));
  v1::NodeExpandVolumeRequest node;
  node.set_volume_id("v");
  node.set_volume_path("/p");
  CHECK(to_args(node));
  node.mutable_capacity_range()->set_limit_bytes(-1);
  CHECK_THAT(refusal(node), names("capacity_range has a negative size"));
}

TEMPLATE_TEST_CASE("pages", "[csi][convert]", v1::ListVolumesRequest, v1::ControllerListVolumeHealthRequest) {
  TestType request;
  CHECK(to_args(request).value().max_entries == 0);
  request.set_max_entries(3);
  request.set_starting_token("t");
  CHECK(to_args(request).value().max_entries == 3);
  CHECK(to_args(request).value().starting_token == "t");
  request.set_starting_token(std::string(129, 't'));
  CHECK_THAT(refusal(request), names("starting_token has 129 bytes"));
  request.set_max_entries(-1);
  CHECK_THAT(refusal(request), names("max_entries is negative"));
}

TEST_CASE("what isn't served is refused, not ignored", "[csi][convert]") {
  auto create = create_request();
  create.mutable_volume_content_source()->mutable_volume()->set_volume_id("v");
  CHECK_THAT(refusal(create), names("volume_content_source is not served"));
  create = create_request();
  create.mutable_volume_content_source();
  CHECK_THAT(refusal(create), names("volume_content_source is not served"));
  create = create_request();
  (*create.mutable_mutable_parameters())["iops"] = "5";
  CHECK_THAT(refusal(create), names("mutable_parameters are not served"));
  v1::ValidateVolumeCapabilitiesRequest validate;
  validate.set_volume_id("v");
  *validate.add_volume_capabilities() = mount_capability();
  CHECK(to_args(validate));
  (*validate.mutable_mutable_parameters())["iops"] = "5";
  CHECK_THAT(refusal(validate), names("mutable_parameters are not served"));
}

TEST_CASE("answers in the protocol's words", "[csi][convert]") {
  VolumeStats stats{.block = false, .total = 10, .available = -1, .used = 4, .inodes = 7, .inodes_free = 5, .inodes_used = 2};
  const auto filesystem = to_proto(stats);
  REQUIRE(filesystem.usage_size() == 2);
  CHECK(filesystem.usage(0).unit() == v1::VolumeUsage::BYTES);
  CHECK(filesystem.usage(0).total() == 10);
  CHECK(filesystem.usage(0).available() == 0);
  CHECK(filesystem.usage(0).used() == 4);
  CHECK(filesystem.usage(1).unit() == v1::VolumeUsage::INODES);
  CHECK(filesystem.usage(1).total() == 7);
  CHECK(filesystem.usage(1).available() == 5);
  CHECK(filesystem.usage(1).used() == 2);
  stats.block = true;
  REQUIRE(to_proto(stats).usage_size() == 1);
  CHECK(to_proto(stats).usage(0).total() == 10);

  const auto capacity = to_proto(CapacityResult{.available = -5, .maximum_volume_size = 9, .minimum_volume_size = {}});
  CHECK(capacity.available_capacity() == 0);
  CHECK(capacity.maximum_volume_size().value() == 9);
  CHECK_FALSE(capacity.has_minimum_volume_size());

  const auto health = to_proto(VolumeHealth{.volume_id = "v", .entries = {{HealthStatus::data_loss, "FileMissing", "gone"}}});
  CHECK(health.volume_id() == "v");
  CHECK(health.health_statuses(0).status() == v1::DATA_LOSS);
  CHECK(health.health_statuses(0).reason() == "FileMissing");
  CHECK(health.health_statuses(0).message() == "gone");
  CHECK(to_proto(std::vector<StorageHealthEntry>{{StorageStatus::unreachable, "PoolGone", "m"}}).backend_health(0).status() ==
        v1::STORAGE_UNREACHABLE);

  CHECK(to_proto(Volume{}).accessible_topology_size() == 0);
  const auto volume = to_proto(Volume{.id = "v", .capacity = 3, .context = {{"a", "b"}}, .topology = {{"n", "1"}}});
  CHECK(volume.volume_context().at("a") == "b");
  CHECK(volume.accessible_topology(0).segments().at("n") == "1");
}
