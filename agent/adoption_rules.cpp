#include <algorithm>

#include "agent/adoption_words.hpp"
#include "agent/device_copy_name.hpp"
#include "agent/path_words.hpp"
#include "agent/record_recovery.hpp"
#include "mount/filesystem.hpp"

/// What stands against an adoption, each with what to do.
namespace ordinald::agent {
namespace {

using mount::FileKind;
using mount::Survey;

std::string list_signatures(const std::vector<mount::Signature>& signatures) {
  std::string text;
  for (const mount::Signature& each : signatures) {
    text += (text.empty() ? "" : ", ") + each.type + " (" + each.usage + (each.uuid.empty() ? "" : ", UUID " + each.uuid) + ")";
  }
  return text;
}

}  // namespace

std::string Adoption::volume_at(const std::string& path) const {
  constexpr std::string_view ending = ".img";
  const std::string file = file_of(path);
  const std::string id = file.ends_with(ending) ? file.substr(0, file.size() - ending.size()) : std::string{};
  const auto record = is_volume_id(id) ? core_.records->find(id) : nullptr;
  const bool here = record != nullptr && std::ranges::any_of(core_.config.pools, [&](const PoolConfig& pool) {
                      return pool.name == record->pool && pool.directory == directory_of(path);
                    });
  return here ? id : std::string{};
}

/// Its bytes are copied while nobody else has it, and it stays as it is.
void Adoption::judge_device(const AdoptionRequest& request, AdoptionPlan& plan) const {
  const Survey& found = plan.found;
  if (!request.copy_of.empty()) {
    plan.refusals.emplace_back("it is a block device, and no copy of one");
  }
  const bool of_pool =
      std::ranges::any_of(core_.config.pools, [&](const PoolConfig& pool) { return is_within(found.backing, pool.directory); });
  if (of_pool || is_within(found.backing, core_.config.state_dir)) {
    plan.refusals.push_back("it is a loop device of " + found.backing + ", which is " +
                            (of_pool ? "in a pool already: " : "one of the agent's own: ") +
                            (found.in_use.empty() ? "" : "once nobody uses it (" + found.in_use + "), ") + "losetup -d " + request.path +
                            (of_pool ? ", and adopt that file, if it is no volume's" : ""));
  } else if (!found.in_use.empty()) {
    plan.refusals.push_back("it is in use: " + found.in_use);
  }
}

void Adoption::judge_path(const AdoptionRequest& request, AdoptionPlan& plan) const {
  const Survey& found = plan.found;
  const auto refuse = [&](const std::string& why) { plan.refusals.push_back(why); };
  if (found.kind == FileKind::symlink) {
    return refuse("it is a symlink: name the file itself (readlink -f " + quoted(request.path) + ")");
  }
  if (found.kind == FileKind::block_device) {
    return judge_device(request, plan);
  }
  if (found.kind != FileKind::regular) {
    return refuse("it is neither a file nor a block device");
  }
  if (!found.in_use.empty()) {
    refuse("it is in use: " + found.in_use);
  }
  if (found.links > 1) {
    refuse("it has " + std::to_string(found.links) + " names (hard links) and would stay writable by the others: remove them (find " +
           "\"$(findmnt --noheadings --output TARGET --target " + quoted(request.path) + ")\" -xdev -inum " + std::to_string(found.inode) +
           ")");
  }
  const bool in_pool =
      std::ranges::any_of(core_.config.pools, [&](const PoolConfig& pool) { return directory_of(request.path) == pool.directory; });
  const bool copied = in_pool && !request.copy_of.empty() && file_of(request.path) == device_copy_name(request.copy_of);
  if (!request.copy_of.empty() && !copied) {
    refuse("it is not what a copy of " + request.copy_of + " is called in a pool, " + device_copy_name(request.copy_of));
  } else if (in_pool && is_device_copy(file_of(request.path)) && !copied) {
    refuse("it is the copy of a block device, and perhaps not all of it: ordinalctl adopt that device");
  } else if (in_pool && !copied && file_of(request.path).starts_with('.')) {
    refuse("it is what a creation left that was interrupted (ordinalctl orphans)");
  } else if (!in_pool && (is_within(request.path, core_.config.state_dir) || is_within(request.path, core_.config.run_dir))) {
    refuse("it is one of the agent's own files");
  }
  if (found.volume_id.empty()) {
    return;
  }
  if (core_.records->find(found.volume_id) != nullptr || core_.records->find_damaged(found.volume_id)) {
    refuse("it is marked as the image of volume " + found.volume_id + ": put it back where it was; where it is a copy: setfattr -x " +
           "trusted.ordinald.volume " + quoted(request.path));
  } else if (in_pool && file_of(request.path) == found.volume_id + ".img" && parse_record(found.label)) {
    refuse("it is the image of volume " + found.volume_id + ", whose record is lost and can be made anew: ordinalctl orphans --repair");
  }
}

void Adoption::judge_content(const AdoptionRequest& request, AdoptionPlan& plan) const {
  const Survey& found = plan.found;
  const auto refuse = [&](const std::string& why) { plan.refusals.push_back(why); };
  if (found.kind != FileKind::regular && found.kind != FileKind::block_device) {
    return;
  }
  if (found.signatures.empty()) {
    return refuse(found.size == 0 ? "it is empty" : "it holds no filesystem that is known");
  }
  if (found.signatures.size() > 1) {
    return refuse("it holds signatures that contradict each other: " + list_signatures(found.signatures) + "; see wipefs " +
                  quoted(request.path));
  }
  const mount::Signature& only = found.signatures.front();
  const auto* filesystem = only.usage == "filesystem" ? mount::find_filesystem(only.type) : nullptr;
  if (filesystem == nullptr) {
    return refuse("it holds " + list_signatures(found.signatures) + ", and a volume's whole file is an ext4, xfs or btrfs" +
                  (only.usage == "partition-table"
                       ? ": copy a partition out of it (losetup --find --show --partscan --read-only " + quoted(request.path) + ")"
                       : ""));
  }
  if (!request.uuid.empty() && only.uuid != request.uuid) {
    refuse("its filesystem is " + (only.uuid.empty() ? "without UUID" : only.uuid) + ", and " + request.uuid + " was to be adopted");
  }
  if (found.outside_journal) {
    refuse("the journal of its " + only.type + " is on another device, and a volume is all on one: " +
           (only.type == "ext4"
                ? "unmount it, give it one of its own (e2fsck -f DEVICE; tune2fs -O ^has_journal DEVICE; tune2fs -j DEVICE), "
                  "and adopt it then"
                : "copy its files into a new filesystem (xfsdump, xfsrestore)"));
  }
  if (only.uuid.empty()) {
    refuse("its " + only.type + " has no UUID, by which it could be told from others");
  }
  if (!found.problem.empty() && !found.outside_journal) {
    refuse("what it holds can't be read as it is: " + found.problem +
           ". Where it was not unmounted, mount it once and unmount it; else: " + filesystem->repair_hint(request.path));
  }
  if (found.filesystem_size > found.size) {
    refuse("its " + only.type + " has " + std::to_string(found.filesystem_size) + " bytes and the file " + std::to_string(found.size) +
           ": it was cut short; put it back from a copy");
  }
  if (found.block_size != 0 && found.size % found.block_size != 0) {
    refuse("its " + std::to_string(found.size) + " bytes are no whole blocks: truncate --size=%4096 " + quoted(request.path));
  }
  for (const auto& record : core_.records->all()) {
    if (!only.uuid.empty() && record->fs_uuid == only.uuid) {
      const std::string change = only.type == "ext4"  ? "e2fsck -f FILE && tune2fs -U random FILE"
                                 : only.type == "xfs" ? "xfs_admin -U generate FILE"
                                                      : "btrfstune -u FILE";
      refuse("volume " + record->id + " holds a filesystem of the same UUID, " + only.uuid + ": if it is a copy, give it another one (" +
             change + ")");
    }
  }
}

void Adoption::judge_names(AdoptionPlan& plan) const {
  const VolumeRecord& record = plan.record;
  if (const auto other = core_.records->find_by_name(record.name)) {
    plan.refusals.push_back("volume " + other->id + " has the name " + record.name +
                            (other->adopted_from.empty() ? "" : ", adopted from " + other->adopted_from) + ": choose another (--name)");
  } else if (const auto damaged = core_.records->find_damaged_named(record.name)) {
    plan.refusals.push_back("the record of " + damaged->first + ", which has this name, was set aside as " + damaged->second.file +
                            ": mend it, or choose another name (--name)");
  }
  for (const auto& other : core_.records->all()) {
    if (!record.claim.name.empty() && !other->deleting && other->claim == record.claim) {
      plan.refusals.push_back("volume " + other->id + " has the claim " + record.claim.name_space + "/" + record.claim.name +
                              ": rebind or delete that one first");
    }
  }
}

}  // namespace ordinald::agent
