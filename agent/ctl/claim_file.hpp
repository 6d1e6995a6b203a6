#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "mount/result.hpp"

/// A claim file: a StatefulSet's storage for systemd units, `/etc/ordinald/claims/<set>.json`. JSON, comments allowed; strict.
///
/// Pure but for the loading; any thread. Errors: invalid_argument names file and key; not_found: no such file. Sizes in bytes.
namespace ordinald::ctl {

enum class Management : std::uint8_t { ordered_ready, parallel };
enum class Update : std::uint8_t { rolling, on_delete };
enum class Retention : std::uint8_t { retain, remove };  ///< `remove` is written `Delete`
enum class ClaimMode : std::uint8_t { read_write_once_pod, read_write_once };

/// One volume of each ordinal.
struct ClaimTemplate {
  std::string name{};
  std::uint64_t size = 0;  ///< whole MiB
  std::string fs_type{};   ///< empty: the agent's default
  std::vector<std::string> mount_options{};
  std::string pool{};  ///< empty: the agent's default
  ClaimMode mode = ClaimMode::read_write_once_pod;
  std::map<std::string, std::string> parameters{};  ///< of the volume, as a StorageClass has them
};

struct ClaimSet {
  std::string name{};
  std::string service_name{};  ///< the set's name where the file has none
  std::int64_t replicas = 1;
  std::int64_t start_ordinal = 0;
  std::chrono::seconds min_ready{0};
  Management management = Management::ordered_ready;
  Update update = Update::rolling;
  std::string unit{};          ///< `postgres@.service`; empty: none
  std::string address_base{};  ///< IPv4, ordinal 0's; empty: the members have no addresses
  std::vector<ClaimTemplate> templates{};
  Retention when_deleted = Retention::retain;
  Retention when_scaled = Retention::retain;
  std::string mount_path = "/srv/{set}-{ordinal}/{template}";
  std::string owner{};  ///< of each volume's root: a name or a number; empty: as it is
  std::string group{};
  std::string mode{};  ///< octal; empty: as it is
};

/// `origin` names the file in errors.
mount::Result<ClaimSet> parse_claim_set(std::string_view text, const std::string& origin);
mount::Result<ClaimSet> load_claim_set(const std::string& path);
/// All `*.json` of the directory, by name, each named as its set; refuses two whose claims would have one name (`data` of `db-0` and
/// `data-db` of `0`), or whose ordinals would have one address, unit or mount path. No such directory: none.
mount::Result<std::vector<ClaimSet>> load_claim_sets(const std::string& directory);
/// What a claim file is called while its set is being deleted: no name of a set's, so that nobody claims of it.
std::string deleting_path(const std::string& path);
/// The set of that name; not_found names those that there are.
mount::Result<ClaimSet> find_claim_set(const std::string& directory, const std::string& name);
/// Refuses the set where another of the directory's would have the same of these. Files that can't be read are passed over.
mount::Result<void> refuse_shared_claims(const std::string& directory, const ClaimSet& set);

/// The file's text with another number of replicas and nothing else changed, comments included.
mount::Result<std::string> with_replicas(const std::string& text, std::int64_t replicas);

/// An ordinal of a set: `db-0`.
struct Member {
  std::string set{};
  std::int64_t ordinal = 0;
  bool operator==(const Member&) const = default;
};
/// Cut at the last dash, so that `db-0-1` is ordinal 1 of set `db-0` and nothing else.
mount::Result<Member> split_ordinal_name(std::string_view name);

/// From start_ordinal on, ascending.
std::vector<std::int64_t> ordinals(const ClaimSet& set);
bool has_ordinal(const ClaimSet& set, std::int64_t ordinal);
std::string ordinal_name(const ClaimSet& set, std::int64_t ordinal);                         ///< `db-0`
std::string claim_name(const ClaimTemplate& of, const ClaimSet& set, std::int64_t ordinal);  ///< `data-db-0`
std::string mount_path(const ClaimSet& set, const ClaimTemplate& of, std::int64_t ordinal);  ///< `/srv/db-0/data`
std::string unit_of(const ClaimSet& set, std::int64_t ordinal);                              ///< `postgres@0.service`, or empty
std::string address_of(const ClaimSet& set, std::int64_t ordinal);                           ///< address_base + ordinal, or empty
std::string stable_name(const ClaimSet& set, std::int64_t ordinal);                          ///< `db-0.<service>`

}  // namespace ordinald::ctl
