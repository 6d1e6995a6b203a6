#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace ordinald::agent {

/// The workload that a publication belongs to, as the orchestrator told it; members are empty where it did not.
struct Holder {
  std::string pod_namespace;
  std::string pod_name;
  std::string pod_uid;
  std::string service_account;
  bool operator==(const Holder&) const = default;
};

/// `prod/db-1 (uid …)`, or "an unnamed workload".
std::string to_string(const Holder& holder);

/// A time in which a holder had a volume, after it is over.
struct Tenure {
  Holder holder;
  std::string target;
  std::string from;  ///< UTC, ISO 8601
  std::string to;
  std::string ended;  ///< how: `unpublished`, `target gone`
  std::string boot_id;
  bool operator==(const Tenure&) const = default;
};

/// How many a volume remembers.
inline constexpr std::size_t longest_history = 16;

/// Adds the newest, and forgets the oldest beyond that.
void remember(std::vector<Tenure>& history, Tenure tenure);

}  // namespace ordinald::agent
