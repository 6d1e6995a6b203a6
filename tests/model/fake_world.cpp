#include "tests/model/fake_world.hpp"
#include "tests/support/logs.hpp"

#include <atomic>
#include <thread>

namespace ordinald::testing {
namespace {

constexpr std::uint64_t pool_size = std::uint64_t{1} << 40U;

/// The agent dies where it is thrown.
struct Death {};

Code code_of(mount::ErrorCode code) { return static_cast<Code>(static_cast<int>(code) + 1); }
static_assert(static_cast<int>(Code::invalid_argument) == static_cast<int>(mount::ErrorCode::invalid_argument) + 1);
static_assert(static_cast<int>(Code::unavailable) == static_cast<int>(mount::ErrorCode::unavailable) + 1);

template <class T>
bool take(Answer& answer, const mount::Result<T>& result) {
  answer.code = result ? Code::ok : code_of(result.error().code);
  if (!result) {
    answer.message = result.error().message;
  }
  return answer.code == Code::ok;
}

csi::Capability capability(const Call& call, bool block) {
  csi::Capability result{.block = block, .mode = static_cast<csi::AccessMode>(call.mode), .fs_type = block ? "" : call.fs};
  if (!call.flag.empty() && !block) {
    result.mount_flags = {call.flag};
  }
  return result;
}

csi::CreateVolumeArgs create_args(const Call& call) {
  csi::CreateVolumeArgs args{.name = "v" + std::to_string(call.volume), .capacity = {.required = call.size, .limit = call.limit}};
  args.capabilities.push_back(capability(call, call.block));
  if (call.both) {
    args.capabilities.push_back(capability(call, !call.block));
  }
  if (call.allow) {
    args.parameters["multiNodeModes"] = "allow";
  }
  return args;
}

void take_health(Answer& answer, const csi::VolumeHealth& health) {
  for (const csi::HealthEntry& entry : health.entries) {
    answer.reasons.insert(entry.reason);
  }
}

}  // namespace

FakeWorld::FakeWorld(bool grows_mounted_ext4)
    : grows_mounted_ext4_(grows_mounted_ext4), files_(temp_.path() / "state", temp_.path() / "run") {
  node_.with([&](FakeState& state) {
    state.add_pool("/pool", pool_size);
    state.add_directory("/pods");
    state.add_directory("/stage");
    state.can_grow_mounted_ext4 = grows_mounted_ext4;
  });
  start();
}

void FakeWorld::start() {
  std::filesystem::create_directories(temp_.path() / "run");
  agent::Config config;
  config.node_id = "n1";
  config.state_dir = temp_.path() / "state";
  config.run_dir = temp_.path() / "run";
  config.pools = {agent::PoolConfig{.name = "default", .directory = "/pool", .is_default = true}};
  auto opened = agent::VolumeManager::open(config, node_, quiet_log(), {.boot_id = boot_, .grows_mounted_ext4 = grows_mounted_ext4_});
  if (!opened) {
    throw std::runtime_error("the agent does not start: " + opened.error().message);
  }
  manager_ = std::move(opened.value());
  manager_->repair();
}

void FakeWorld::repair() { manager_->repair(); }

void FakeWorld::kill() { manager_.reset(); }

void FakeWorld::power_loss() {
  node_.power_loss();
  std::filesystem::remove_all(temp_.path() / "run");
  boot_ += "+";
}

std::vector<Answer> FakeWorld::run(const std::vector<Call>& calls, std::optional<int> crash) {
  std::vector<Answer> answers(calls.size());
  const auto dead = std::make_shared<std::atomic<bool>>(false);
  if (crash) {
    node_.set_hook([dead, left = std::make_shared<std::atomic<int>>(*crash)](const FakePoint&) -> mount::Result<void> {
      if (left->fetch_sub(1) <= 0) {
        *dead = true;
        throw Death{};
      }
      return mount::success();
    });
  }
  const auto make = [&](std::size_t i) {
    try {
      if (const Answer answer = ask(calls[i]); !*dead) {  // a dead agent's thread may go on to an answer, which nobody gets
        answers[i] = answer;
      }
    } catch (const Death&) {
    }
  };
  if (calls.size() == 1) {
    make(0);
  } else {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < calls.size(); ++i) {
      threads.emplace_back(make, i);
    }
  }
  if (crash) {
    manager_.reset();
    node_.crash_process();
  }
  return answers;
}

Answer FakeWorld::ask(const Call& call) {
  Answer answer;
  switch (call.verb) {
    case Verb::create:
      if (const auto made = manager_->create_volume({}, create_args(call)); take(answer, made)) {
        answer.id = made.value().id;
        answer.size = made.value().capacity;
      }
      break;
    case Verb::remove:
      take(answer, manager_->delete_volume({}, call.id));
      break;
    case Verb::validate:
      if (const auto result = manager_->validate_volume({}, {.volume_id = call.id, .capabilities = {capability(call, call.block)}});
          take(answer, result)) {
        answer.confirmed = result.value().confirmed;
      }
      break;
    case Verb::get:
      if (const auto volume = manager_->get_volume({}, call.id); take(answer, volume)) {
        answer.size = volume.value().capacity;
      }
      break;
    case Verb::list: {
      csi::PageArgs page{.max_entries = 7, .starting_token = {}};
      for (bool more = true; more;) {
        const auto result = manager_->list_volumes({}, page);
        more = take(answer, result) && !result.value().next.empty();
        if (result) {
          for (const csi::Volume& volume : result.value().entries) {
            answer.listed[volume.id] = volume.capacity;
          }
          page.starting_token = result.value().next;
        }
      }
      break;
    }
    case Verb::capacity:
      take(answer, manager_->get_capacity({}, {}));
      break;
    case Verb::expand:
      if (const auto grown = manager_->expand_volume({}, call.id, {.required = call.size, .limit = call.limit}, {}); take(answer, grown)) {
        answer.size = grown.value().capacity;
      }
      break;
    case Verb::health:
      if (const auto health = manager_->controller_volume_health({}, call.id); take(answer, health)) {
        take_health(answer, health.value());
      }
      break;
    case Verb::list_health:
      take(answer, manager_->list_volume_health({}, {}));
      break;
    case Verb::stage:
      take(answer,
           manager_->stage({}, {.volume_id = call.id, .staging_path = "/" + call.staging, .capability = capability(call, call.block)}));
      break;
    case Verb::unstage:
      take(answer, manager_->unstage({}, {.volume_id = call.id, .staging_path = "/" + call.staging}));
      break;
    case Verb::publish:
      take(answer, manager_->publish({}, {.volume_id = call.id,
                                          .staging_path = "/" + call.staging,
                                          .target_path = "/" + call.target,
                                          .capability = capability(call, call.block),
                                          .readonly = call.readonly,
                                          .volume_context = {{"csi.storage.k8s.io/pod.uid", call.pod}}}));
      break;
    case Verb::unpublish:
      take(answer, manager_->unpublish({}, {.volume_id = call.id, .target_path = "/" + call.target}));
      break;
    case Verb::stats:
      take(answer, manager_->stats({}, {.volume_id = call.id, .volume_path = "/" + call.staging}));
      break;
    case Verb::node_health:
      if (const auto health = manager_->node_volume_health({}, {.volume_id = call.id}); take(answer, health)) {
        take_health(answer, health.value());
      }
      break;
    case Verb::storage_health:
      take(answer, manager_->storage_health({}));
      break;
    case Verb::node_expand:
      if (const auto grown = manager_->node_expand(
              {}, {.volume_id = call.id, .volume_path = "/" + call.staging, .capacity = {.required = call.size, .limit = call.limit}});
          take(answer, grown)) {
        answer.size = grown.value();
      }
      break;
  }
  return answer;
}

Facts FakeWorld::look() {
  Facts facts;
  facts.sees_filesystems = true;
  node_.with([&](FakeState& state) {
    for (const FakeMount& mount : state.mounts) {
      if (mount.mount_namespace != 0) {
        continue;
      }
      MountFact fact{.block = !mount.filesystem, .read_only = mount.attributes.read_only};
      if (mount.filesystem) {
        fact.id = mount.filesystem->image ? mount.filesystem->image->volume_id : "";
      }
      for (const auto& [number, loop] : state.loops) {
        if (fact.block && loop_device_number(number) == mount.rdev) {
          fact.id = loop.image->volume_id;
          fact.read_only = loop.read_only;
        }
      }
      const std::string path = mount.mount_point.substr(1);
      if (const auto below = facts.mounts.find(path); below != facts.mounts.end()) {
        fact.depth = below->second.depth + 1;
      }
      facts.mounts[path] = fact;
    }
    for (const auto& [number, loop] : state.loops) {
      ++facts.loops[loop.image->volume_id];
    }
    for (const auto& image : state.images) {
      facts.images[image->volume_id] = static_cast<std::int64_t>(image->size);
      if (image->content.kind == FakeContent::Kind::filesystem && !image->content.half_made) {
        facts.uuids[image->volume_id] = image->content.uuid;
      }
    }
  });
  files_.list(facts.records, facts.ledger, facts.strangers);
  return facts;
}

int FakeWorld::write(const std::string& path, bool block, const std::string& text) {
  return node_.with(
      [&](FakeState& state) { return block ? state.write_device("/" + path, text) : state.write_file("/" + path + "/data", text); });
}

std::optional<std::string> FakeWorld::read(const std::string& path, bool block) {
  return node_.with([&](FakeState& state) { return block ? state.read_device("/" + path) : state.read_file("/" + path + "/data"); });
}

bool FakeWorld::exists(const std::string& path) {
  return node_.with([&](FakeState& state) { return state.view("/" + path).kind != FileKind::none; });
}

bool FakeWorld::unmount(const std::string& path) {
  return node_.with([&](FakeState& state) {
    const FakeMount* mount = state.mount_at("/" + path);
    if (mount == nullptr) {
      return false;
    }
    std::erase_if(state.mounts, [id = mount->id](const FakeMount& each) { return each.id == id; });
    state.sweep();
    return true;
  });
}

bool FakeWorld::detach(const std::string& id) {
  return node_.with([&](FakeState& state) {
    for (auto it = state.loops.begin(); it != state.loops.end(); ++it) {
      if (it->second.image->volume_id != id) {
        continue;
      }
      if (it->second.filesystem.expired()) {
        state.loops.erase(it);
      } else {
        it->second.autoclear = true;
      }
      return true;
    }
    return false;
  });
}

bool FakeWorld::obstruct(const std::string& path, Obstacle obstacle) {
  return node_.with([&](FakeState& state) {
    if (state.mount_at("/" + path) != nullptr) {
      return false;
    }
    switch (obstacle) {
      case Obstacle::none:
      case Obstacle::litter:
        return false;
      case Obstacle::file:
        state.root[path] = FakeEntry{.kind = FileKind::regular, .text = "somebody's"};
        break;
      case Obstacle::symlink:
        state.root[path] = FakeEntry{.kind = FileKind::symlink, .text = "/elsewhere"};
        break;
      case Obstacle::full_directory:
        state.root[path] = FakeEntry{.kind = FileKind::directory, .mode = 0755};
        state.root[path + "/precious"] = FakeEntry{.kind = FileKind::regular, .text = "somebody's"};
        break;
    }
    return true;
  });
}

bool FakeWorld::clear(const std::string& path) {
  return node_.with([&](FakeState& state) {
    if (state.mount_at("/" + path) != nullptr) {
      return false;
    }
    state.root.erase(path + "/precious");
    state.root.erase(path);
    return true;
  });
}

}  // namespace ordinald::testing
