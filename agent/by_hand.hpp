#pragma once

#include <string>
#include <vector>

#include "agent/core.hpp"
#include "agent/publisher.hpp"

namespace ordinald::agent {

/// Who holds a volume, and who of its processes has it.
struct Hold {
  Holder holder{};
  bool unknown_holder = false;  ///< found mounted when the ledger was lost
  std::string target{};
  std::string since{};
  bool mounted = false;
  std::string ended{};                  ///< how, where only its processes still have the volume; empty: it is published
  bool block = false;                   ///< it is over, and was a raw block device: its processes count whatever they have
  std::vector<mount::Pin> processes{};  ///< `mount_point`: where it is mounted for it, or the file that it has open
  std::uint64_t unseen = 0;             ///< processes of its that can't be looked into
};

struct Holds {
  std::vector<Hold> holds{};
  std::vector<mount::Pin> others{};  ///< whoever else has the volume, for itself and not as a copy of the mount table
  std::string past_lost{};           ///< VolumeState's: while it is set, the others keep it from the next holder
  std::string unchecked{};           ///< why processes could not be looked at; empty: they were
};

/// Whether the hold's own processes can be told from others': else they are among `others`, and none of those may be left when it ends.
bool is_told_apart(const Holds& all, const Hold& hold);

/// What a person decides: to end a hold, to give a volume to another claim. Each runs under the volume's lock, except holds(), which
/// changes nothing, and asks no device: it answers while one hangs.
class ByHand {
 public:
  ByHand(Core& core, Publisher& publisher) : core_(core), publisher_(publisher) {}

  /// Every hold, and of former holders of this boot those whose processes still have the volume.
  [[nodiscard]] Result<Holds> holds(const std::string& id) const;

  /// Ends the holds of a holder (`namespace/name`, a uid, a unit, or `unknown` for what was found mounted), or that at one target of its.
  /// Unmounts the target, plainly. failed_precondition: busy, or its processes still have the volume, and who; not_found: no such hold.
  /// Answers what was ended.
  Result<std::vector<Hold>> release(const std::string& id, const std::string& holder, const std::string& target);

  /// Binds the volume to another claim, in its record and in its image's label (image_label.hpp); durable. failed_precondition: held, and
  /// by whom; or its image is missing. already_exists: another volume has that claim.
  Result<std::string> rebind(const std::string& id, const Claim& claim);

 private:
  Core& core_;
  Publisher& publisher_;
};

/// Whether `text` names the holder.
bool is_named(const Holder& holder, const std::string& text);

/// `process 12 (postgres) has it at /var/lib/db; …`, of at most some.
std::string describe(const std::vector<mount::Pin>& processes);

}  // namespace ordinald::agent
