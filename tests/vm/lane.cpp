#include "tests/vm/lane.hpp"

#include <utility>

namespace ordinald::testing {
namespace {

using nlohmann::json;

constexpr std::int64_t mebi = std::int64_t{1} << 20;

std::int64_t first_size(const std::string& kind) { return (kind == "xfs" ? 320 : kind == "btrfs" ? 128 : 48) * mebi; }

/// Linux grows no btrfs to less than 256 MiB.
std::int64_t growth(const std::string& kind) { return (kind == "btrfs" ? 160 : 16) * mebi; }

}  // namespace

json Lane::capability() const {
  json capability = {{"access_mode", {{"mode", "SINGLE_NODE_SINGLE_WRITER"}}}};
  capability[block() ? "block" : "mount"] = block() ? json::object() : json{{"fs_type", volume_.kind}};
  return capability;
}

json Lane::publish_request() const {
  return {{"volume_id", volume_.id}, {"staging_target_path", staging()}, {"target_path", target()}, {"volume_capability", capability()}};
}

void Lane::lost(const std::string& what) const {
  throw Lost("volume " + volume_name(volume_) + " (" + volume_.id + ", " + volume_.level +
             (volume_.pending.empty() ? "" : ", in " + volume_.pending) + "): " + what);
}

void Lane::begin(const std::string& operation) {
  volume_.pending = operation;
  guest_.begins(operation);
}

void Lane::done(const std::string& level) {
  volume_.level = level;
  volume_.pending.clear();
}

json Lane::call(const std::string& method, const json& request) {
  const Answer answer = guest_.ask("csi", method + " " + request.dump());
  if (!answer.ok()) lost(method + ": " + answer.status + ": " + answer.text);
  ++counts_.acknowledged;
  return json::parse(answer.text);
}

void Lane::create() {
  begin("create");
  json parameters = {{"pool", volume_.pool}};
  if (!block()) parameters["fsType"] = volume_.kind;
  const json answer = call("CreateVolume", {{"name", volume_name(volume_)},
                                            {"capacity_range", {{"required_bytes", std::to_string(first_size(volume_.kind))}}},
                                            {"volume_capabilities", {capability()}},
                                            {"parameters", parameters}});
  const std::string id = answer.at("volume").at("volume_id");
  if (!volume_.id.empty() && volume_.id != id) lost("the repeated create answers " + id);
  volume_.id = id;
  volume_.size = first_size(volume_.kind);
  done("created");
}

void Lane::stage() {
  begin("stage");
  guest_.shell("mkdir -p " + staging() + " " + pod_of(volume_));
  call("NodeStageVolume", {{"volume_id", volume_.id}, {"staging_target_path", staging()}, {"volume_capability", capability()}});
  done("staged");
  if (!block()) verify_uuid();
}

void Lane::publish() {
  begin("publish");
  volume_.target_made = true;
  call("NodePublishVolume", publish_request());
  done("published");
  verify_files();
}

void Lane::write() {
  const std::uint64_t bytes = std::uniform_int_distribution<std::uint64_t>(1, 1 << 20)(random_);
  const DurableFile file{"file-" + std::to_string(volume_.files.size()), random_(), bytes};
  if (block()) volume_.files.clear();  // the one that is there is written over
  begin("write");
  const Answer answer = guest_.ask("write", file_path(file) + " " + std::to_string(file.seed) + " " + std::to_string(file.bytes));
  if (!answer.ok()) lost("write: " + answer.status + " " + answer.text);
  ++counts_.acknowledged;
  volume_.files.push_back(file);
  done(volume_.level);
}

void Lane::grow() {
  if (volume_.pending != "grow") volume_.wanted_size = volume_.size + growth(volume_.kind);
  begin("grow");
  const json range = {{"required_bytes", std::to_string(volume_.wanted_size)}};
  const json answer =
      call("ControllerExpandVolume", {{"volume_id", volume_.id}, {"capacity_range", range}, {"volume_capability", capability()}});
  volume_.size = volume_.wanted_size;
  if (answer.at("capacity_bytes") != std::to_string(volume_.size)) lost("grown to " + answer.dump());
  if (volume_.level != "created")
    call("NodeExpandVolume", {{"volume_id", volume_.id},
                              {"volume_path", volume_.level == "published" ? target() : staging()},
                              {"staging_target_path", staging()},
                              {"capacity_range", range},
                              {"volume_capability", capability()}});
  if (volume_.level == "published") volume_.total = total();
  done(volume_.level);
}

void Lane::unpublish() {
  begin("unpublish");
  call("NodeUnpublishVolume", {{"volume_id", volume_.id}, {"target_path", target()}});
  const Answer left = guest_.shell("[ ! -e " + target() + " ]");
  if (!left.ok()) lost("its target is there after unpublish");
  volume_.target_made = false;
  volume_.removed_targets.push_back({volume_.id, target()});
  done(volume_.level == "published" ? "staged" : volume_.level);
}

void Lane::unstage() {
  begin("unstage");
  call("NodeUnstageVolume", {{"volume_id", volume_.id}, {"staging_target_path", staging()}});
  done("created");
}

void Lane::remove() {
  begin("delete");
  call("DeleteVolume", {{"volume_id", volume_.id}});
  const int generation = volume_.generation + 1;
  LaneVolume next;
  next.kind = volume_.kind;
  next.pool = volume_.pool;
  next.generation = generation;
  next.removed_targets = volume_.removed_targets;
  volume_ = next;
}

std::int64_t Lane::total() {
  const json answer =
      call("NodeGetVolumeStats", {{"volume_id", volume_.id}, {"volume_path", target()}, {"staging_target_path", staging()}});
  return std::stoll(answer.at("usage").at(0).at("total").get<std::string>());
}

void Lane::refuse_publish() {
  guest_.shell("mkdir -p " + staging() + " " + pod_of(volume_));
  const Answer answer = guest_.ask("csi", "NodePublishVolume " + publish_request().dump());
  const bool deleted = volume_.pending == "delete" && answer.status == "NOT_FOUND";  // all of it was done, but for the answer
  if (answer.status != "FAILED_PRECONDITION" && !deleted) lost("publish before stage after a reboot: " + answer.status + " " + answer.text);
  const Answer mounted = guest_.shell("grep -F ' " + target() + " ' /proc/self/mountinfo");
  if (mounted.ok()) lost("publish was refused, yet there is " + mounted.text);
  ++counts_.checked;
}

void Lane::verify_uuid() {
  const Answer answer = guest_.shell("blkid -p -s UUID -o value \"$(findmnt -n -o SOURCE " + staging() + ")\"");
  if (!answer.ok() || answer.text.empty()) lost("its UUID can't be read: " + answer.text);
  if (volume_.uuid.empty()) volume_.uuid = answer.text;
  if (volume_.uuid != answer.text) lost("it was formatted again: its UUID was " + volume_.uuid + " and is " + answer.text);
  ++counts_.checked;
}

void Lane::verify_files() {
  for (const DurableFile& file : volume_.files) {
    const Answer answer = guest_.ask("check", file_path(file) + " " + std::to_string(file.seed) + " " + std::to_string(file.bytes));
    if (!answer.ok()) lost("durable data is lost: " + answer.status + " " + answer.text);
    ++counts_.checked;
  }
  if (volume_.total == 0) return;
  if (const std::int64_t now = total(); now < volume_.total)
    lost("it has " + std::to_string(now) + " bytes, and had " + std::to_string(volume_.total));
  ++counts_.checked;
}

void Lane::unpublish_what_came_back() {
  const std::vector<RemovedTarget> removed = std::exchange(volume_.removed_targets, {});
  for (const RemovedTarget& was : removed) {
    if (guest_.shell("[ ! -e " + was.path + " ]").ok()) continue;
    volume_.removed_targets.push_back(was);
    call("NodeUnpublishVolume", {{"volume_id", was.volume_id}, {"target_path", was.path}});
    if (!guest_.shell("[ ! -e " + was.path + " ]").ok()) lost(was.path + " came back after a power failure, and unpublish leaves it there");
    ++counts_.checked;
  }
}

void Lane::recover() {
  unpublish_what_came_back();
  if (volume_.id.empty()) {
    if (volume_.pending == "create") create();
    return;
  }
  // No mount outlives the boot; what was published may have left its target.
  const bool was_in_use = volume_.level != "created" || volume_.pending == "stage";
  volume_.level = "created";
  refuse_publish();
  const std::string pending = volume_.pending;
  if (pending == "create") create();
  if (pending == "delete") {
    remove();
    return;
  }
  if (pending == "grow") grow();
  if (pending == "unpublish") unpublish();
  if (pending == "unstage") unstage();
  volume_.pending.clear();
  if ((was_in_use && chance(70)) || !volume_.files.empty()) {
    stage();
    publish();
  } else {
    if (volume_.target_made) unpublish();
    unstage();
  }
}

bool Lane::may_grow() const { return volume_.size < first_size(volume_.kind) + 64 * mebi; }

void Lane::step() {
  if (volume_.level == "absent") {
    create();
  } else if (volume_.level == "created") {
    if (chance(15) && may_grow())
      grow();
    else if (chance(75))
      stage();
    else
      remove();
  } else if (volume_.level == "staged") {
    chance(75) ? publish() : unstage();
  } else if (volume_.files.size() < 6 && chance(55)) {
    write();
  } else if (chance(30) && may_grow()) {
    grow();
  } else {
    unpublish();
  }
}

void Lane::end() {
  if (volume_.level == "published" || volume_.target_made) unpublish();
  if (volume_.level == "staged") unstage();
  if (volume_.level == "created") remove();
}

}  // namespace ordinald::testing
