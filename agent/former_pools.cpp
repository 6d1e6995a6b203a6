#include "agent/former_pools.hpp"

#include <algorithm>
#include <set>

namespace ordinald::agent {

std::vector<PoolConfig> find_former_pools(const Core& core) {
  std::set<std::string> names;
  for (const auto& record : core.records->all()) {
    if (!core.pools.contains(record->pool)) {
      names.insert(record->pool);
    }
  }
  std::vector<PoolConfig> pools;
  for (const std::string& name : names) {
    pools.push_back(PoolConfig{.name = name, .directory = core.marks.directory_of(name), .reserve_percent = 0});
  }
  return pools;
}

FormerPromises promises_of(const Core& core, const std::string& pool) {
  FormerPromises promised;
  for (const auto& record : core.records->all()) {
    if (record->pool == pool) {
      ++promised.volumes;
      promised.bytes += record->size;
    }
  }
  return promised;
}

Result<mount::PoolUsage> look_at_former_pool(const Core& core, mount::Kernel& kernel, const PoolConfig& pool) {
  const auto gone = [&](const std::string& why) { return mount::make_error(ErrorCode::not_found, "pool " + pool.name + ": " + why); };
  if (pool.directory.empty()) {
    return gone("where its directory was is not known");
  }
  // It is not claimed: another agent may have it by now.
  auto usage = kernel.inspect_pool(pool.directory);
  if (!usage) {
    return usage.error().with_context("pool " + pool.name);
  }
  if (usage.value().mark != core.marks.of(pool.name)) {
    return gone("another directory is at " + pool.directory + " by now, or its file system is not mounted");
  }
  return usage;
}

PoolView view_former_pool(const Core& core, const PoolConfig& pool, const Result<mount::PoolUsage>& usage,
                          const std::vector<PoolView>& others) {
  if (usage) {
    core.places.note(pool.directory, usage.value().filesystem);
    PoolView view{.pool = &pool, .usage = usage.value()};
    if (std::ranges::any_of(others, [&](const PoolView& other) { return other.usage.mark == view.usage.mark; })) {
      view.usage.images.clear();
    }
    return view;
  }
  if (!core.told_once.contains(pool.name)) {
    core.told_once.insert(pool.name);
    const FormerPromises promised = promises_of(core, pool.name);
    core.log->warn(
        "{}; the pool is not configured, and its {} volumes are promised {} bytes, which are kept free on the file system of "
        "every other pool, since theirs is not known: put the pool back into the configuration, or its directory in its place",
        usage.error().message, promised.volumes, promised.bytes);
  }
  return PoolView{.pool = &pool, .usage = {}};
}

}  // namespace ordinald::agent
