#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace ordinald::agent {

/// The workload that a publication belongs to, as the orchestrator told it; members are empty where it did not. On bare metal it is a
/// claim, `host/db-0`, and the systemd unit that uses it.
struct Holder {
  std::string pod_namespace;
  std::string pod_name;
  std::string pod_uid;
  std::string service_account;
  std::string unit{};  ///< `postgres@0.service`
  bool operator==(const Holder&) const = default;
};

/// `prod/db-1 (uid …)`, `host/db-0 (unit postgres@0.service)`, `unit postgres@0.service`, or "an unnamed workload".
std::string to_string(const Holder& holder);

/// As `ordinalctl release --holder` takes it: a uid before a name, which the next pod has too.
std::string name_for_release(const Holder& holder);

/// Whether nothing tells who it is.
bool is_unnamed(const Holder& holder);

/// Whether two are one workload: by uid where either has one, else by namespace, name and unit.
bool is_same(const Holder& one, const Holder& other);

/// Whether a systemd unit of that name can have processes, and so a control group: a service, scope or slice, no template
/// (systemd.unit(5)).
bool is_unit_name(std::string_view name);

/// A time in which a holder had a volume, after it is over.
struct Tenure {
  Holder holder;
  std::string target;
  std::string from;  ///< UTC, ISO 8601
  std::string to;
  std::string ended;  ///< how: `unpublished`, `target gone`
  std::string boot_id;
  bool block = false;      ///< as a raw block device
  bool exclusive = false;  ///< in a mode that lets nobody else have it
  bool operator==(const Tenure&) const = default;
};

/// How many a volume remembers.
inline constexpr std::size_t longest_history = 16;

/// Adds the newest. Beyond that it forgets the oldest of an earlier boot, which can have the volume no more; else one whose holder has had
/// it again since; else the oldest.
void remember(std::vector<Tenure>& history, Tenure tenure);

}  // namespace ordinald::agent
