// "Health": of volumes, as node and controller see them, and of the pools.
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <set>
#include <utility>

#include "tests/support/rig.hpp"

namespace ordinald::testing {
namespace {

const auto ext4 = mount_capability(single_node_single_writer, "ext4");

v1::VolumeHealth node_view(Rig& rig, const std::string& id, const fs::path& publish_path = {}, const fs::path& staging_path = {}) {
  v1::NodeGetVolumeHealthRequest request;
  request.set_volume_id(id);
  request.set_volume_publish_path(publish_path);
  request.set_staging_target_path(staging_path);
  const auto reply = rig.call(request);
  REQUIRE(outcome(reply) == OK);
  return reply->volume_health();
}

v1::VolumeHealth controller_view(Rig& rig, const std::string& id) {
  v1::ControllerGetVolumeHealthRequest request;
  request.set_volume_id(id);
  const auto reply = rig.call(request);
  REQUIRE(outcome(reply) == OK);
  return reply->volume_health();
}

std::vector<std::string> unwell(Rig& rig) {
  const auto reply = rig.call(v1::ControllerListVolumeHealthRequest());
  REQUIRE(outcome(reply) == OK);
  std::vector<std::string> ids;
  for (const auto& entry : reply->entries()) ids.push_back(entry.volume_id());
  return ids;
}

auto storage_view(Rig& rig) {
  const auto reply = rig.call(v1::NodeGetStorageHealthRequest());
  REQUIRE(outcome(reply) == OK);
  return reply.message;
}

/// What goes for every list: CamelCase reasons, messages, no (status, reason) twice.
void check_well_formed(const v1::VolumeHealth& health) {
  std::set<std::pair<int, std::string>> seen;
  for (const auto& entry : health.health_statuses()) {
    INFO(entry.reason() << ": " << entry.message());
    CHECK(entry.status() != v1::UNKNOWN_VOLUME_HEALTH_TYPE);
    REQUIRE_FALSE(entry.reason().empty());
    CHECK(std::isupper(static_cast<unsigned char>(entry.reason()[0])) != 0);
    CHECK(entry.reason().find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789") == std::string::npos);
    CHECK_FALSE(entry.message().empty());
    CHECK(seen.emplace(entry.status(), entry.reason()).second);
  }
}

/// Each `STATUS Reason`, in their order.
std::string words(const v1::VolumeHealth& health) {
  check_well_formed(health);
  std::string text;
  for (const auto& entry : health.health_statuses()) {
    text += (text.empty() ? "" : ", ") + v1::VolumeHealthErrorType_Name(entry.status()) + " " + entry.reason();
  }
  return text;
}

std::string words(const v1::NodeGetStorageHealthResponse& health) {
  std::string text;
  for (const auto& entry : health.backend_health()) {
    text += (text.empty() ? "" : ", ") + v1::StorageHealthErrorType_Name(entry.status()) + " " + entry.reason();
  }
  return text;
}

}  // namespace

TEST_CASE("health: without a volume id INVALID_ARGUMENT, unknown NOT_FOUND", "[health][root]") {
  Rig rig;
  CHECK(outcome(rig.call(v1::NodeGetVolumeHealthRequest())) == INVALID_ARGUMENT);
  CHECK(outcome(rig.call(v1::ControllerGetVolumeHealthRequest())) == INVALID_ARGUMENT);
  v1::NodeGetVolumeHealthRequest node;
  node.set_volume_id("no-such-volume");
  CHECK(outcome(rig.call(node)) == NOT_FOUND);
  v1::ControllerGetVolumeHealthRequest controller;
  controller.set_volume_id("no-such-volume");
  CHECK(outcome(rig.call(controller)) == NOT_FOUND);
}

TEST_CASE("health: an empty list is a healthy volume, staged or not", "[health][root]") {
  Rig rig;
  const std::string id = rig.create("idle", ext4);
  CHECK(node_view(rig, id).health_statuses_size() == 0);
  CHECK(node_view(rig, id).volume_id() == id);
  CHECK(controller_view(rig, id).health_statuses_size() == 0);
  const LiveVolume volume = bring_up(rig, "live", ext4);
  CHECK(node_view(rig, volume.id, volume.target, volume.staging).health_statuses_size() == 0);
  CHECK(controller_view(rig, volume.id).health_statuses_size() == 0);
  CHECK(unwell(rig).empty());
}

TEST_CASE("health: a missing image is told by the controller, as long as it is missing", "[health][root]") {
  Rig rig;
  const std::string id = rig.create("v", ext4);
  const fs::path image = rig.image_of(id);
  fs::rename(image, rig.root() / "kept.img");
  CHECK(words(controller_view(rig, id)) == "DATA_LOSS BackingFileMissing");
  CHECK(unwell(rig) == std::vector<std::string>{id});
  fs::rename(rig.root() / "kept.img", image);
  CHECK(controller_view(rig, id).health_statuses_size() == 0);
  CHECK(unwell(rig).empty());
}

TEST_CASE("health: an image that is too short is told by the controller", "[health][root]") {
  Rig rig;
  const std::string id = rig.create("v", ext4);
  fs::resize_file(rig.image_of(id), mebi);
  CHECK(words(controller_view(rig, id)) == "DATA_LOSS BackingFileTooShort");
  CHECK_FALSE(rig.stage(id, ext4, rig.staging("v")) == OK);
}

TEST_CASE("health: a backing file deleted under a mounted volume is told by the node", "[health][root]") {
  Rig rig;
  const LiveVolume volume = bring_up(rig, "v", ext4);
  fs::remove(rig.image_of(volume.id));
  CHECK(words(node_view(rig, volume.id, volume.target, volume.staging)) == "DATA_LOSS BackingFileMissing");
  CHECK(rig.unpublish(volume.id, volume.target) == OK);
  CHECK(rig.unstage(volume.id, volume.staging) == OK);
  CHECK(leaks_beneath(rig.root()) == "");
}

TEST_CASE("health: a filesystem that had errors is told by the node", "[health][root]") {
  Rig rig;
  const LiveVolume volume = bring_up(rig, "v", mount_capability(single_node_single_writer, "ext4", {"errors=remount-ro"}));
  const fs::path trigger = fs::path("/sys/fs/ext4") / fs::path(loops_beneath(rig.pool()).at(0).path).filename() / "trigger_fs_error";
  if (try_write(trigger, "conformance test") != 0) {
    std::puts("SKIPPED: the kernel has no trigger_fs_error");
    return;
  }
  REQUIRE(try_write(volume.target / "file") == EROFS);
  CHECK(words(node_view(rig, volume.id, volume.target, volume.staging)) == "DEGRADED FilesystemReadOnly");
  // The next stage checks it, and the cause is gone.
  REQUIRE(rig.unpublish(volume.id, volume.target) == OK);
  // What was still cached then could not be written: that is told, once.
  const Outcome told = rig.unstage(volume.id, volume.staging);
  CHECK(told == INTERNAL);
  CHECK_THAT(told.message, Catch::Contains("may be lost"));
  REQUIRE(rig.unstage(volume.id, volume.staging) == OK);
  REQUIRE(rig.stage(volume.id, volume.capability, volume.staging) == OK);
  CHECK(node_view(rig, volume.id).health_statuses_size() == 0);
}

TEST_CASE("health: a filesystem that was shut down is told by the node", "[health][root]") {
  Rig rig;
  const LiveVolume volume = bring_up(rig, "v", mount_capability(single_node_single_writer, "xfs"));
  REQUIRE(run_tool({"xfs_io", "-x", "-c", "shutdown", volume.target}) == 0);
  CHECK(words(node_view(rig, volume.id, volume.target, volume.staging)) == "INACCESSIBLE FilesystemShutDown");
  CHECK(rig.unpublish(volume.id, volume.target) == OK);
}

TEST_CASE("health: another file in the image's place is told by both", "[health][root]") {
  Rig rig;
  const std::string id = rig.create("idle", ext4);
  const LiveVolume live = bring_up(rig, "live", ext4);
  for (const std::string& each : {id, live.id}) {
    const fs::path image = rig.image_of(each);
    const auto size = fs::file_size(image);
    fs::remove(image);
    write_file(image, "");
    fs::resize_file(image, size);
  }
  CHECK(words(controller_view(rig, id)) == "DATA_LOSS BackingFileForeign");
  CHECK(words(node_view(rig, live.id, live.target, live.staging)) == "DATA_LOSS BackingFileForeign");
}

TEST_CASE("health: a raw block device that was taken away is told by the node", "[health][root]") {
  Rig rig;
  const auto block = block_capability(single_node_single_writer);
  const std::string id = rig.create("v", block);
  REQUIRE(rig.stage(id, block, rig.staging("v")) == OK);
  REQUIRE(run_tool({"losetup", "-d", loops_beneath(rig.pool()).at(0).path}) == 0);
  CHECK(words(node_view(rig, id, {}, rig.staging("v"))) == "INACCESSIBLE DeviceGone");
}

TEST_CASE("health: a volume whose pool is configured no more, or can't be reached, says so", "[health][root]") {
  const TempDir pools("pools");
  fs::create_directory(pools.path() / "a");
  fs::create_directory(pools.path() / "b");
  const nlohmann::json a{{"name", "a"}, {"directory", (pools.path() / "a").string()}, {"default", true}};
  const nlohmann::json b{{"name", "b"}, {"directory", (pools.path() / "b").string()}};
  Rig rig(Settings{{"pools", nlohmann::json::array({a, b})}});
  const std::string id = rig.create("v", ext4, 64 * mebi, {{"pool", "b"}});
  fs::rename(pools.path() / "b", pools.path() / "away");
  CHECK(words(controller_view(rig, id)) == "INACCESSIBLE PoolUnreachable");
  CHECK(words(storage_view(rig)) == "STORAGE_UNREACHABLE DirectoryMissing");
  fs::rename(pools.path() / "away", pools.path() / "b");
  CHECK(words(controller_view(rig, id)) == "");
  rig.agent().kill();
  rig.agent().configuration()["pools"] = nlohmann::json::array({a});
  rig.agent().start();
  CHECK(words(controller_view(rig, id)) == "INACCESSIBLE PoolNotConfigured");
}

TEST_CASE("health: a pool on a read-only file system is STORAGE_DEGRADED", "[health][root]") {
  const TempDir pools("pools");
  fs::create_directory(pools.path() / "a");
  REQUIRE(run_tool({"mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", pools.path() / "a"}) == 0);
  Rig rig(Settings{{"pools", {{{"name", "a"}, {"directory", (pools.path() / "a").string()}, {"default", true}}}}});
  REQUIRE(run_tool({"mount", "-o", "remount,ro", pools.path() / "a"}) == 0);
  CHECK(words(storage_view(rig)) == "STORAGE_DEGRADED ReadOnly");
}

TEST_CASE("health: a mount that is gone is told by the node", "[health][root]") {
  Rig rig;
  const LiveVolume volume = bring_up(rig, "v", ext4);
  REQUIRE(run_tool({"umount", volume.target}) == 0);
  CHECK(words(node_view(rig, volume.id, volume.target, volume.staging)) == "INACCESSIBLE MountGone");
  CHECK(rig.publish(volume.id, ext4, volume.staging, volume.target) == OK);
  CHECK(node_view(rig, volume.id, volume.target, volume.staging).health_statuses_size() == 0);
}

TEST_CASE("health: a record of a newer agent is not unknown: it is listed and refused, and what is mounted can still be let go",
          "[health][root]") {
  Rig rig;
  const LiveVolume live = bring_up(rig, "live", ext4);
  const std::string idle = rig.create("idle", ext4);
  const LiveVolume other = bring_up(rig, "other", ext4);
  const fs::path live_record = rig.record_of(live.id);
  rig.agent().kill();
  write_file(live_record, "{ \"schema\": 99, \"id\": [] }");
  write_file(rig.record_of(idle), "{ \"schema\": 99 }");
  rig.agent().start();

  for (const std::string& id : {live.id, idle}) {
    INFO(id);
    CHECK(controller_view(rig, id).health_statuses_size() > 0);
    check_well_formed(controller_view(rig, id));
    const Outcome staged = rig.stage(id, ext4, rig.staging("again"));
    CHECK(staged == FAILED_PRECONDITION);
    CHECK_THAT(staged.message, Catch::Contains((rig.root() / "state").string()));  // names the file
    CHECK(rig.publish(id, ext4, live.staging, rig.target("again")) == FAILED_PRECONDITION);
    CHECK(rig.remove(id) == FAILED_PRECONDITION);
  }
  CHECK_FALSE(outcome(rig.call(rig.create_request("idle", ext4, 64 * mebi))) == OK);
  std::set<std::string> listed;
  const auto list = rig.call(v1::ListVolumesRequest());
  for (const auto& entry : list->entries()) listed.insert(entry.volume().volume_id());
  CHECK(listed == std::set<std::string>{live.id, idle, other.id});
  const auto sick = unwell(rig);
  CHECK(std::set<std::string>(sick.begin(), sick.end()) == std::set<std::string>{live.id, idle});

  // Other volumes are served, and this one's mounts can be let go.
  CHECK(rig.unpublish(other.id, other.target) == OK);
  CHECK(rig.unpublish(live.id, live.target) == OK);
  CHECK(rig.unstage(live.id, live.staging) == OK);
  CHECK(mounts_beneath(live.staging).empty());
  CHECK_FALSE(fs::exists(live.target));
}

TEST_CASE("health: a damaged record is made anew from the volume's image, and the volume is served on", "[health][root]") {
  Rig rig;
  const LiveVolume live = bring_up(rig, "live", ext4);
  const LiveVolume idle = bring_up(rig, "idle", ext4);
  REQUIRE(try_write(idle.target / "data", "kept") == 0);
  REQUIRE(rig.unpublish(idle.id, idle.target) == OK);
  REQUIRE(rig.unstage(idle.id, idle.staging) == OK);
  rig.agent().kill();
  write_file(rig.record_of(live.id), "{ \"schema\": 1, \"id\": ");
  write_file(rig.record_of(idle.id), "");
  rig.agent().start();
  // The repair runs beside the calls, begun with the socket; until it is done they are refused.
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!unwell(rig).empty() && std::chrono::steady_clock::now() < deadline) {
  }
  CHECK(unwell(rig).empty());

  CHECK(rig.publish(live.id, ext4, live.staging, rig.target("second")) == FAILED_PRECONDITION);  // it is held as before
  CHECK(rig.unpublish(live.id, live.target) == OK);
  CHECK(rig.unstage(live.id, live.staging) == OK);
  REQUIRE(rig.stage(idle.id, ext4, idle.staging) == OK);
  REQUIRE(rig.publish(idle.id, ext4, idle.staging, idle.target) == OK);
  CHECK(read_file(idle.target / "data") == "kept");
  CHECK(rig.unpublish(idle.id, idle.target) == OK);
  CHECK(rig.unstage(idle.id, idle.staging) == OK);
  for (const std::string& id : {live.id, idle.id}) {
    CHECK(rig.remove(id) == OK);
  }
  CHECK(fs::is_empty(rig.root() / "state" / "volumes"));
  CHECK(fs::is_empty(rig.pool()));
}

TEST_CASE("health: ListVolumeHealth gives the unwell only, paged as the other lists", "[health][root]") {
  Rig rig;
  std::set<std::string> sick;
  for (int i = 0; i < 7; ++i) {
    const std::string id = rig.create("v" + std::to_string(i), ext4);
    if (i % 2 == 0) {
      fs::remove(rig.image_of(id));
      sick.insert(id);
    }
  }
  std::set<std::string> seen;
  v1::ControllerListVolumeHealthRequest request;
  request.set_max_entries(3);
  for (int page = 0; page < 4; ++page) {
    const auto reply = rig.call(request);
    REQUIRE(outcome(reply) == OK);
    CHECK(reply->entries_size() <= 3);
    for (const auto& entry : reply->entries()) {
      check_well_formed(entry);
      CHECK(seen.insert(entry.volume_id()).second);
    }
    if (reply->next_token().empty()) break;
    request.set_starting_token(reply->next_token());
  }
  CHECK(seen == sick);
  request.set_starting_token("a-token-of-nobody");
  CHECK(outcome(rig.call(request)) == ABORTED);
}

TEST_CASE("health: GetStorageHealth has no entry when all is well", "[health][root]") {
  Rig rig;
  CHECK(storage_view(rig).backend_health_size() == 0);
}

TEST_CASE("health: a pool whose directory is gone is STORAGE_UNREACHABLE, as long as it is", "[health][root]") {
  Rig rig;
  fs::rename(rig.pool(), rig.root() / "pool-elsewhere");
  const auto health = storage_view(rig);
  REQUIRE(health.backend_health_size() == 1);
  CHECK(words(health) == "STORAGE_UNREACHABLE DirectoryMissing");
  CHECK_THAT(health.backend_health(0).message(), Catch::Contains(rig.pool().string()));
  fs::rename(rig.root() / "pool-elsewhere", rig.pool());
  CHECK(storage_view(rig).backend_health_size() == 0);
}

TEST_CASE("health: one entry for each pool that is not well, and a pool nearly full is STORAGE_DEGRADED", "[health][root]") {
  const TempDir pools("pools");
  fs::create_directory(pools.path() / "small");
  REQUIRE(run_tool({"mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", pools.path() / "small"}) == 0);
  fs::create_directory(pools.path() / "good");
  Rig rig(Settings{{"pools",
                    {{{"name", "small"}, {"directory", (pools.path() / "small").string()}, {"nearlyFullPercent", 80}},
                     {{"name", "good"}, {"directory", (pools.path() / "good").string()}, {"default", true}}}}});
  CHECK(storage_view(rig).backend_health_size() == 0);
  REQUIRE(try_write(pools.path() / "small/filler", std::string(60 * mebi, 'x')) == 0);
  const auto health = storage_view(rig);
  REQUIRE(health.backend_health_size() == 1);
  CHECK(words(health) == "STORAGE_DEGRADED NearlyFull");
  CHECK_THAT(health.backend_health(0).message(), Catch::Contains("small"));
  fs::remove(pools.path() / "small/filler");
  CHECK(storage_view(rig).backend_health_size() == 0);
  rig.agent().stop();
}

TEST_CASE("health: a pool nearly out of inodes is STORAGE_DEGRADED", "[health][root]") {
  const TempDir pools("pools");
  fs::create_directories(pools.path() / "few");
  REQUIRE(run_tool({"mount", "-t", "tmpfs", "-o", "size=64m,nr_inodes=20", "tmpfs", pools.path() / "few"}) == 0);
  fs::create_directory(pools.path() / "endless");
  REQUIRE(run_tool({"mount", "-t", "tmpfs", "-o", "size=64m,nr_inodes=0", "tmpfs", pools.path() / "endless"}) == 0);
  Rig rig(Settings{{"pools",
                    {{{"name", "few"}, {"directory", (pools.path() / "few").string()}, {"nearlyFullPercent", 80}},
                     {{"name", "endless"}, {"directory", (pools.path() / "endless").string()}, {"default", true}}}}});
  for (int i = 0; i < 14; ++i) {
    REQUIRE(try_write(pools.path() / "few" / std::to_string(i), "") == 0);
  }
  CHECK(storage_view(rig).backend_health_size() == 0);  // 15 of 20, the directory among them
  REQUIRE(try_write(pools.path() / "few/14", "") == 0);
  const auto health = storage_view(rig);
  CHECK(words(health) == "STORAGE_DEGRADED InodesNearlyFull");
  REQUIRE(health.backend_health_size() == 1);
  CHECK_THAT(health.backend_health(0).message(), Catch::Contains("pool few") && Catch::Contains("4 inodes left of 20"));
  fs::remove(pools.path() / "few/14");
  CHECK(storage_view(rig).backend_health_size() == 0);
  rig.agent().stop();
}

}  // namespace ordinald::testing
