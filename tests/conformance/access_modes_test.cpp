// "Access modes": the table of a second NodePublishVolume, and which modes a pool has.
#include <algorithm>
#include <cerrno>
#include <thread>

#include "tests/support/rig.hpp"

namespace ordinald::testing {
namespace {

const std::vector<Mode> exclusive = {single_node_writer, single_node_reader_only, single_node_single_writer};
const std::vector<Mode> shared = {single_node_multi_writer, multi_node_reader_only, multi_node_single_writer, multi_node_multi_writer};
const std::vector<Mode> all_modes = {single_node_writer,      single_node_reader_only,   multi_node_reader_only,  multi_node_single_writer,
                                     multi_node_multi_writer, single_node_single_writer, single_node_multi_writer};

bool is_exclusive(Mode mode) { return std::find(exclusive.begin(), exclusive.end(), mode) != exclusive.end(); }

std::string mode_name(Mode mode) { return v1::VolumeCapability_AccessMode_Mode_Name(mode); }

/// A volume of a filesystem that has every mode, and holds something, so that it can be read only.
std::string used_volume(Rig& rig, const std::string& name) {
  const auto writer = mount_capability(single_node_writer, "ext4");
  std::string id = rig.create(name, writer, 64 * mebi, {{"multiNodeModes", "allow"}});
  REQUIRE(rig.stage(id, writer, rig.staging("first-use")) == OK);
  REQUIRE(rig.unstage(id, rig.staging("first-use")) == OK);
  return id;
}

/// The path at which the volume is staged for a mode; each mode has its own, as Nomad does it.
fs::path staged_for(Rig& rig, const std::string& id, Mode mode) {
  const fs::path path = rig.staging(id + "-" + mode_name(mode));
  REQUIRE(rig.stage(id, mount_capability(mode, "ext4"), path) == OK);
  return path;
}

}  // namespace

TEST_CASE("access modes: same target and same arguments is OK, in every mode", "[access_modes][root]") {
  Rig rig;
  for (const Mode mode : all_modes) {
    INFO(mode_name(mode));
    const std::string id = used_volume(rig, mode_name(mode));
    const fs::path staging = staged_for(rig, id, mode);
    const auto request = rig.publish_request(id, mount_capability(mode, "ext4"), staging, rig.target(id));
    CHECK(outcome(rig.call(request)) == OK);
    CHECK(outcome(rig.call(request)) == OK);
    CHECK(mounts_beneath(rig.target(id)).size() == 1);
  }
}

TEST_CASE("access modes: same target and other arguments is ALREADY_EXISTS, in every mode", "[access_modes][root]") {
  Rig rig;
  for (const Mode mode : all_modes) {
    INFO(mode_name(mode));
    const std::string id = used_volume(rig, mode_name(mode));
    const fs::path staging = staged_for(rig, id, mode);
    auto request = rig.publish_request(id, mount_capability(mode, "ext4"), staging, rig.target(id));
    (*request.mutable_volume_context())["csi.storage.k8s.io/pod.uid"] = "uid-1";
    REQUIRE(outcome(rig.call(request)) == OK);

    // A reader's publication is read-only already: the flag alone would change nothing there.
    if (mode != single_node_reader_only && mode != multi_node_reader_only) {
      auto read_only = request;
      read_only.set_readonly(true);
      CHECK(outcome(rig.call(read_only)) == ALREADY_EXISTS);
    }
    auto other_mode = request;
    other_mode.mutable_volume_capability()->mutable_access_mode()->set_mode(mode == single_node_multi_writer ? single_node_writer
                                                                                                             : single_node_multi_writer);
    CHECK(outcome(rig.call(other_mode)) == ALREADY_EXISTS);
    auto other_flags = request;
    other_flags.mutable_volume_capability()->mutable_mount()->add_mount_flags("noexec");
    CHECK(outcome(rig.call(other_flags)) == ALREADY_EXISTS);
    auto other_group = request;
    other_group.mutable_volume_capability()->mutable_mount()->set_volume_mount_group("2000");
    CHECK(outcome(rig.call(other_group)) == ALREADY_EXISTS);
    auto other_pod = request;
    (*other_pod.mutable_volume_context())["csi.storage.k8s.io/pod.uid"] = "uid-2";
    CHECK(outcome(rig.call(other_pod)) == ALREADY_EXISTS);
  }
}

TEST_CASE("access modes: secrets are not compared", "[access_modes][root]") {
  Rig rig;
  const LiveVolume volume = bring_up(rig, "v", mount_capability(single_node_single_writer, "ext4"));
  auto request = rig.publish_request(volume.id, volume.capability, volume.staging, volume.target);
  (*request.mutable_secrets())["token"] = "rotated";
  CHECK(outcome(rig.call(request)) == OK);
}

TEST_CASE("access modes: the pod's other keys alone do not make other arguments", "[access_modes][root]") {
  Rig rig;
  const auto capability = mount_capability(single_node_single_writer, "ext4");
  const std::string id = rig.create("v", capability);
  REQUIRE(rig.stage(id, capability, rig.staging("v")) == OK);
  auto request = rig.publish_request(id, capability, rig.staging("v"), rig.target("pod"));
  auto& context = *request.mutable_volume_context();
  context["csi.storage.k8s.io/pod.uid"] = "uid-1";
  REQUIRE(outcome(rig.call(request)) == OK);
  context["csi.storage.k8s.io/ephemeral"] = "false";
  CHECK(outcome(rig.call(request)) == OK);
  context["csi.storage.k8s.io/serviceAccount.tokens"] = "{}";
  CHECK(outcome(rig.call(request)) == OK);
}

TEST_CASE("access modes: 1, 2 and 6 on either side refuse another target, and name who holds it", "[access_modes][root]") {
  const Mode held = GENERATE(single_node_writer, single_node_reader_only, multi_node_reader_only, multi_node_single_writer,
                             multi_node_multi_writer, single_node_single_writer, single_node_multi_writer);
  Rig rig;
  const std::string id = used_volume(rig, "v");
  const fs::path target = rig.target("holder");
  REQUIRE(rig.publish(id, mount_capability(held, "ext4"), staged_for(rig, id, held), target) == OK);
  for (const Mode asked : all_modes) {
    INFO("held as " << mode_name(held) << ", asked as " << mode_name(asked));
    const fs::path other = rig.target("second-" + mode_name(asked));
    const Outcome result = rig.publish(id, mount_capability(asked, "ext4"), staged_for(rig, id, asked), other);
    if (is_exclusive(held) || is_exclusive(asked)) {
      CHECK(result == FAILED_PRECONDITION);
      CHECK_THAT(result.message, Catch::Contains(target.string()));
      CHECK_FALSE(fs::exists(other));
    } else {
      CHECK(result == OK);
      CHECK(rig.unpublish(id, other) == OK);
    }
  }
}

TEST_CASE("access modes: a block volume obeys the same table", "[access_modes][root]") {
  const Mode held = GENERATE(single_node_writer, single_node_single_writer, single_node_multi_writer);
  Rig rig;
  const std::string id = rig.create("v", block_capability(held));
  REQUIRE(rig.stage(id, block_capability(held), rig.staging("v")) == OK);
  REQUIRE(rig.publish(id, block_capability(held), rig.staging("v"), rig.target("one")) == OK);
  CHECK(rig.publish(id, block_capability(held), rig.staging("v"), rig.target("one")) == OK);
  const Outcome second = rig.publish(id, block_capability(held), rig.staging("v"), rig.target("two"));
  CHECK(second == (is_exclusive(held) ? FAILED_PRECONDITION : OK));
}

TEST_CASE("access modes: of N calls at once for a mode-6 volume with N targets exactly one gets OK", "[access_modes][root]") {
  Rig rig;
  const auto capability = mount_capability(single_node_single_writer, "ext4");
  const std::string id = rig.create("v", capability);
  REQUIRE(rig.stage(id, capability, rig.staging("v")) == OK);
  constexpr int callers = 24;
  for (int round = 0; round < 5; ++round) {
    std::vector<fs::path> targets;
    for (int i = 0; i < callers; ++i) targets.push_back(rig.target("pod-" + std::to_string(i)));
    std::vector<Outcome> results(callers);
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < targets.size(); ++i)
      threads.emplace_back([&, i] { results[i] = rig.publish(id, capability, rig.staging("v"), targets[i]); });
    for (std::thread& thread : threads) thread.join();
    std::size_t winner = targets.size();
    for (std::size_t i = 0; i < targets.size(); ++i) {
      if (results[i].code == OK) {
        CHECK(winner == targets.size());
        winner = i;
      } else {
        CHECK(results[i] == FAILED_PRECONDITION);
      }
    }
    REQUIRE(winner < targets.size());
    CHECK(mounts_beneath(rig.root() / "pods").size() == 1);
    REQUIRE(rig.unpublish(id, targets[winner]) == OK);
  }
}

TEST_CASE("access modes: after the holder is gone the next one gets it", "[access_modes][root]") {
  Rig rig;
  LiveVolume volume = bring_up(rig, "v", mount_capability(single_node_single_writer, "ext4"));
  CHECK(rig.publish(volume.id, volume.capability, volume.staging, rig.target("next")) == FAILED_PRECONDITION);
  CHECK(rig.unpublish(volume.id, volume.target) == OK);
  CHECK(rig.publish(volume.id, volume.capability, volume.staging, rig.target("next")) == OK);
}

TEST_CASE("access modes: a driver with 6 and 7 still accepts 1", "[access_modes][root]") {
  Rig rig;
  bring_up(rig, "v", mount_capability(single_node_writer, "ext4"));
}

TEST_CASE("access modes: 4 and 5 are refused at Create and not confirmed by Validate, unless multiNodeModes is allow",
          "[access_modes][root]") {
  Rig rig;
  const std::string local = rig.create("local", mount_capability(single_node_writer, "ext4"));
  const std::string anywhere =
      rig.create("anywhere", mount_capability(single_node_writer, "ext4"), 64 * mebi, {{"multiNodeModes", "allow"}});
  for (const Mode mode : {multi_node_single_writer, multi_node_multi_writer}) {
    INFO(mode_name(mode));
    const auto refused = outcome(rig.call(rig.create_request(mode_name(mode), mount_capability(mode, "ext4"), 64 * mebi)));
    CHECK((refused == INVALID_ARGUMENT || refused == FAILED_PRECONDITION));
    CHECK_THAT(refused.message, Catch::Contains("multiNodeModes"));
    auto allowed = rig.create_request(mode_name(mode), mount_capability(mode, "ext4"), 64 * mebi, {{"multiNodeModes", "allow"}});
    CHECK(outcome(rig.call(allowed)) == OK);

    v1::ValidateVolumeCapabilitiesRequest validate;
    *validate.add_volume_capabilities() = mount_capability(mode, "ext4");
    validate.set_volume_id(local);
    const auto unconfirmed = rig.call(validate);
    CHECK(outcome(unconfirmed) == OK);
    CHECK_FALSE(unconfirmed->has_confirmed());
    CHECK_FALSE(unconfirmed->message().empty());
    validate.set_volume_id(anywhere);
    CHECK(rig.call(validate)->has_confirmed());

    CHECK(rig.stage(local, mount_capability(mode, "ext4"), rig.staging("local")) == FAILED_PRECONDITION);
  }
  for (const Mode mode :
       {single_node_writer, single_node_reader_only, multi_node_reader_only, single_node_single_writer, single_node_multi_writer}) {
    v1::ValidateVolumeCapabilitiesRequest validate;
    *validate.add_volume_capabilities() = mount_capability(mode, "ext4");
    validate.set_volume_id(local);
    INFO(mode_name(mode));
    CHECK(rig.call(validate)->has_confirmed());
  }
}

TEST_CASE("access modes: readonly and modes 2 and 3 mean that a write gets EROFS", "[access_modes][root]") {
  Rig rig;
  for (const Mode mode : {single_node_reader_only, multi_node_reader_only}) {
    INFO(mode_name(mode));
    const std::string id = used_volume(rig, mode_name(mode));
    REQUIRE(rig.publish(id, mount_capability(mode, "ext4"), staged_for(rig, id, mode), rig.target(id)) == OK);
    CHECK(try_write(rig.target(id) / "file") == EROFS);
  }
  const LiveVolume volume = bring_up(rig, "v", mount_capability(single_node_multi_writer, "ext4"));
  auto request = rig.publish_request(volume.id, volume.capability, volume.staging, rig.target("reader"));
  request.set_readonly(true);
  REQUIRE(outcome(rig.call(request)) == OK);
  CHECK(try_write(volume.target / "file", "written") == 0);
  CHECK(read_file(rig.target("reader") / "file") == "written");
  CHECK(try_write(rig.target("reader") / "file") == EROFS);
  CHECK(try_write(volume.target / "file") == 0);
}

TEST_CASE("access modes: on a read-only block target the write gets EPERM, by the device itself", "[access_modes][root]") {
  Rig rig;
  const std::string id = rig.create("v", block_capability(single_node_multi_writer));
  REQUIRE(rig.stage(id, block_capability(single_node_multi_writer), rig.staging("v")) == OK);
  auto request = rig.publish_request(id, block_capability(single_node_multi_writer), rig.staging("v"), rig.target("reader"));
  request.set_readonly(true);
  REQUIRE(outcome(rig.call(request)) == OK);
  CHECK(try_write_device(rig.target("reader")) == EPERM);

  // Read-only and writable side by side: refused, the flag is the device's.
  request.set_target_path(rig.target("writer"));
  request.set_readonly(false);
  CHECK(outcome(rig.call(request)) == FAILED_PRECONDITION);
  CHECK(rig.unpublish(id, rig.target("reader")) == OK);
  CHECK(outcome(rig.call(request)) == OK);
  CHECK(try_write_device(rig.target("writer")) == 0);
  request.set_target_path(rig.target("reader"));
  request.set_readonly(true);
  CHECK(outcome(rig.call(request)) == FAILED_PRECONDITION);
  CHECK(try_write_device(rig.target("writer")) == 0);
}

}  // namespace ordinald::testing
