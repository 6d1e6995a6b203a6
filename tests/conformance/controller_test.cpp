// "Controller": create, delete, validate, list, capacity.
#include <sys/stat.h>

#include <set>
#include <thread>
#include <utility>

#include "tests/support/rig.hpp"

namespace ordinald::testing {
namespace {

const auto ext4 = mount_capability(single_node_single_writer, "ext4");

v1::CreateVolumeRequest unsized_request(const std::string& name, const v1::VolumeCapability& capability = ext4) {
  v1::CreateVolumeRequest request;
  request.set_name(name);
  *request.add_volume_capabilities() = capability;
  return request;
}

std::int64_t capacity(Rig& rig, const StringMap& parameters = {}) {
  v1::GetCapacityRequest request;
  request.mutable_parameters()->insert(parameters.begin(), parameters.end());
  const auto reply = rig.call(request);
  REQUIRE(outcome(reply) == OK);
  return reply->available_capacity();
}

StringMap plain(const google::protobuf::Map<std::string, std::string>& map) { return {map.begin(), map.end()}; }

}  // namespace

TEST_CASE("create: a size that the filesystem can't live in is OUT_OF_RANGE", "[controller][root]") {
  Rig rig;
  for (const auto& [fs_type, size] : {std::pair("xfs", 299 * mebi), std::pair("btrfs", 108 * mebi)}) {
    INFO(fs_type);
    auto request = rig.create_request(fs_type, mount_capability(single_node_writer, fs_type), size);
    request.mutable_capacity_range()->set_limit_bytes(size);
    CHECK(outcome(rig.call(request)) == OUT_OF_RANGE);
    auto by_parameter = rig.create_request(fs_type, mount_capability(single_node_writer), size, {{"csi.storage.k8s.io/fstype", fs_type}});
    by_parameter.mutable_capacity_range()->set_limit_bytes(size);
    CHECK(outcome(rig.call(by_parameter)) == OUT_OF_RANGE);
  }
  CHECK(fs::is_empty(rig.pool()));
}

TEST_CASE("create: the smallest sizes work to the mount", "[controller][root]") {
  const auto [fs_type, size] =
      GENERATE(std::pair<std::string, std::int64_t>("xfs", 300 * mebi), std::pair<std::string, std::int64_t>("btrfs", 110 * mebi),
               std::pair<std::string, std::int64_t>("ext4", 8 * mebi));
  Rig rig;
  const auto capability = mount_capability(single_node_writer, fs_type);
  const auto reply = rig.call(rig.create_request("v", capability, size));
  REQUIRE(outcome(reply) == OK);
  CHECK(rig.stage(reply->volume().volume_id(), capability, rig.staging("v")) == OK);
}

TEST_CASE("create: idempotent by name", "[controller][root]") {
  Rig rig;
  const auto request = rig.create_request("v", ext4, 64 * mebi);
  const auto first = rig.call(request);
  REQUIRE(outcome(first) == OK);
  const auto second = rig.call(request);
  REQUIRE(outcome(second) == OK);
  CHECK(second.message.SerializeAsString() == first.message.SerializeAsString());
  CHECK(first->volume().capacity_bytes() == 64 * mebi);
  auto larger_limit = request;
  larger_limit.mutable_capacity_range()->set_limit_bytes(gibi);
  CHECK(outcome(rig.call(larger_limit)) == OK);  // what is there fits
  auto less = rig.create_request("v", ext4, 32 * mebi);
  less.mutable_capacity_range()->set_limit_bytes(gibi);
  CHECK(outcome(rig.call(less)) == OK);
}

TEST_CASE("create: the same name with other size, access type or parameters is ALREADY_EXISTS", "[controller][root]") {
  Rig rig;
  REQUIRE(outcome(rig.call(rig.create_request("v", ext4, 64 * mebi))) == OK);
  CHECK(outcome(rig.call(rig.create_request("v", ext4, 128 * mebi))) == ALREADY_EXISTS);
  auto too_big = unsized_request("v");
  too_big.mutable_capacity_range()->set_limit_bytes(32 * mebi);
  CHECK(outcome(rig.call(too_big)) == ALREADY_EXISTS);
  CHECK(outcome(rig.call(rig.create_request("v", block_capability(single_node_single_writer), 64 * mebi))) == ALREADY_EXISTS);
  CHECK(outcome(rig.call(rig.create_request("v", ext4, 64 * mebi, {{"blockSize", "512"}}))) == ALREADY_EXISTS);
  // Also one that no new volume could have.
  CHECK(outcome(rig.call(rig.create_request("v", ext4, mebi))) == ALREADY_EXISTS);
  CHECK(outcome(rig.call(rig.create_request("v", mount_capability(single_node_single_writer, "xfs"), 64 * mebi))) == ALREADY_EXISTS);
  auto odd = rig.create_request("v", ext4, 64 * mebi + 1);
  odd.mutable_capacity_range()->set_limit_bytes(64 * mebi + 1);
  CHECK(outcome(rig.call(odd)) == ALREADY_EXISTS);
  CHECK(outcome(rig.call(rig.create_request("v", ext4, std::int64_t{1} << 62 | 1))) == ALREADY_EXISTS);
  auto from_less = rig.create_request("v", ext4, mebi);
  from_less.mutable_capacity_range()->set_limit_bytes(gibi);
  CHECK(outcome(rig.call(from_less)) == OK);
}

TEST_CASE("create: another content source is refused", "[controller][root]") {
  Rig rig;
  auto request = rig.create_request("v", ext4, 64 * mebi);
  request.mutable_volume_content_source()->mutable_snapshot()->set_snapshot_id("snap");
  const Outcome refused = outcome(rig.call(request));
  CHECK((refused == INVALID_ARGUMENT || refused == UNIMPLEMENTED));
}

TEST_CASE("create: no size asked is 1 GiB", "[controller][root]") {
  Rig rig;
  const auto reply = rig.call(unsized_request("v"));
  REQUIRE(outcome(reply) == OK);
  CHECK(reply->volume().capacity_bytes() == gibi);
}

TEST_CASE("create: required = limit is met exactly, and impossible is OUT_OF_RANGE", "[controller][root]") {
  Rig rig;
  auto exact = rig.create_request("exact", ext4, 100 * mebi);
  exact.mutable_capacity_range()->set_limit_bytes(100 * mebi);
  const auto reply = rig.call(exact);
  REQUIRE(outcome(reply) == OK);
  CHECK(reply->volume().capacity_bytes() == 100 * mebi);
  auto odd = rig.create_request("odd", ext4, 100 * mebi + 1);
  odd.mutable_capacity_range()->set_limit_bytes(100 * mebi + 1);
  CHECK(outcome(rig.call(odd)) == OUT_OF_RANGE);
  auto rounded = rig.create_request("rounded", ext4, 100 * mebi + 1);
  const auto up = rig.call(rounded);
  REQUIRE(outcome(up) == OK);
  CHECK(up->volume().capacity_bytes() >= 100 * mebi + 1);
  auto within = unsized_request("within");
  within.mutable_capacity_range()->set_limit_bytes(100 * mebi);
  const auto small = rig.call(within);
  REQUIRE(outcome(small) == OK);
  CHECK(small->volume().capacity_bytes() <= 100 * mebi);
}

TEST_CASE("create: a pool that is full is RESOURCE_EXHAUSTED", "[controller][root]") {
  Rig rig;
  const std::int64_t room = capacity(rig);
  const Outcome refused = outcome(rig.call(rig.create_request("v", ext4, room + gibi)));
  CHECK(refused == RESOURCE_EXHAUSTED);
  CHECK_THAT(refused.message, Catch::Contains("default"));
  CHECK(fs::is_empty(rig.pool()));
}

TEST_CASE("create: promises are kept: what is created is subtracted, and a delete gives it back", "[controller][root]") {
  const TempDir pools("pools");
  REQUIRE(run_tool({"mount", "-t", "tmpfs", "-o", "size=1g", "tmpfs", pools.path()}) == 0);
  fs::create_directory(pools.path() / "thin");
  fs::create_directory(pools.path() / "thick");
  Rig rig(Settings{{"pools",
                    {{{"name", "thin"}, {"directory", (pools.path() / "thin").string()}, {"default", true}},
                     {{"name", "thick"}, {"directory", (pools.path() / "thick").string()}, {"provisioning", "thick"}}}}});
  const std::int64_t room = capacity(rig);
  CHECK(room <= gibi * 9 / 10);  // less a reserve of 10 %
  CHECK(room > gibi * 8 / 10);
  const std::string thin = rig.create("a", ext4, 300 * mebi);
  CHECK(capacity(rig) == room - 300 * mebi);
  const std::string thick = rig.create("b", ext4, 200 * mebi, {{"pool", "thick"}});
  CHECK(capacity(rig) <= room - 500 * mebi);  // pools on one file system share one promise
  CHECK(capacity(rig) > room - 502 * mebi);
  CHECK(capacity(rig, {{"pool", "thick"}}) == capacity(rig));
  CHECK(outcome(rig.call(rig.create_request("c", ext4, 500 * mebi))) == RESOURCE_EXHAUSTED);
  CHECK(rig.remove(thin) == OK);
  CHECK(rig.remove(thick) == OK);
  CHECK(capacity(rig) == room);
  rig.agent().stop();
}

TEST_CASE("create: an overcommitted pool promises its ratio", "[controller][root]") {
  const TempDir pools("pools");
  REQUIRE(run_tool({"mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", pools.path()}) == 0);
  fs::create_directory(pools.path() / "thin");
  Rig rig(
      Settings{{"pools", {{{"name", "thin"}, {"directory", (pools.path() / "thin").string()}, {"overcommit", 4.0}, {"default", true}}}}});
  CHECK(capacity(rig) > 512 * mebi);
  rig.create("v", ext4, 600 * mebi);
  rig.agent().stop();
}

TEST_CASE("create: a thick volume stays allocated, through mkfs and mount", "[controller][root]") {
  const std::string fs_type = GENERATE("ext4", "xfs", "btrfs");
  Rig rig;
  rig.agent().stop();
  rig.agent().configuration()["pools"] = {
      {{"name", "thick"}, {"directory", rig.pool().string()}, {"provisioning", "thick"}, {"default", true}}};
  rig.agent().start();
  const LiveVolume volume = bring_up(rig, "v", mount_capability(single_node_writer, fs_type));
  struct stat info{};
  REQUIRE(::stat(rig.image_of(volume.id).c_str(), &info) == 0);
  CHECK(info.st_blocks * 512 >= small_size(fs_type));
  CHECK_FALSE(rig.publish(volume.id, mount_capability(single_node_multi_writer, fs_type, {"discard"}), volume.staging, rig.target("p")) ==
              OK);
  if (fs_type == "btrfs") {
    CHECK_THAT(mounted_at(volume.staging).super_options, !Catch::Contains("discard=async"));  // that it begins by itself since Linux 6.2
  }
  // Neither by hand.
  CHECK(run_tool({"fstrim", volume.target}) != 0);
  REQUIRE(::stat(rig.image_of(volume.id).c_str(), &info) == 0);
  CHECK(info.st_blocks * 512 >= small_size(fs_type));
}

TEST_CASE("create: a thick volume's blocks can't be discarded, and lost ones come back at a stage", "[controller][root]") {
  Rig rig(Settings{}, false);
  rig.agent().configuration()["pools"] = {
      {{"name", "thick"}, {"directory", rig.pool().string()}, {"provisioning", "thick"}, {"default", true}}};
  rig.agent().start();
  const bool block = GENERATE(false, true);
  const auto capability = block ? block_capability(single_node_writer) : mount_capability(single_node_writer, "ext4");
  const LiveVolume volume = bring_up(rig, "v", capability);
  const std::string image = rig.image_of(volume.id);
  const auto allocated = [&] {
    struct stat info{};
    REQUIRE(::stat(image.c_str(), &info) == 0);
    return info.st_blocks * 512;
  };
  const auto whole = allocated();
  CHECK(whole >= 64 * mebi);
  if (block) {
    CHECK(run_tool({"blkdiscard", "--force", volume.target}) != 0);
    CHECK(allocated() >= whole);
  }
  // As a copy that skips zeros leaves it.
  REQUIRE(run_tool({"fallocate", "--punch-hole", "--offset", "40MiB", "--length", "16MiB", image}) == 0);
  CHECK(allocated() < whole);
  CHECK(rig.stage(volume.id, capability, volume.staging) == OK);
  CHECK(allocated() >= whole);
  CHECK(rig.unpublish(volume.id, volume.target) == OK);
  CHECK(rig.unstage(volume.id, volume.staging) == OK);
  REQUIRE(run_tool({"fallocate", "--punch-hole", "--offset", "40MiB", "--length", "16MiB", image}) == 0);
  CHECK(rig.stage(volume.id, capability, volume.staging) == OK);
  CHECK(allocated() >= whole);
}

TEST_CASE("create: the flag discard is refused on a thick volume", "[controller][root]") {
  Rig rig(Settings{});
  rig.agent().stop();
  rig.agent().configuration()["pools"] = {
      {{"name", "thick"}, {"directory", rig.pool().string()}, {"provisioning", "thick"}, {"default", true}}};
  rig.agent().start();
  const auto capability = mount_capability(single_node_writer, "ext4", {"discard"});
  const std::string id = rig.create("v", mount_capability(single_node_writer, "ext4"));
  CHECK_FALSE(rig.stage(id, capability, rig.staging("v")) == OK);
  CHECK(rig.stage(id, mount_capability(single_node_writer, "ext4"), rig.staging("v")) == OK);
}

TEST_CASE("create: an unknown parameter is INVALID_ARGUMENT, naming it; bad values too", "[controller][root]") {
  Rig rig;
  const std::vector<std::pair<std::string, std::string>> bad = {
      {"colour", "red"},          {"blockSize", "1024"},        {"multiNodeModes", "yes"},
      {"fsType", "ntfs"},         {"pool", "no-such-pool"},     {"mkfsOptions", "-F; reboot"},
      {"mkfsOptions", "-b 1024"}, {"mkfsOptions", "-m 0 -m 1"}, {"csi.storage.k8s.io/colour", "red"}};
  for (const auto& [key, value] : bad) {
    INFO(key);
    const Outcome refused = outcome(rig.call(rig.create_request("v", ext4, 64 * mebi, {{key, value}})));
    CHECK(refused == INVALID_ARGUMENT);
    CHECK_THAT(refused.message, Catch::Contains(key));
  }
}

TEST_CASE("create: the standard provisioner's keys are taken, and kept with the volume", "[controller][root]") {
  Rig rig;
  const StringMap keys{
      {"csi.storage.k8s.io/pvc/name", "data-db-0"}, {"csi.storage.k8s.io/pvc/namespace", "prod"}, {"csi.storage.k8s.io/pv/name", "pvc-1"}};
  const std::string id = rig.create("pvc-1", ext4, 64 * mebi, keys);
  rig.crash();
  REQUIRE(rig.stage(id, ext4, rig.staging("v")) == OK);  // which writes the record anew
  CHECK(nlohmann::json::parse(read_file(rig.record_of(id))).at("metadata").get<StringMap>() == keys);
}

TEST_CASE("create: blockSize is the loop's for ever", "[controller][root]") {
  const std::string block_size = GENERATE("512", "4096");
  Rig rig;
  const std::string id = rig.create("v", ext4, 64 * mebi, {{"blockSize", block_size}});
  REQUIRE(rig.stage(id, ext4, rig.staging("v")) == OK);
  const fs::path loop = fs::path("/sys/block") / fs::path(loops_beneath(rig.pool()).at(0).path).filename();
  CHECK(read_file(loop / "queue/logical_block_size") == block_size + "\n");
}

TEST_CASE("create: requisite topology without this node is RESOURCE_EXHAUSTED", "[controller][root]") {
  Rig rig;
  auto elsewhere = rig.create_request("v", ext4, 64 * mebi);
  (*elsewhere.mutable_accessibility_requirements()->add_requisite()->mutable_segments())["topology.ordinald.io/node"] = "node-2";
  CHECK(outcome(rig.call(elsewhere)) == RESOURCE_EXHAUSTED);
  auto here = elsewhere;
  (*here.mutable_accessibility_requirements()->add_requisite()->mutable_segments())["topology.ordinald.io/node"] = "node-1";
  const auto reply = rig.call(here);
  REQUIRE(outcome(reply) == OK);
  REQUIRE(reply->volume().accessible_topology_size() == 1);
  CHECK(reply->volume().accessible_topology(0).segments().at("topology.ordinald.io/node") == "node-1");
}

TEST_CASE("create: the volume_context never changes later", "[controller][root]") {
  Rig rig;
  const auto request = rig.create_request(
      "v", ext4, 64 * mebi,
      {{"blockSize", "512"}, {"csi.storage.k8s.io/pvc/name", "data-db-0"}, {"csi.storage.k8s.io/pvc/namespace", "prod"}});
  const auto created = rig.call(request);
  REQUIRE(outcome(created) == OK);
  const StringMap context = plain(created->volume().volume_context());
  const std::string id = created->volume().volume_id();
  CHECK(rig.stage(id, ext4, rig.staging("v")) == OK);
  rig.crash();
  CHECK(plain(rig.call(request)->volume().volume_context()) == context);
  const auto listed = rig.call(v1::ListVolumesRequest());
  REQUIRE(listed->entries_size() == 1);
  CHECK(plain(listed->entries(0).volume().volume_context()) == context);
  v1::ControllerGetVolumeRequest get;
  get.set_volume_id(id);
  CHECK(plain(rig.call(get)->volume().volume_context()) == context);
}

TEST_CASE("get volume: unknown is NOT_FOUND", "[controller][root]") {
  Rig rig;
  v1::ControllerGetVolumeRequest get;
  get.set_volume_id("no-such-volume");
  CHECK(outcome(rig.call(get)) == NOT_FOUND);
}

TEST_CASE("delete: unknown is OK, and so is a second time", "[controller][root]") {
  Rig rig;
  CHECK(rig.remove("no-such-volume") == OK);
  CHECK(rig.remove("../../etc/passwd") == OK);
  const std::string id = rig.create("v", ext4);
  CHECK(rig.remove(id) == OK);
  CHECK(rig.remove(id) == OK);
  CHECK(fs::is_empty(rig.pool()));
}

TEST_CASE("delete: staged or published is FAILED_PRECONDITION", "[controller][root]") {
  Rig rig;
  const bool block = GENERATE(false, true);
  const LiveVolume volume = bring_up(rig, "v", block ? block_capability(single_node_writer) : ext4, 64 * mebi);
  CHECK(rig.remove(volume.id) == FAILED_PRECONDITION);
  CHECK(rig.unpublish(volume.id, volume.target) == OK);
  CHECK(rig.remove(volume.id) == FAILED_PRECONDITION);
  CHECK(rig.unstage(volume.id, volume.staging) == OK);
  CHECK(rig.remove(volume.id) == OK);
  CHECK(leaks_beneath(rig.root()) == "");
}

TEST_CASE("delete: a name can be used again, and gets another volume", "[controller][root]") {
  Rig rig;
  const std::string first = rig.create("v", ext4);
  REQUIRE(rig.stage(first, ext4, rig.staging("v")) == OK);
  REQUIRE(try_write(rig.staging("v") / "file") == 0);
  REQUIRE(rig.unstage(first, rig.staging("v")) == OK);
  REQUIRE(rig.remove(first) == OK);
  const std::string second = rig.create("v", ext4);
  CHECK(second != first);
  REQUIRE(rig.stage(second, ext4, rig.staging("v")) == OK);
  CHECK_FALSE(fs::exists(rig.staging("v") / "file"));
  CHECK(rig.stage(first, ext4, rig.staging("w")) == NOT_FOUND);
}

TEST_CASE("validate: confirmed only when every capability asked is had; else a message", "[controller][root]") {
  Rig rig;
  const std::string id = rig.create("v", ext4);
  v1::ValidateVolumeCapabilitiesRequest request;
  request.set_volume_id(id);
  *request.add_volume_capabilities() = ext4;
  auto reply = rig.call(request);
  REQUIRE(outcome(reply) == OK);
  REQUIRE(reply->has_confirmed());
  CHECK(reply->confirmed().volume_capabilities_size() == 1);
  *request.add_volume_capabilities() = mount_capability(multi_node_multi_writer, "ext4");
  reply = rig.call(request);
  REQUIRE(outcome(reply) == OK);
  CHECK_FALSE(reply->has_confirmed());
  CHECK_FALSE(reply->message().empty());
  request.set_volume_id("no-such-volume");
  CHECK(outcome(rig.call(request)) == NOT_FOUND);
}

TEST_CASE("validate: a filesystem or context that is not the volume's is not confirmed", "[controller][root]") {
  Rig rig;
  const auto created = rig.call(rig.create_request("v", ext4, 320 * mebi));
  v1::ValidateVolumeCapabilitiesRequest request;
  request.set_volume_id(created->volume().volume_id());
  *request.add_volume_capabilities() = ext4;
  *request.mutable_volume_context() = created->volume().volume_context();
  CHECK(rig.call(request)->has_confirmed());
  (*request.mutable_volume_context())["another"] = "context";
  CHECK_FALSE(rig.call(request)->has_confirmed());

  // A filesystem that is on the volume stays; one that would not fit is not promised.
  REQUIRE(rig.stage(request.volume_id(), ext4, rig.staging("v")) == OK);
  request.clear_volume_context();
  *request.mutable_volume_capabilities(0) = mount_capability(single_node_single_writer, "xfs");
  CHECK_FALSE(rig.call(request)->has_confirmed());
  request.set_volume_id(rig.create("small", ext4));
  CHECK_FALSE(rig.call(request)->has_confirmed());
}

TEST_CASE("validate: what Stage would refuse is not confirmed", "[controller][root]") {
  Rig rig;
  rig.agent().stop();
  rig.agent().configuration()["pools"] = {
      {{"name", "thick"}, {"directory", rig.pool().string()}, {"provisioning", "thick"}, {"default", true}}};
  rig.agent().start();
  const auto refusal = [&](const std::string& id, const v1::VolumeCapability& capability) {
    v1::ValidateVolumeCapabilitiesRequest request;
    request.set_volume_id(id);
    *request.add_volume_capabilities() = capability;
    const auto reply = rig.call(request);
    REQUIRE(outcome(reply) == OK);
    CHECK(reply->has_confirmed() == reply->message().empty());
    return reply->message();
  };
  const auto mounted_as = [](const std::string& fs_type, const std::vector<std::string>& flags = {}) {
    return mount_capability(single_node_single_writer, fs_type, flags);
  };

  const std::string id = rig.create("v", ext4, 320 * mebi, {{"mkfsOptions", "-i 8192"}});
  CHECK_THAT(refusal(id, mounted_as("ext4", {"discard"})), Catch::Contains("discard"));
  CHECK_THAT(refusal(id, mounted_as("ext4", {"journal_path=/dev/sda"})), Catch::Contains("another device"));
  CHECK_THAT(refusal(id, mounted_as("xfs")), Catch::Contains("mkfsOptions"));
  CHECK_FALSE(rig.stage(id, mounted_as("xfs"), rig.staging("v")) == OK);
  CHECK(refusal(id, mounted_as("ext4", {"noatime"})).empty());
  // Once it holds a filesystem, with what it was made is no question any more.
  REQUIRE(rig.stage(id, ext4, rig.staging("v")) == OK);
  CHECK(refusal(id, ext4).empty());
  CHECK_THAT(refusal(id, mounted_as("xfs")), Catch::Contains("holds ext4"));
  CHECK(rig.unstage(id, rig.staging("v")) == OK);

  // What a workload wrote on a raw device is known only by looking.
  const auto raw = block_capability(single_node_single_writer);
  REQUIRE(rig.stage(id, raw, rig.staging("v")) == OK);
  REQUIRE(rig.unstage(id, rig.staging("v")) == OK);
  CHECK(refusal(id, raw).empty());
  CHECK_THAT(refusal(id, ext4), Catch::Contains("raw block device"));
  REQUIRE(rig.stage(id, ext4, rig.staging("v")) == OK);
  CHECK(refusal(id, ext4).empty());
}

TEST_CASE("validate: what an orchestrator adds to the volume_context by itself is no difference", "[controller][root]") {
  Rig rig;
  v1::ValidateVolumeCapabilitiesRequest request;
  request.set_volume_id(
      rig.create("v", ext4, 64 * mebi, {{"csi.storage.k8s.io/pvc/name", "data-db-0"}, {"csi.storage.k8s.io/pvc/namespace", "prod"}}));
  *request.add_volume_capabilities() = ext4;
  auto& context = *request.mutable_volume_context();
  context["storage.kubernetes.io/csiProvisionerIdentity"] = "x";
  context["csi.storage.k8s.io/pvc/name"] = "data-db-0";
  CHECK(rig.call(request)->has_confirmed());
  context["csi.storage.k8s.io/pvc/name"] = "data-db-1";
  CHECK_FALSE(rig.call(request)->has_confirmed());
  context.erase("csi.storage.k8s.io/pvc/name");
  context["csi.storage.k8s.io/colour"] = "red";
  CHECK_FALSE(rig.call(request)->has_confirmed());
}

TEST_CASE("list: pages of max_entries with a token that survives changes between pages", "[controller][root]") {
  Rig rig;
  std::set<std::string> made;
  std::vector<std::string> order;
  for (int i = 0; i < 9; ++i) made.insert(rig.create("v" + std::to_string(i), ext4));
  v1::ListVolumesRequest request;
  request.set_max_entries(4);
  auto page = rig.call(request);
  REQUIRE(outcome(page) == OK);
  REQUIRE(page->entries_size() == 4);
  std::set<std::string> seen;
  for (const auto& entry : page->entries()) seen.insert(entry.volume().volume_id());
  const std::string last = page->entries(3).volume().volume_id();
  // Between the pages one that was seen, the last of the page too, and one that was not are deleted.
  CHECK(rig.remove(last) == OK);
  std::string unseen;
  for (const std::string& id : made)
    if (!seen.contains(id)) unseen = id;
  CHECK(rig.remove(unseen) == OK);
  while (!page->next_token().empty()) {
    request.set_starting_token(page->next_token());
    page = rig.call(request);
    REQUIRE(outcome(page) == OK);
    for (const auto& entry : page->entries()) CHECK(seen.insert(entry.volume().volume_id()).second);
  }
  made.erase(unseen);
  CHECK(seen == made);
}

TEST_CASE("list: a token that we did not give is ABORTED, negative is INVALID_ARGUMENT, 0 is all", "[controller][root]") {
  Rig rig;
  for (int i = 0; i < 3; ++i) rig.create("v" + std::to_string(i), ext4);
  v1::ListVolumesRequest request;
  CHECK(rig.call(request)->entries_size() == 3);
  CHECK(rig.call(request)->next_token().empty());
  request.set_starting_token("a-token-of-nobody");
  CHECK(outcome(rig.call(request)) == ABORTED);
  request.clear_starting_token();
  request.set_max_entries(-1);
  CHECK(outcome(rig.call(request)) == INVALID_ARGUMENT);
}

TEST_CASE("capacity: never negative, follows parameters and topology", "[controller][root]") {
  Rig rig;
  CHECK(capacity(rig) > 0);
  v1::GetCapacityRequest request;
  (*request.mutable_accessible_topology()->mutable_segments())["topology.ordinald.io/node"] = "node-2";
  const auto elsewhere = rig.call(request);
  CHECK(outcome(elsewhere) == OK);
  CHECK(elsewhere->available_capacity() == 0);
  (*request.mutable_accessible_topology()->mutable_segments())["topology.ordinald.io/node"] = "node-1";
  CHECK(rig.call(request)->available_capacity() > 0);
  v1::GetCapacityRequest unknown_pool;
  (*unknown_pool.mutable_parameters())["pool"] = "no-such-pool";
  const auto nowhere = rig.call(unknown_pool);
  CHECK((outcome(nowhere) == INVALID_ARGUMENT || nowhere->available_capacity() == 0));
  rig.agent().stop();
  // A file system with less free than the reserve: nothing, and not less.
  rig.agent().configuration()["pools"][0]["reservePercent"] = 90;
  rig.agent().start();
  CHECK(capacity(rig) == 0);
}

TEST_CASE("create: several at once with one name make one volume", "[controller][root]") {
  Rig rig;
  std::vector<std::string> ids(12);
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < ids.size(); ++i)
    threads.emplace_back([&, i] { ids[i] = rig.call(rig.create_request("v", ext4, 64 * mebi))->volume().volume_id(); });
  for (std::thread& thread : threads) thread.join();
  CHECK(std::set<std::string>(ids.begin(), ids.end()).size() == 1);
  CHECK_FALSE(ids[0].empty());
  CHECK(rig.call(v1::ListVolumesRequest())->entries_size() == 1);
}

}  // namespace ordinald::testing
