#include "mount/cgroup_users.hpp"

#include <dirent.h>

#include <cstdlib>
#include <set>
#include <vector>

#include "mount/cgroups.hpp"
#include "mount/files.hpp"
#include "mount/process_use.hpp"

namespace ordinald::mount {
namespace {

/// How often a group is listed again because processes of it ended while they were looked at: those may have forked others.
constexpr int most_rounds = 8;
/// True: some ended while they were looked at, others than those in `ended`, and may have forked more.
template <class List>
bool look_at_all(List list, const CgroupQuery& query, std::set<std::int64_t>& ended, CgroupUsers& result) {
  result.unseen = 0;
  result.users.clear();
  const std::size_t ended_before = ended.size();
  Search search{.query = query};
  const std::vector<std::int64_t> pids = list(result.unseen);
  for (const std::int64_t pid : pids) {
    const auto use = look_at_process(pid, search);
    if (!use) {
      ++result.unseen;
    } else if (use.value().ended) {
      ended.insert(pid);
    } else if (query.any || !use.value().at.empty()) {
      result.users.push_back(
          {.pid = pid, .command = use.value().command, .mount_point = use.value().at, .mount_namespace = use.value().mount_namespace});
    }
  }
  return ended.size() > ended_before && result.users.empty() && result.unseen == 0;
}

}  // namespace

Result<CgroupUsers> find_cgroup_users(const CgroupQuery& query, const std::string& root) {
  TRY(const auto seen, find_hierarchies(root));
  CgroupUsers result;
  result.visible = !seen.empty();
  if (query.names.empty()) {
    result.unseen = count_unseen(seen);
    return result;
  }
  std::set<std::int64_t> ended;
  if (query.names.front() == "/") {
    std::vector<std::int64_t> all;
    TRYV(each_entry("/proc", DT_DIR, [&](const std::string& name) -> Result<void> {
      if (name.find_first_not_of("0123456789") == std::string::npos) {
        all.push_back(std::strtoll(name.c_str(), nullptr, 10));
      }
      return success();
    }));
    look_at_all([&](std::uint64_t&) { return all; }, query, ended, result);
    result.found = true;
    return result;
  }
  TRY(const auto groups, find_groups(seen, query.names));
  result.found = !groups.empty();
  const auto list = [&](std::uint64_t& unseen) { return list_processes(groups, unseen); };
  for (int round = 0; look_at_all(list, query, ended, result); ++round) {
    if (round == most_rounds) {
      ++result.unseen;
      break;
    }
  }
  return result;
}

}  // namespace ordinald::mount
