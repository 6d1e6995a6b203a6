#include "tests/crash/fake_world.hpp"

#include <algorithm>
#include <filesystem>
#include <set>
#include <stdexcept>

#include "mount/crash_point.hpp"
#include "tests/support/logs.hpp"

namespace ordinald::testing {
namespace fs = std::filesystem;
using mount::Result;
using mount::success;

namespace {

constexpr auto mode = csi::AccessMode::single_node_single_writer;
const std::string staging = "/stage";
const std::string target = "/pods/a";

/// Set-up that must go well.
template <class T>
T must(Result<T> result) {
  if (!result) {
    throw std::logic_error{result.error().message};
  }
  if constexpr (!std::is_void_v<T>) {
    return std::move(result.value());
  }
}

std::set<std::string> names_in(const fs::path& directory) {
  std::set<std::string> names;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator{directory, error}) {
    names.insert(entry.path().filename());
  }
  return names;
}

std::string list(const std::set<std::string>& names) {
  std::string text;
  for (const std::string& name : names) {
    text += (text.empty() ? "" : " ") + name;
  }
  return "{" + text + "}";
}

void expect(std::string& text, const std::string& what, const std::set<std::string>& found, const std::set<std::string>& expected) {
  if (found != expected) {
    text += what + ": " + list(found) + " instead of " + list(expected) + "; ";
  }
}

}  // namespace

FakeWorld::FakeWorld(const VolumeKind& kind, fs::path directory) : kind_(kind), directory_(std::move(directory)) {
  node_.with([&](FakeState& state) {
    state.add_pool("/pool", 100 * gib);
    for (const char* path : {"/pods", "/stage", "/bystander"}) {
      state.add_directory(path);
    }
    state.can_grow_mounted_ext4 = kind.grows_mounted_ext4;
  });
  fs::create_directory(directory_ / "state");
  mount::set_act_hook([this](std::string_view act, std::string_view object) {
    const fs::path path{object};
    files_.acted(act, path);
    pass(std::string{act} + " " + path.filename().string());
  });
  files_.acted("making the directory", directory_ / "state");
  files_.acted("fsync of the directory", directory_);
  start();
  const csi::CreateVolumeArgs create{
      .name = "bystander", .capacity = {.required = gib}, .capabilities = {capability()}, .parameters = {}, .requisite = {}};
  bystander_ = must(manager_->create_volume({}, create)).id;
  must(manager_->stage({}, {.volume_id = bystander_, .staging_path = "/bystander", .capability = capability()}));
  must(manager_->publish(
      {}, {.volume_id = bystander_, .staging_path = "/bystander", .target_path = "/pods/bystander", .capability = capability()}));
  bystander_up_ = true;
}

FakeWorld::~FakeWorld() {
  mount::set_act_hook({});
  std::error_code ignored;
  fs::remove_all(directory_ / "state", ignored);
  fs::remove_all(directory_ / "run", ignored);
}

void FakeWorld::start() {
  fs::create_directories(directory_ / "run");
  agent::Config config;
  config.node_id = "n1";
  config.state_dir = directory_ / "state";
  config.run_dir = directory_ / "run";
  config.pools = {agent::PoolConfig{.name = "default", .directory = "/pool", .thick = kind_.thick, .is_default = true}};
  const auto log = quiet_log();
  node_.set_hook([this](const FakePoint& point) -> Result<void> {
    pass(point.name);
    return success();
  });
  manager_ = must(agent::VolumeManager::open(config, node_, log, {.boot_id = boot_, .grows_mounted_ext4 = kind_.grows_mounted_ext4}));
}

void FakeWorld::repair() { manager_->repair(); }

void FakeWorld::pass(const std::string& act) {
  last_act_ = act;
  if (++acts_ == die_at_ || act == die_at_act_) {
    throw Crash{};
  }
}

void FakeWorld::die_at(std::size_t act) {
  acts_ = 0;
  die_at_ = act;
  die_at_act_.clear();
}

void FakeWorld::die_at(const std::string& act) {
  die_at(0);
  die_at_act_ = act;
}

// --- the orchestrator ---

csi::Capability FakeWorld::capability() const {
  return {.block = kind_.block(), .mode = mode, .fs_type = kind_.block() ? "" : kind_.fs_type, .mount_flags = {}, .group = {}};
}

Result<void> FakeWorld::create() {
  // Of an ext4 a share is reserved for each check's undo file, in memory here.
  const std::int64_t first = kind_.fs_type == "ext4" ? gib / 16 : gib;
  TRY(const csi::Volume volume,
      manager_->create_volume(
          {}, {.name = "data-db-0", .capacity = {.required = first}, .capabilities = {capability()}, .parameters = {}, .requisite = {}}));
  id_ = volume.id;
  size_ = first;
  return success();
}

Result<void> FakeWorld::stage() { return manager_->stage({}, {.volume_id = id_, .staging_path = staging, .capability = capability()}); }

Result<void> FakeWorld::publish_at(const std::string& path, const std::string& pod) {
  return manager_->publish({}, {.volume_id = id_,
                                .staging_path = staging,
                                .target_path = path,
                                .capability = capability(),
                                .readonly = false,
                                .publish_context = {},
                                .volume_context = {{"csi.storage.k8s.io/pod.name", pod}, {"csi.storage.k8s.io/pod.uid", "uid-" + pod}}});
}

Result<void> FakeWorld::publish(const std::string& pod) { return publish_at(target, pod); }

Result<void> FakeWorld::grow_volume() {
  TRY(const csi::ExpandResult grown,
      manager_->expand_volume({}, id_, {.required = kind_.fs_type == "ext4" ? gib / 8 : 2 * gib}, capability()));
  size_ = grown.capacity;
  return success();
}

Result<void> FakeWorld::grow_filesystem() {
  if (kind_.fs_type == "ext4" && !kind_.grows_mounted_ext4) {
    return success();  // it is refused, and grows at the next stage
  }
  TRYV(manager_->node_expand(
      {}, {.volume_id = id_, .volume_path = target, .staging_path = staging, .capacity = {.required = size_}, .capability = capability()}));
  return success();
}

Result<void> FakeWorld::unpublish() { return manager_->unpublish({}, {.volume_id = id_, .target_path = target}); }
Result<void> FakeWorld::unstage() { return manager_->unstage({}, {.volume_id = id_, .staging_path = staging}); }

Result<void> FakeWorld::remove() {
  written_ = false;  // from now on its data may go
  TRYV(manager_->delete_volume({}, id_));
  id_.clear();
  return success();
}

Result<void> FakeWorld::release() {
  const auto released = manager_->release({}, id_, "uid-db-0", "");
  if (!released && released.error().code != mount::ErrorCode::not_found) {
    return released.error();
  }
  return unpublish();  // which the orchestrator asks for all the same
}

void FakeWorld::write() {
  node_.with([&](FakeState& state) {
    const int error = kind_.block() ? state.write_device(target) : state.write_file(target + "/name", "db-0");
    if (error != 0) {
      throw std::logic_error{"the workload can't write: errno " + std::to_string(error)};
    }
    uuid_ = state.volume(id_).content.uuid;
  });
  written_ = true;
}

Result<void> FakeWorld::remove_unknown() {
  for (const csi::Volume& volume : must(manager_->list_volumes({}, {})).entries) {
    if (volume.id != id_ && volume.id != bystander_) {
      TRYV(manager_->delete_volume({}, volume.id));
    }
  }
  return success();
}

Result<void> FakeWorld::bring(Level from, Level to) {
  for (; from < to; from = static_cast<Level>(static_cast<int>(from) + 1)) {
    TRYV(from == Level::none ? create() : from == Level::created ? stage() : publish());
  }
  for (; from > to; from = static_cast<Level>(static_cast<int>(from) - 1)) {
    TRYV(from == Level::published ? unpublish() : from == Level::staged ? unstage() : remove());
  }
  return success();
}

// --- crashes ---

/// A mkfs that is killed has written nothing, something without a signature, or its signature: FakeKernel leaves the last.
void FakeWorld::leave_tool_half_done(Choices& choices) {
  if (last_act_ != "run_tool.half") {
    return;
  }
  node_.with([&](FakeState& state) {
    for (const auto& image : state.images) {
      if (image->content.half_made) {
        switch (choices.choose(3)) {
          case 0:
            break;
          case 1:
            image->content = {.kind = FakeContent::Kind::raw, .raw_offset = 64 << 10U};
            break;
          default:
            image->content = {};
        }
      }
    }
  });
}

void FakeWorld::restart_after_crash(Choices& choices, std::size_t die_at_act) {
  leave_tool_half_done(choices);
  manager_.reset();
  die_at(die_at_act);
  start();
}

void FakeWorld::restart_after_power_loss(Choices& choices) {
  die_at(0);
  leave_tool_half_done(choices);
  manager_.reset();
  const bool published = node_.with([](FakeState& state) { return state.mount_at(target) != nullptr; });
  node_.power_loss([&] { return choices.yes(); });
  files_.power_loss(choices);
  fs::remove_all(directory_ / "run");
  node_.with([&](FakeState& state) {
    // Nobody made the target durable either, whatever was mounted on it.
    if (state.root.contains("pods/a") && !published && choices.yes()) {
      state.root.erase("pods/a");
    }
  });
  boot_ += "+";
  bystander_up_ = false;
  start();
}

// --- what must hold ---

void FakeWorld::check_content(FakeState& state, std::string& text) {
  const auto image = std::ranges::find(state.images, id_, [](const auto& each) { return each->volume_id; });
  if (image == state.images.end()) {
    text += "the image is gone; ";
    return;
  }
  FakeContent& content = (*image)->content;
  if ((*image)->size < static_cast<std::uint64_t>(size_)) {
    text += "the image has " + std::to_string((*image)->size) + " bytes; ";
  }
  if (kind_.thick && (*image)->allocated < (*image)->size) {
    text += "the image is not thick any more; ";
  }
  if (!written_) {
    return;
  }
  if (kind_.block() ? content.kind != FakeContent::Kind::raw
                    : content.kind != FakeContent::Kind::filesystem || content.uuid != uuid_ || content.tree["name"].text != "db-0") {
    text += "the data is gone; ";
  }
}

void FakeWorld::check_node(Level level, std::string& text) {
  const std::string volume_file = id_ + ".img";
  node_.with([&](FakeState& state) {
    std::set<std::string> images;
    for (const auto& image : state.images) {
      images.insert(image->file);
    }
    std::multiset<std::string> loops;
    for (const auto& [number, loop] : state.loops) {
      loops.insert(loop.image->file);
    }
    std::multiset<std::string> mounts;
    for (const FakeMount& mount : state.mounts) {
      mounts.insert(mount.mount_point);
    }
    std::set<std::string> expected_images{bystander_ + ".img"};
    std::multiset<std::string> expected_loops;
    std::multiset<std::string> expected_mounts;
    if (bystander_up_) {
      expected_loops.insert(bystander_ + ".img");
      expected_mounts.insert("/pods/bystander");
    }
    if (bystander_up_ && !kind_.block()) {
      expected_mounts.insert("/bystander");
    }
    if (level >= Level::created) {
      expected_images.insert(volume_file);
    }
    if (level >= Level::staged) {
      expected_loops.insert(volume_file);
    }
    if (level >= Level::staged && !kind_.block()) {
      expected_mounts.insert(staging);
    }
    if (level == Level::published) {
      expected_mounts.insert(target);
    }
    expect(text, "images", images, expected_images);
    expect(text, "loops", {loops.begin(), loops.end()}, {expected_loops.begin(), expected_loops.end()});
    expect(text, "mounts", {mounts.begin(), mounts.end()}, {expected_mounts.begin(), expected_mounts.end()});
    if (loops.size() != expected_loops.size() || mounts.size() != expected_mounts.size()) {
      text += "one of them twice; ";
    }
    if (level < Level::published && state.view(target).kind != FileKind::none) {
      text += "the target is left; ";
    }
    if (level >= Level::created) {
      check_content(state, text);
    }
    if (level >= Level::staged && std::ranges::any_of(state.loops, [&](const auto& each) {
          return each.second.image->file == volume_file && each.second.size < static_cast<std::uint64_t>(size_);
        })) {
      text += "the device has not grown; ";
    }
    if (level >= Level::staged && !kind_.block() && kind_.grows_mounted_ext4 &&
        state.volume(id_).content.size < static_cast<std::uint64_t>(size_)) {
      text += "the filesystem has not grown; ";
    }
  });
}

void FakeWorld::check_files(Level level, std::string& text) {
  std::set<std::string> records{bystander_ + ".json"};
  std::set<std::string> entries;
  if (bystander_up_) {
    entries.insert(bystander_ + ".json");
  }
  if (level >= Level::created) {
    records.insert(id_ + ".json");
  }
  if (level >= Level::staged) {
    entries.insert(id_ + ".json");
  }
  expect(text, "records", names_in(directory_ / "state" / "volumes"), records);
  expect(text, "ledger", names_in(directory_ / "run" / "ledger"), entries);
}

std::string FakeWorld::lost() {
  std::string text;
  if (id_.empty()) {
    return text;
  }
  node_.with([&](FakeState& state) { check_content(state, text); });
  const auto volume = manager_->get_volume({}, id_);
  if (!volume) {
    text += volume.error().message + "; ";
  } else if (volume.value().capacity < size_) {
    text += "it has " + std::to_string(volume.value().capacity) + " bytes; ";
  }
  return text;
}

std::string FakeWorld::broken(Level level) {
  std::string text;
  check_node(level, text);
  check_files(level, text);
  bool listed = false;
  const auto page = must(manager_->list_volumes({}, {}));
  for (const csi::Volume& volume : page.entries) {
    if (volume.id == id_) {
      listed = true;
      text += volume.capacity < size_ ? "listed with " + std::to_string(volume.capacity) + " bytes; " : "";
    } else if (volume.id != bystander_) {
      text += "listed without ever being promised: " + volume.id + "; ";
    }
  }
  if (listed != (level >= Level::created)) {
    text += listed ? "still listed; " : "not listed; ";
  }
  if (level >= Level::created) {
    for (const csi::HealthEntry& entry : must(manager_->node_volume_health({}, {.volume_id = id_})).entries) {
      text += entry.reason == "GrowthPending" && !kind_.grows_mounted_ext4 ? "" : "health: " + entry.reason + "; ";
    }
  }
  if (level == Level::published) {
    const auto second = publish_at("/pods/b", "db-9");
    text += second                                                         ? "a second writer got it; "
            : second.error().code == mount::ErrorCode::failed_precondition ? ""
                                                                           : second.error().message;
  }
  return text;
}

}  // namespace ordinald::testing
