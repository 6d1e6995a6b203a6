#include "agent/pool_marks.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "agent/adoption_words.hpp"
#include "agent/core.hpp"
#include "agent/durable_file.hpp"
#include "agent/strict_json.hpp"

namespace ordinald::agent {
namespace {

constexpr const char* marks_file = "pools.json";

std::string configured_directory(const Core& core, const std::string& pool) {
  return std::ranges::find(core.config.pools, pool, &PoolConfig::name)->directory;
}

/// A UUID, or what a person has put in its place. Whatever else the attribute holds would not fit into the file, nor into a command.
bool is_mark(std::string_view mark) {
  constexpr std::size_t longest = 128;
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.' || c == ':';
  };
  return !mark.empty() && mark.size() <= longest && std::ranges::all_of(mark, plain);
}

Error not_the_pools(const Core& core, const std::string& pool, const std::string& why, const std::string& mark) {
  const std::string directory = configured_directory(core, pool);
  return mount::make_error(ErrorCode::failed_precondition,
                           "pool " + pool + ": its directory " + directory + " is not the one that it has had until now: " + why +
                               ". Is its file system mounted? Nothing is made, removed or recovered there. Where it is the right one, "
                               "because the pool was moved or begins anew: setfattr -n trusted.ordinald.pool -v " +
                               mark + " " + quoted(directory));
}

/// Not to have it on disk costs a look: with the next one it is known again.
void keep(const Core& core, const std::string& pool, const std::string& mark) {
  if (auto kept = core.marks.keep(pool, mark, configured_directory(core, pool)); !kept) {
    core.log->warn("pool {}: the mark of its directory is not kept yet: {}", pool, kept.error().message);
  }
}

Result<void> judge_known(const Core& core, const std::string& pool, const std::string& known, const std::string& found) {
  if (found == known) {
    return mount::success();
  }
  return not_the_pools(core, pool,
                       found.empty() ? "it lacks the mark of that"
                                     : "it bears the mark of another, " + (is_mark(found) ? found : describe(nlohmann::json(found))),
                       known);
}

/// How many volumes the pool has by their records, and whether the image of any is among these. A create's or delete's that was interrupted
/// counts for neither.
std::size_t volumes_of(const Core& core, const std::string& pool, const std::vector<mount::PoolImage>& images, bool& any_here) {
  std::size_t volumes = 0;
  any_here = false;
  for (const auto& record : core.records->all()) {
    if (record->pool != pool || !record->provisioned || record->deleting) {
      continue;
    }
    ++volumes;
    any_here = any_here || std::ranges::any_of(images, [&](const mount::PoolImage& image) { return image.volume_id == record->id; });
  }
  return volumes;
}

Result<void> judge_unknown(const Core& core, mount::Kernel& kernel, const mount::Pool& pool, const mount::PoolUsage& usage) {
  std::string mark = usage.mark;
  if (mark.empty()) {
    bool any_here = false;
    const std::size_t volumes = volumes_of(core, pool.name(), usage.images, any_here);
    if (volumes == 0) {
      return mount::success();
    }
    if (!any_here) {
      return not_the_pools(core, pool.name(), "it has none of the images of its " + std::to_string(volumes) + " volumes",
                           "$(cat /proc/sys/kernel/random/uuid)");
    }
    auto marked = pool.set_mark(kernel, make_uuid());
    if (!marked) {
      core.log->warn("its directory can't be marked as its own: {}", marked.error().message);
      return mount::success();
    }
    mark = std::move(marked.value());
  }
  keep(core, pool.name(), mark);
  return mount::success();
}

}  // namespace

std::map<std::string, std::string> parse_pool_marks(std::string_view text) {
  std::map<std::string, std::string> marks;
  const auto file = nlohmann::json::parse(text, nullptr, false);
  if (!file.is_object() || !file.contains("marks") || !file["marks"].is_object()) {
    return marks;
  }
  for (const auto& [pool, mark] : file["marks"].items()) {
    if (mark.is_string() && is_mark(mark.get_ref<const std::string&>())) {
      marks[pool] = mark.get<std::string>();
    }
  }
  return marks;
}

std::map<std::string, std::string> parse_pool_directories(std::string_view text) {
  std::map<std::string, std::string> directories;
  const auto file = nlohmann::json::parse(text, nullptr, false);
  if (!file.is_object() || !file.contains("directories") || !file["directories"].is_object()) {
    return directories;
  }
  for (const auto& [pool, directory] : file["directories"].items()) {
    if (directory.is_string() && directory.get_ref<const std::string&>().starts_with('/')) {
      directories[pool] = directory.get<std::string>();
    }
  }
  return directories;
}

std::string to_json(const std::map<std::string, std::string>& pool_marks, const std::map<std::string, std::string>& directories) {
  return nlohmann::json{{"marks", pool_marks}, {"directories", directories}}.dump(2) + "\n";
}

PoolMarks::PoolMarks(std::string state_dir) : state_dir_(std::move(state_dir)) {
  if (const auto text = read_file(state_dir_ + "/" + marks_file)) {
    marks_ = parse_pool_marks(text.value());
    directories_ = parse_pool_directories(text.value());
  }
}

std::string PoolMarks::directory_of(const std::string& pool) const {
  const std::scoped_lock lock{mutex_};
  const auto found = directories_.find(pool);
  return found == directories_.end() ? std::string{} : found->second;
}

std::string PoolMarks::of(const std::string& pool) const {
  const std::scoped_lock lock{mutex_};
  const auto found = marks_.find(pool);
  return found == marks_.end() ? std::string{} : found->second;
}

Result<void> PoolMarks::keep(const std::string& pool, const std::string& mark, const std::string& directory) {
  const std::scoped_lock lock{mutex_};
  auto marks = marks_;
  auto directories = directories_;
  marks[pool] = mark;
  directories[pool] = directory;
  if (marks == marks_ && directories == directories_) {
    return mount::success();
  }
  if (!is_mark(mark)) {
    return mount::make_error(ErrorCode::failed_precondition,
                             directory + " bears " + describe(nlohmann::json(mark)) +
                                 ", which is no mark of an agent; take it off, and it gets one: setfattr -x "
                                 "trusted.ordinald.pool " +
                                 quoted(directory));
  }
  TRYV(write_file(state_dir_, marks_file, to_json(marks, directories), Durability::power_loss));
  marks_ = std::move(marks);
  directories_ = std::move(directories);
  return mount::success();
}

Result<mount::PoolUsage> look_at_pool(const Core& core, mount::Kernel& kernel, const mount::Pool& pool) {
  const auto look = [&]() -> Result<mount::PoolUsage> {
    const std::string known = core.marks.of(pool.name());  // first: it is kept after the directory has it
    TRY(auto usage, pool.usage(kernel));
    auto own = known.empty() ? judge_unknown(core, kernel, pool, usage) : judge_known(core, pool.name(), known, usage.mark);
    if (!own) {
      return mount::make_error(ErrorCode::not_found, own.error().message);
    }
    if (!known.empty()) {
      keep(core, pool.name(), known);  // it may have been moved, or marked by an agent that kept no directories
    }
    return usage;
  };
  auto usage = look();
  // Between this call's look at the directory and at the records another may have made the pool's first volume.
  return usage || usage.error().code != ErrorCode::not_found ? std::move(usage) : look();
}

Result<void> require_own_pool(const Core& core, mount::Kernel& kernel, const mount::Pool& pool) {
  if (const std::string known = core.marks.of(pool.name()); !known.empty()) {
    TRY(const std::string found, pool.mark(kernel));
    return judge_known(core, pool.name(), known, found);
  }
  auto usage = look_at_pool(core, kernel, pool);
  if (!usage) {
    Error error = usage.error();
    error.code = error.code == ErrorCode::not_found ? ErrorCode::failed_precondition : error.code;
    return error;
  }
  return mount::success();
}

Result<void> mark_own_pool(const Core& core, mount::Kernel& kernel, const mount::Pool& pool) {
  TRYV(require_own_pool(core, kernel, pool));
  if (!core.marks.of(pool.name()).empty()) {
    return mount::success();
  }
  TRY(const std::string mark, pool.set_mark(kernel, make_uuid()));
  keep(core, pool.name(), mark);
  return mount::success();
}

}  // namespace ordinald::agent
