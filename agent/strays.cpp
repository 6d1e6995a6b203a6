#include "agent/strays.hpp"

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <utility>

#include "agent/adoption_words.hpp"
#include "agent/reconciler.hpp"

namespace ordinald::agent {
namespace {

/// A file system, and a path from its root.
using Place = std::pair<std::uint64_t, std::string>;

/// What a loop device has, as far as it is ours.
struct OurLoop {
  std::string volume;
  std::string who;  ///< for a person
  bool is_volume = false;
};

std::vector<std::pair<mount::LoopEntry, OurLoop>> our_loops(const Core& core, std::vector<mount::LoopEntry> loops) {
  std::vector<std::pair<mount::LoopEntry, OurLoop>> ours;
  for (mount::LoopEntry& loop : loops) {
    if (const std::string id = volume_of(core, loop); !id.empty()) {
      // By its name alone it could be a copy of the image, which is somebody else's.
      const auto device = core.ledger->state(id).device;
      if (is_in_pool(core, loop) || (device && device->number == loop.number)) {
        ours.emplace_back(std::move(loop), OurLoop{.volume = id, .who = "volume " + id, .is_volume = true});
      }
    } else if (is_in_pool(core, loop)) {
      OurLoop our{
          .volume = stem_of(loop.backing),
          .who = loop.path + ", with " + loop.backing + (loop.deleted ? ", which is deleted and" : ", which") + " is no volume of ours,"};
      ours.emplace_back(std::move(loop), std::move(our));
    }
  }
  return ours;
}

enum class Shape : std::uint8_t { whole, part, node };

/// The mount table, by what is looked for in it.
class Table {
 public:
  explicit Table(const std::vector<mount::MountEntry>& entries) {
    for (const mount::MountEntry& entry : entries) {
      by_id_[entry.id] = &entry;
    }
    for (const mount::MountEntry& entry : entries) {
      const auto parent = by_id_.find(entry.parent);
      if (parent != by_id_.end() && parent->second != &entry && parent->second->mount_point == entry.mount_point) {
        covered_.insert(entry.parent);
      }
    }
  }
  /// On which directory a mount lies, whatever path that is seen by: what is mounted at the same place through another mount is a copy.
  [[nodiscard]] Place place_of(const mount::MountEntry& entry) const {
    const auto parent = by_id_.find(entry.parent);
    if (parent == by_id_.end() || parent->second == &entry) {
      return {0, entry.mount_point};
    }
    const mount::MountEntry& below = *parent->second;
    if (!entry.mount_point.starts_with(below.mount_point)) {  // the table changed while it was read
      return {0, entry.mount_point};
    }
    const std::string relative = below.mount_point == "/" ? entry.mount_point : entry.mount_point.substr(below.mount_point.size());
    return {below.device, below.root == "/" ? relative : below.root + relative};
  }
  /// Whether another mount lies on top of it, at the same path.
  [[nodiscard]] bool is_covered(const mount::MountEntry& entry) const { return covered_.contains(entry.id); }

 private:
  std::map<std::uint64_t, const mount::MountEntry*> by_id_;
  std::set<std::uint64_t> covered_;
};

/// The loops, by what a mount tells of them.
class Owners {
 public:
  explicit Owners(const std::vector<std::pair<mount::LoopEntry, OurLoop>>& loops) {
    for (const auto& [loop, our] : loops) {
      by_number_[loop.number] = &our;
      by_path_[loop.path] = &our;
    }
  }
  [[nodiscard]] std::pair<const OurLoop*, Shape> of(const mount::MountEntry& entry) const {
    const Shape shape = entry.root == "/" ? Shape::whole : Shape::part;
    if (entry.fs_type == "devtmpfs") {
      return {find(by_path_, "/dev" + entry.root), Shape::node};  // a bound node shows as the file of that name
    }
    if (const OurLoop* our = find(by_number_, entry.device); our != nullptr) {
      return {our, shape};
    }
    // The device number of a btrfs is anonymous; its source names the device.
    return {entry.fs_type == "btrfs" ? find(by_path_, entry.source) : nullptr, shape};
  }

 private:
  template <class Key>
  static const OurLoop* find(const std::map<Key, const OurLoop*>& map, const Key& key) {
    const auto found = map.find(key);
    return found == map.end() ? nullptr : found->second;
  }
  std::map<std::uint64_t, const OurLoop*> by_number_;
  std::map<std::string, const OurLoop*> by_path_;
};

bool is_asked_for(const Core& core, const std::string& volume, const mount::MountEntry& entry, Shape shape) {
  // The node of a device that went away stays at its target, also where the number is another volume's by now.
  return shape == Shape::node ? !core.ledger->owner_of(entry.mount_point).empty()
                              : shape == Shape::whole && core.ledger->owns(volume, entry.mount_point);
}

/// What others bind of a published volume is theirs to end: they have it by a publication, which they end by a call.
bool is_theirs(const VolumeState& state, Shape shape) {
  return shape != Shape::whole && (!state.publications.empty() || !state.found.empty());
}

}  // namespace

bool is_in_pool(const Core& core, const mount::LoopEntry& loop) {
  return std::ranges::any_of(core.config.pools, [&](const PoolConfig& pool) {
    return loop.backing.starts_with(pool.directory + "/") && loop.backing.ends_with(".img");
  });
}

Stray stray_mount(const std::string& volume, const std::string& who, const mount::MountEntry& entry, bool covered) {
  const std::string path = quoted(entry.mount_point);
  const bool part = entry.root != "/" && entry.fs_type != "devtmpfs";
  Stray stray{.volume = volume, .what = who + " is mounted at " + entry.mount_point, .command = (covered ? "findmnt " : "umount ") + path};
  stray.what.append(part ? " (of it " + entry.root + ")" : "").append(", which no call asked for");
  stray.what +=
      covered ? ", beneath another mount, which has to go first" : "; who uses it shows fuser -vm " + path + "; if nobody needs it";
  return stray;
}

Result<std::vector<Stray>> find_stray_mounts(const Core& core, mount::Kernel& kernel) {
  TRY(auto loops, kernel.loops());
  const auto ours = our_loops(core, std::move(loops));
  if (ours.empty()) {
    return std::vector<Stray>{};
  }
  TRY(const auto entries, kernel.mount_table());
  const Table table{entries};
  const Owners owners{ours};
  std::set<std::pair<std::string, Place>> known;
  std::vector<std::pair<const mount::MountEntry*, const OurLoop*>> unknown;
  for (const mount::MountEntry& entry : entries) {
    const auto [our, shape] = owners.of(entry);
    if (our == nullptr) {
      continue;
    }
    if (our->is_volume && is_asked_for(core, our->volume, entry, shape)) {
      known.emplace(our->volume, table.place_of(entry));
    } else if (!our->is_volume || !is_theirs(core.ledger->state(our->volume), shape)) {
      unknown.emplace_back(&entry, our);
    }
  }
  std::vector<Stray> strays;
  for (const auto& [entry, our] : unknown) {
    if (known.emplace(our->volume, table.place_of(*entry)).second) {  // of a stray's copies, too, one is told of
      strays.push_back(stray_mount(our->volume, our->who, *entry, table.is_covered(*entry)));
    }
  }
  return strays;
}

}  // namespace ordinald::agent
