#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tests/model/step.hpp"
#include "tests/model/world.hpp"

/// What the interface's rules say of one volume: which codes a call may get, and what is so afterwards. Written from the rules, not from
/// the agent's code; where they leave a choice, all choices are allowed.
///
/// The model is a nondeterministic automaton: a volume has a set of possible states, each answer and each look at the node leaves those
/// that fit, and none left is a failure. A call that was cut off by a crash leaves both: done and not done.
/// Values; no locking.
namespace ordinald::testing {

/// The entry is in the ledger (`known`), and what it says is mounted (`present`). Somebody unmounted it: known only. Its ledger was lost:
/// present only.
struct Staged {
  std::string path{};
  bool block = false;
  int mode = 0;
  std::string fs{};
  std::string flag{};
  bool read_only = false;
  bool known = true;
  bool present = true;
  bool vague = false;  ///< found when the ledger was lost: what it was staged with is not wholly known
  bool operator==(const Staged&) const = default;
};

struct Published {
  std::string target{};
  std::string staging{};
  bool block = false;
  int mode = 0;
  std::string fs{};
  std::string flag{};
  bool asked_readonly = false;
  bool read_only = false;  ///< in effect
  std::string pod{};
  bool known = true;
  bool present = true;
  bool stale = false;  ///< block: what is bound is the node of a device that went away
  bool operator==(const Published&) const = default;
};

struct Volume {
  enum class Content : std::uint8_t { blank, formatted, raw };
  bool exists = false;
  std::string id{};  ///< empty: not told yet
  // As created.
  bool block = false;
  bool both = false;
  bool allow = false;
  std::string created_fs{};
  std::int64_t created_size = 0;
  std::int64_t size = 0;
  Content content = Content::blank;
  std::string fs{};          ///< what it is or would be formatted with where none is asked for
  std::string holds{};       ///< the filesystem on it
  std::int64_t fs_size = 0;  ///< the device's, when the filesystem was last made or grown
  bool had = false;          ///< it was mounted once with that; a filesystem that a stage was cut off behind is made again, perhaps another
  std::string uuid{};        ///< once seen and had
  std::optional<std::string> data{};
  std::vector<Staged> staged{};
  std::vector<Published> published{};
  bool damaged = false;      ///< its record was set aside; it may be refused, but nothing of it may be lost
  bool device_gone = false;  ///< a block volume's loop was taken away
  bool loose_loop = false;   ///< a loop that nobody knows of may be there
  bool refused = false;      ///< a stage was
  bool node_left = false;    ///< a node of a device that went away, whosever, is bound: where its device has the number, it is found
  bool deleting = false;     ///< its deletion was cut off once it was written down: it may be finished at any moment
  bool operator==(const Volume&) const = default;

  Staged* stage_at(const std::string& path);
  const Staged* stage_at(const std::string& path) const { return const_cast<Volume*>(this)->stage_at(path); }
  Published* publication_at(const std::string& target);
  const Published* publication_at(const std::string& target) const { return const_cast<Volume*>(this)->publication_at(target); }
  [[nodiscard]] bool idle() const { return staged.empty() && published.empty(); }
};

struct Environment {
  bool grows_mounted_ext4 = true;
  std::int64_t pool_size = 0;
};

/// At most this small a volume can hold it; 0 for block.
std::int64_t smallest(const std::string& fs);

/// The codes that the rules allow.
Codes expected(const Volume& volume, const Call& call, const Environment& environment);

/// What may be so after that answer; none: the answer is wrong.
std::vector<Volume> after(const Volume& volume, const Call& call, const Answer& answer, const Environment& environment);

/// States into which the agent may bring the volume by itself: it may drop what is not mounted any more.
std::vector<Volume> with_drops(const Volume& volume);

/// After kill -9 and a start; after a reboot; with a lost ledger.
void restarted(Volume& volume);
void rebooted(Volume& volume);
void ledger_lost(Volume& volume);

/// What of the volume is not as the node has it; empty: all is. Learns the filesystem's UUID. `stale`: paths of nodes of devices that are
/// gone.
std::string disagreement(Volume& volume, const Facts& facts, const std::set<std::string>& stale);

std::string to_string(const Volume& volume);

}  // namespace ordinald::testing
