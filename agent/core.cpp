#include "agent/core.hpp"

#include <algorithm>
#include <optional>

#include "agent/access_rules.hpp"
#include "agent/former_pools.hpp"
#include "agent/path_words.hpp"

namespace ordinald::agent {

Result<std::shared_ptr<const VolumeRecord>> Core::require(const std::string& id) const {
  auto record = records->find(id);
  if (record == nullptr) {
    if (const auto damaged = records->find_damaged(id)) {
      return volume_error(ErrorCode::failed_precondition, id,
                          "its record could not be read and was set aside as " + damaged->file + " (" + damaged->why +
                              "); mend the file, name it " + id + ".json again and restart the agent");
    }
    return volume_error(ErrorCode::not_found, id, "there is no such volume on this node");
  }
  if (record->deleting) {
    return volume_error(ErrorCode::failed_precondition, id, "it is being deleted");
  }
  return record;
}

Result<const mount::Pool*> Core::pool_of(const VolumeRecord& record) const {
  const auto found = pools.find(record.pool);
  if (found == pools.end()) {
    return volume_error(ErrorCode::failed_precondition, record.id, "its pool " + record.pool + " is not configured; put it back");
  }
  return found->second.get();
}

namespace {

Result<PoolView> view(const Core& core, const PoolConfig& pool) {
  auto kernel = core.kernels.for_volume("pool:" + pool.name);
  if (!kernel) {
    return kernel.error().with_context("pool " + pool.name);
  }
  TRY(auto usage, look_at_pool(core, *kernel.value(), *core.pools.at(pool.name)));
  core.places.note(pool.directory, usage.filesystem);
  return PoolView{.pool = &pool, .usage = std::move(usage)};
}

}  // namespace

std::vector<PoolView> Core::view_pools() const {
  std::vector<PoolView> views;
  for (const PoolConfig& pool : config.pools) {
    if (auto found = view(*this, pool)) {
      views.push_back(std::move(found.value()));
    } else {
      log->warn("{}", found.error().message);
    }
  }
  return views;
}

Result<std::vector<PoolView>> Core::view_pools_beside(const std::string& pool) const {
  std::vector<PoolView> views;
  const auto asked = std::ranges::find(config.pools, pool, &PoolConfig::name);
  if (asked == config.pools.end()) {
    return mount::make_error(ErrorCode::failed_precondition, "pool " + pool + " is not configured; put it back");
  }
  auto own = view(*this, *asked);
  if (!own && own.error().code == ErrorCode::resource_exhausted) {
    return own.error();
  }
  if (!own) {
    return mount::make_error(ErrorCode::unavailable, "pool " + pool + " can't be looked at now: " + own.error().message);
  }
  const std::string filesystem = own.value().usage.filesystem;
  views.push_back(std::move(own.value()));
  for (const PoolConfig& other : config.pools) {
    if (other.name == pool || places.elsewhere(other.directory, filesystem)) {
      continue;
    }
    if (auto found = view(*this, other)) {
      views.push_back(std::move(found.value()));
    } else {
      log->warn("{}", found.error().message);
    }
  }
  for (const PoolConfig& former : former_pools) {
    if (promises_of(*this, former.name).volumes > 0 && !places.elsewhere(former.directory, filesystem)) {
      const auto kernel = kernels.for_volume("pool:" + former.name);
      const auto usage = kernel ? look_at_former_pool(*this, *kernel.value(), former) : Result<mount::PoolUsage>{kernel.error()};
      views.push_back(view_former_pool(*this, former, usage, views));
    }
  }
  return views;
}

Result<void> Core::refuse_own_path(const std::string& path) const {
  const auto check = [&](const std::string& own) -> Result<void> {
    if (!is_within(path, own) && !is_within(own, path)) {
      return mount::success();
    }
    return mount::make_error(ErrorCode::invalid_argument, "a mount at " + path + " would hide what the agent keeps in " + own);
  };
  TRYV(check(config.state_dir));
  TRYV(check(config.run_dir));
  for (const PoolConfig& pool : config.pools) {
    TRYV(check(pool.directory));
  }
  return mount::success();
}

const PoolConfig& Core::default_pool() const {
  for (const PoolConfig& pool : config.pools) {
    if (pool.is_default) {
      return pool;
    }
  }
  return config.pools.front();
}

mount::PoolVolume pool_volume(const VolumeRecord& record) {
  return mount::PoolVolume{.id = record.id, .size = record.size, .block_size = record.block_size};
}

Error on_volume(const std::string& id, const Error& error) { return error.with_context("volume " + id); }

Error volume_error(ErrorCode code, const std::string& id, const std::string& message) {
  return mount::make_error(code, "volume " + id + ": " + message);
}

Result<void> check_mode(const VolumeRecord& record, AccessMode mode) {
  const bool several_nodes = mode == AccessMode::multi_node_single_writer || mode == AccessMode::multi_node_multi_writer;
  if (several_nodes && !record.multi_node) {
    return volume_error(ErrorCode::failed_precondition, record.id,
                        std::string{to_string(mode)} +
                            " can't be had: its data lives on this node only (parameter multiNodeModes=allow of a new volume takes it at "
                            "your word)");
  }
  return mount::success();
}

}  // namespace ordinald::agent
