#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

/// What the random orchestrator does, as plain data: a failing run is a list of steps that can be printed, cut down and replayed.
/// Paths are relative to the world's root: `stage/3a`, `pods/3b`. Volumes are numbers; their ids are filled in when a call is made.
namespace ordinald::testing {

/// A call's end. `none`: the agent died before it answered.
enum class Code : std::uint8_t {
  ok,
  invalid_argument,
  not_found,
  already_exists,
  failed_precondition,
  aborted,
  resource_exhausted,
  out_of_range,
  unimplemented,
  internal,
  unavailable,
  none,
};
using Codes = std::set<Code>;

enum class Verb : std::uint8_t {
  create,
  remove,
  validate,
  get,
  list,
  capacity,
  expand,
  health,
  list_health,
  stage,
  unstage,
  publish,
  unpublish,
  stats,
  node_health,
  storage_health,
  node_expand,
};

/// What stands in a target's way. Litter: what the agent made for a mount that is gone, an empty file or directory.
enum class Obstacle : std::uint8_t { none, file, symlink, full_directory, litter };

/// Whether another volume has the path.
enum class Taken : std::uint8_t { no, maybe, yes };

struct Call {
  Verb verb = Verb::list;
  int volume = 0;
  std::string id{};       ///< filled in by the runner
  std::string staging{};  ///< of stats and node_expand: the volume_path
  std::string target{};
  int mode = 7;
  bool block = false;
  bool both = false;  ///< create: a second capability of the other access type
  std::string fs{};
  std::string flag{};  ///< one mount flag, or none
  bool readonly = false;
  bool allow = false;  ///< create: multiNodeModes=allow
  std::string pod{};
  std::int64_t size = 0;
  std::int64_t limit = 0;
  // What the runner knows of the path when the call is made.
  Obstacle obstacle = Obstacle::none;
  Taken taken = Taken::no;
  Taken staging_taken = Taken::no;  ///< publish: the staging path is another volume's
};

struct Answer {
  Code code = Code::none;
  std::string message{};
  std::string id{};
  std::int64_t size = 0;
  bool confirmed = false;
  std::set<std::string> reasons{};
  std::map<std::string, std::int64_t> listed{};  ///< id → capacity
};

/// What is broken while the agent is down.
struct Wound {
  enum class Kind : std::uint8_t { lose_ledger, garble_ledger, truncate_record, garble_record, mend_record };
  Kind kind = Kind::lose_ledger;
  int volume = 0;
  std::uint32_t where = 0;
};

struct Step {
  enum class Kind : std::uint8_t { calls, restart, reboot, write, unmount, detach, obstruct, clear, repair };
  Kind kind = Kind::calls;
  std::vector<Call> calls{};    ///< made at once
  std::optional<int> crash{};   ///< the agent dies at this point of them (the fake's n-th act, or milliseconds)
  bool power = false;           ///< … and the node with it
  std::uint32_t reversed = 0;   ///< bit n: of the n-th interrupted call the opposite follows, not the repetition
  std::vector<Wound> wounds{};  ///< of a restart, reboot or crash
  int volume = 0;               ///< write, detach
  std::string path{};           ///< write, unmount, obstruct, clear
  std::string text{};           ///< write
  Obstacle obstacle = Obstacle::none;
};

std::string to_string(Code code);
std::string to_string(const Codes& codes);
std::string to_string(Verb verb);
std::string to_string(const Call& call);
std::string to_string(const Step& step);
std::string to_string(const Answer& answer);

bool is_reader_only(int mode);

}  // namespace ordinald::testing
