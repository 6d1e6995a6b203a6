#include "agent/admin/volume_view.hpp"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "agent/access_rules.hpp"
#include "agent/clock_text.hpp"
#include "agent/health.hpp"
#include "agent/path_words.hpp"
#include "mount/files.hpp"
#include "mount/mountinfo.hpp"

namespace ordinald::agent {
namespace {

using csi::HealthEntry;
using csi::HealthStatus;
using nlohmann::json;

std::string upper(std::string text) {
  std::ranges::transform(text, text.begin(), [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; });
  return text;
}

const char* status_text(HealthStatus status) {
  switch (status) {
    case HealthStatus::degraded:
      return "degraded";
    case HealthStatus::inaccessible:
      return "inaccessible";
    case HealthStatus::data_loss:
      return "data loss";
  }
  return "inaccessible";
}

std::string sysfs(const mount::Device& device, const std::string& name) {
  auto text = mount::read_kernel_file("/sys/dev/block/" + std::to_string(major(device.number)) + ":" +
                                      std::to_string(minor(device.number)) + "/" + name);
  return text ? std::move(text.value()) : std::string{};
}

bool is_of(const VolumeState& state, const mount::MountEntry& entry, bool block) {
  if (!state.device) {
    return false;
  }
  return block ? entry.fs_type == "devtmpfs" && entry.root == "/" + file_of(state.device->path)
               : entry.device == state.device->number || entry.source == state.device->path;
}

/// The topmost mount there; nullptr: none of the volume.
const mount::MountEntry* mount_at(const NodeLook& node, const VolumeState& state, const std::string& path, bool block) {
  const mount::MountEntry* topmost = nullptr;
  for (const mount::MountEntry& entry : *node.mounts) {
    topmost = entry.mount_point == path ? &entry : topmost;
  }
  return topmost != nullptr && is_of(state, *topmost, block) ? topmost : nullptr;
}

void look_at_mounts(const NodeLook& node, const VolumeState& state, std::vector<HealthEntry>& entries) {
  if (!node.mounts || !state.device) {
    return;
  }
  const auto look = [&](const std::string& path, bool block, const char* again) {
    const mount::MountEntry* entry = mount_at(node, state, path, block);
    if (entry == nullptr) {
      entries.push_back(
          {HealthStatus::inaccessible, "MountGone",
           path + " is no mount of the volume any more: somebody unmounted it; the orchestrator's next " + again + " puts it back"});
    } else if (!block && (mount::has_option(entry->super_options, "shutdown"))) {
      entries.push_back({HealthStatus::inaccessible, "FilesystemShutDown",
                         "the " + entry->fs_type + " at " + path +
                             " was shut down after an error; the kernel's log says which. Stop the workload, unstage the volume and stage "
                             "it again"});
    } else if (!block && (mount::has_option(entry->super_options, "ro") || mount::has_option(entry->super_options, "emergency_ro"))) {
      entries.push_back({HealthStatus::degraded, "FilesystemReadOnly",
                         "the " + entry->fs_type + " at " + path +
                             " went read-only after an error; the kernel's log says which. Stop the workload, unstage the volume and "
                             "stage it again: it is checked then"});
    }
  };
  for (const Stage& stage : state.stages) {
    if (!stage.block) {
      look(stage.path, false, "stage");
    }
  }
  for (const Publication& publication : state.publications) {
    look(publication.target, publication.block, "publish");
  }
}

json errors_json(const std::vector<CallErrors::Entry>& entries) {
  json list = json::array();
  for (const CallErrors::Entry& entry : entries) {
    list.push_back({{"time", entry.time},
                    {"call", entry.call},
                    {"code", upper(std::string{mount::to_string(entry.code)})},
                    {"message", entry.message}});
  }
  return list;
}

json tenure_json(const Tenure& tenure) {
  return {{"holder", holder_json(tenure.holder)},
          {"target", tenure.target},
          {"from", tenure.from},
          {"to", tenure.to},
          {"ended", tenure.ended},
          {"bootId", tenure.boot_id}};
}

json device_json(const VolumeState& state) {
  if (!state.device) {
    return nullptr;
  }
  const mount::Device& device = *state.device;
  return {{"path", device.path},
          {"major", major(device.number)},
          {"minor", minor(device.number)},
          {"diskSequence", device.diskseq},
          {"backingFile", sysfs(device, "loop/backing_file")},
          {"size", device.size}};
}

json processes_json(const std::vector<mount::Pin>& pins, std::uint64_t own_namespace) {
  json list = json::array();
  for (const mount::Pin& pin : pins) {
    const bool host = pin.mount_namespace == own_namespace;
    list.push_back({{"pid", pin.pid},
                    {"command", pin.command},
                    {"namespace", pin.mount_namespace},
                    {"namespaceHost", host},
                    {"mountPoint", pin.mount_point}});
  }
  return list;
}

std::string state_of(const Core& core, const VolumeRecord* record, const VolumeState& state, const std::string& id) {
  if (record == nullptr) {
    return core.records->find_damaged(id) ? "damaged" : "forgotten";
  }
  return record->deleting ? "deleting" : !state.publications.empty() ? "published" : state.in_use() ? "staged" : "created";
}

std::string pids_of(const std::vector<mount::Pin>& pins) {
  std::string text;
  for (const mount::Pin& pin : pins) {
    text += " " + std::to_string(pin.pid);
  }
  return text;
}

}  // namespace

std::set<std::string> all_volumes(const Core& core) {
  std::set<std::string> ids;
  for (const auto& record : core.records->all()) {
    ids.insert(record->id);
  }
  for (const auto& [id, damaged] : core.records->damaged()) {
    ids.insert(id);
  }
  for (const auto& [id, state] : core.ledger->all()) {
    if (state.in_use()) {
      ids.insert(id);
    }
  }
  return ids;
}

Result<std::string> resolve_volume(const Core& core, const std::string& text) {
  if (core.records->find(text) != nullptr || core.records->find_damaged(text) || core.ledger->state(text).in_use()) {
    return text;
  }
  if (const auto record = core.records->find_by_name(text)) {
    return record->id;
  }
  std::string found;
  std::string all;
  for (const auto& record : core.records->all()) {
    if (!record->claim.name.empty() && text == record->claim.name_space + "/" + record->claim.name) {
      all += (all.empty() ? "" : ", ") + record->id;
      found = found.empty() ? record->id : "";
    }
  }
  if (all.empty()) {
    return mount::make_error(ErrorCode::not_found,
                             "there is no volume " + text + " on this node: no id, name or claim (NAMESPACE/CLAIM) reads so");
  }
  if (found.empty()) {
    return mount::make_error(ErrorCode::failed_precondition,
                             "several volumes have the claim " + text + ": " + all + "; name one by its id");
  }
  return found;
}

std::vector<HealthEntry> quick_health(VolumeManager& volumes, const std::string& id, const NodeLook& node) {
  const Core& core = volumes.core();
  std::vector<HealthEntry> entries;
  const auto record = core.records->find(id);
  const VolumeState state = core.ledger->state(id);
  if (const auto damaged = core.records->find_damaged(id); record == nullptr && damaged) {
    entries.push_back({HealthStatus::inaccessible, "RecordDamaged",
                       "its record could not be read and was set aside as " + damaged->file + " (" + damaged->why +
                           "); mend the file, name it " + id + ".json again and restart the agent; its data is untouched"});
  } else if (record == nullptr) {
    entries.push_back({HealthStatus::inaccessible, "RecordLost", "it is in use, and has no record"});
  }
  if (record != nullptr && !core.pools.contains(record->pool)) {
    entries.push_back({HealthStatus::inaccessible, "PoolNotConfigured", "its pool " + record->pool + " is not configured; put it back"});
  }
  if (const auto hang = node.hangs.find(id); hang != node.hangs.end()) {
    entries.push_back({HealthStatus::inaccessible, "DeviceHung",
                       hang->second.what + " hangs since " + utc_text(hang->second.since) + ", in process " +
                           std::to_string(hang->second.pid) + ": its device, or what lies below it, does not answer (see dmesg)"});
  } else if (const std::string running = volumes.locks().held_for(id, core.config.device_timeout); !running.empty()) {
    entries.push_back({HealthStatus::degraded, "CallRunning", running});
  }
  if (!state.refusal.empty()) {
    entries.push_back({HealthStatus::inaccessible, "StageRefused", "the last stage was refused: " + state.refusal});
  }
  if (state.device) {
    if (const std::string sequence = sysfs(*state.device, "diskseq"); sequence != std::to_string(state.device->diskseq)) {
      entries.push_back({HealthStatus::inaccessible, "DeviceGone",
                         state.device->path + " is gone, or is another by now; unpublish and unstage the volume, then stage it again"});
    } else if (sysfs(*state.device, "loop/backing_file").ends_with(" (deleted)")) {
      entries.push_back({HealthStatus::data_loss, "ImageMissing",
                         "its image is deleted, and lives on as long as it is in use: copy what it holds elsewhere before it is unstaged"});
    }
  }
  look_at_mounts(node, state, entries);
  if (const std::string why = record == nullptr ? std::string{} : growth_pending(core, *record, state); !why.empty()) {
    entries.push_back({HealthStatus::degraded, "GrowthPending", why});
  }
  return entries;
}

json holder_json(const Holder& holder) {
  return {{"namespace", holder.pod_namespace},        {"name", holder.pod_name},  {"uid", holder.pod_uid}, {"unit", holder.unit},
          {"serviceAccount", holder.service_account}, {"text", to_string(holder)}};
}

json volume_json(VolumeManager& volumes, const std::string& id, const NodeLook& node) {
  const Core& core = volumes.core();
  const auto record = core.records->find(id);
  const VolumeState state = core.ledger->state(id);
  const VolumeRecord known = record == nullptr ? VolumeRecord{} : *record;
  const bool only_block = record != nullptr && !known.access_types.empty() && !known.access_types.contains("mount");
  json stages = json::array();
  for (const Stage& stage : state.stages) {
    stages.push_back({{"path", stage.path},
                      {"mode", to_string(stage.mode)},
                      {"readOnly", stage.read_only},
                      {"block", stage.block},
                      {"since", stage.since}});
  }
  json publications = json::array();
  for (const Publication& held : state.publications) {
    publications.push_back({{"target", held.target},
                            {"mode", to_string(held.mode)},
                            {"readOnly", held.read_only},
                            {"block", held.block},
                            {"since", held.since},
                            {"holder", holder_json(held.holder)}});
  }
  json found = json::array();
  for (const FoundMount& each : state.found) {
    found.push_back({{"path", each.path}, {"since", each.since}});
  }
  json health = json::array();
  for (const HealthEntry& entry : quick_health(volumes, id, node)) {
    health.push_back({{"status", status_text(entry.status)}, {"reason", entry.reason}, {"message", entry.message}});
  }
  return {{"id", id},
          {"name", known.name},
          {"claim", known.claim.name.empty() ? "" : known.claim.name_space + "/" + known.claim.name},
          {"identity", to_string(known.identity)},
          {"pool", known.pool},
          {"size", known.size},
          {"fsType", only_block ? "" : known.fs_type},
          {"content", record == nullptr ? "" : to_string(known.content)},
          {"blockSize", record == nullptr ? 0 : known.block_size},
          {"state", state_of(core, record.get(), state, id)},
          {"stages", std::move(stages)},
          {"publications", std::move(publications)},
          {"found", std::move(found)},
          {"health", std::move(health)}};
}

json whole_volume_json(VolumeManager& volumes, const std::string& id, const NodeLook& node, const std::vector<HealthEntry>& more) {
  const Core& core = volumes.core();
  json volume = volume_json(volumes, id, node);
  for (const HealthEntry& entry : more) {
    const bool known = std::ranges::any_of(volume["health"], [&](const json& other) { return other["reason"] == entry.reason; });
    if (!known) {
      volume["health"].push_back({{"status", status_text(entry.status)}, {"reason", entry.reason}, {"message", entry.message}});
    }
  }
  const auto record = core.records->find(id);
  const VolumeState state = core.ledger->state(id);
  volume["record"] = record == nullptr ? json{} : json::parse(to_json(*record), nullptr, false);
  volume["history"] = json::array();
  if (record != nullptr) {
    for (const Tenure& tenure : record->history) {
      volume["history"].push_back(tenure_json(tenure));
    }
  }
  for (const Tenure& tenure : state.past) {
    volume["history"].push_back(tenure_json(tenure));
  }
  volume["device"] = device_json(state);
  volume["mounts"] = json::array();
  if (node.mounts) {
    for (const mount::MountEntry& entry : *node.mounts) {
      if (is_of(state, entry, false) || is_of(state, entry, true)) {
        volume["mounts"].push_back({{"path", entry.mount_point}, {"options", entry.options}, {"namespaceHost", true}});
      }
    }
  }
  volume["lastErrors"] = errors_json(core.errors.of(id));
  return volume;
}

Result<json> explanation_json(VolumeManager& volumes, const std::string& id, const NodeLook& node) {
  const Core& core = volumes.core();
  TRY(Holds held, volumes.holds(id));
  if (!held.past_lost.empty() && !held.others.empty()) {
    held.holds.push_back({.unknown_holder = true,
                          .target = held.others.front().mount_point,
                          .since = held.past_lost,
                          .ended = "its ledger was lost",
                          .processes = std::exchange(held.others, {})});
  }
  struct stat own{};
  (void)::stat("/proc/self/ns/mnt", &own);
  json holds = json::array();
  json remedies = json::array();
  for (const auto& running : volumes.locks().list()) {
    if (running.key == id) {
      remedies.push_back(running.what + " is running since " + utc_text(running.since) + ": wait for it; a repeated call joins it");
    }
  }
  if (const auto hang = node.hangs.find(id); hang != node.hangs.end()) {
    remedies.push_back("its device does not answer: see `dmesg`; the volume is served again once it does");
  }
  for (const Hold& hold : held.holds) {
    const std::string who = hold.unknown_holder ? "somebody unknown" : to_string(hold.holder);
    json entry{{"holder", hold.unknown_holder
                              ? json{{"namespace", ""}, {"name", ""}, {"uid", ""}, {"unit", ""}, {"serviceAccount", ""}, {"text", who}}
                              : holder_json(hold.holder)},
               {"target", hold.target},
               {"since", hold.since},
               {"mounted", hold.mounted},
               {"ended", hold.ended},
               {"unseen", hold.unseen},
               {"toldApart", is_told_apart(held, hold)},
               {"processes", processes_json(hold.processes, own.st_ino)}};
    holds.push_back(std::move(entry));
    if (!hold.ended.empty()) {
      remedies.push_back("its hold is over (" + hold.ended + "), and processes of " + who +
                         " still have the volume: wait for them to end, or end them" +
                         (hold.processes.empty() ? "" : ": kill" + pids_of(hold.processes)));
      continue;
    }
    remedies.push_back("end " + who + ": its orchestrator then unpublishes " + hold.target);
    const std::string release =
        "ordinalctl release " + id + " --holder " + (hold.unknown_holder ? "unknown" : name_for_release(hold.holder));
    if (!hold.processes.empty()) {
      remedies.push_back("if nobody will unpublish it: end its processes (kill" + pids_of(hold.processes) + "), then " + release);
    } else if (!is_told_apart(held, hold) && !held.others.empty()) {
      remedies.push_back("if nobody will unpublish it: its own processes can't be told from others' that have the volume, so end these " +
                         std::string{"first (kill"} + pids_of(held.others) + "), then " + release);
    } else {
      remedies.push_back("if nobody will unpublish it: " + release);
    }
  }
  json refusal = nullptr;
  if (const auto entry = core.errors.refusal(id)) {
    refusal = errors_json({*entry}).front();
    if (entry->message.find("it is bound to its ") != std::string::npos) {
      remedies.push_back("if the volume is to be another's from now on: ordinalctl rebind " + id + " NAMESPACE/CLAIM");
    }
    if (remedies.empty()) {
      remedies.push_back("nothing holds it now: what the refusal says is in the way; mend that, and call again");
    }
  }
  return json{{"volume", id},
              {"refusal", std::move(refusal)},
              {"holds", std::move(holds)},
              {"others", processes_json(held.others, own.st_ino)},
              {"unchecked", held.unchecked},
              {"remedies", std::move(remedies)}};
}

}  // namespace ordinald::agent
