#include "tests/model/real_world.hpp"

#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <thread>

#include "tests/model/wounds.hpp"
#include "tests/support/agent_process.hpp"
#include "tests/support/leaks.hpp"
#include "tests/support/temp.hpp"

namespace ordinald::testing {
namespace fs = std::filesystem;
namespace v1 = csi::v1;

namespace {

constexpr std::size_t clients = 8;
constexpr std::size_t block = 4096;

Code code_of(grpc::StatusCode code) {
  switch (code) {
    case grpc::OK:
      return Code::ok;
    case grpc::INVALID_ARGUMENT:
      return Code::invalid_argument;
    case grpc::NOT_FOUND:
      return Code::not_found;
    case grpc::ALREADY_EXISTS:
      return Code::already_exists;
    case grpc::FAILED_PRECONDITION:
      return Code::failed_precondition;
    case grpc::ABORTED:
      return Code::aborted;
    case grpc::RESOURCE_EXHAUSTED:
      return Code::resource_exhausted;
    case grpc::OUT_OF_RANGE:
      return Code::out_of_range;
    case grpc::UNIMPLEMENTED:
      return Code::unimplemented;
    case grpc::UNAVAILABLE:
      return Code::unavailable;
    default:
      return Code::internal;
  }
}

v1::VolumeCapability capability(const Call& call, bool as_block) {
  const auto mode = static_cast<Mode>(call.mode);
  return as_block ? block_capability(mode)
                  : mount_capability(mode, call.fs, call.flag.empty() ? std::vector<std::string>{} : std::vector{call.flag});
}

template <class Health>
std::set<std::string> reasons(const Health& health) {
  std::set<std::string> words;
  for (const auto& entry : health.health_statuses()) {
    words.insert(entry.reason());
  }
  return words;
}

/// `…/<id>.img`, also of a file that is gone.
std::string id_of(std::string image) {
  constexpr std::string_view deleted = " (deleted)";
  if (image.ends_with(deleted)) {
    image.resize(image.size() - deleted.size());
  }
  image = image.substr(image.rfind('/') + 1);
  return image.ends_with(".img") ? image.substr(0, image.size() - 4) : std::string{};
}

/// Closes it.
class File {
 public:
  File(const fs::path& path, int flags) : fd_(::open(path.c_str(), flags | O_CLOEXEC, 0644)) {}
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() {
    if (fd_ >= 0) {
      ::close(fd_);
    }
  }
  [[nodiscard]] int get() const { return fd_; }

 private:
  int fd_;
};

bool can_grow_mounted_ext4() {
  constexpr unsigned cap_sys_resource = 24;
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("CapEff:")) {
      return (std::strtoull(line.c_str() + 7, nullptr, 16) >> cap_sys_resource & 1U) != 0;
    }
  }
  return false;
}

nlohmann::json settings(const fs::path& root) {
  return {
      {"logLevel", "info"},
      {"repairIntervalSeconds", 1},
      {"pools",
       {{{"name", "default"}, {"directory", (root / "pool").string()}, {"default", true}, {"overcommit", 100}, {"reservePercent", 0}}}}};
}

/// The daemon over its socket, on real loop devices, in this process's mount namespace.
class RealWorld final : public World {
 public:
  RealWorld();

  [[nodiscard]] bool reboots() const override { return false; }
  [[nodiscard]] bool grows_mounted_ext4() const override { return grows_mounted_ext4_; }
  std::vector<Answer> run(const std::vector<Call>& calls, std::optional<int> crash) override;
  /// Rounds come by themselves, each second.
  void repair() override {}
  void kill() override;
  void power_loss() override {}
  bool wound(const Wound& wound, const std::string& id) override { return files_.wound(wound, id); }
  void start() override;
  Facts look() override;
  std::string files_of(const std::string& id) override { return files_.show(id); }
  int write(const std::string& path, bool block, const std::string& text) override;
  std::optional<std::string> read(const std::string& path, bool block) override;
  bool exists(const std::string& path) override;
  bool unmount(const std::string& path) override;
  bool detach(const std::string& id) override;
  bool obstruct(const std::string& path, Obstacle obstacle) override;
  bool clear(const std::string& path) override;

  [[nodiscard]] Weight weight() const override;

 private:
  Answer ask(CsiClient& client, const Call& call) const;
  [[nodiscard]] std::filesystem::path at(const std::string& path) const { return temp_.path() / path; }

  bool grows_mounted_ext4_ = false;
  TempDir temp_{"model"};
  AgentFiles files_;
  AgentProcess agent_;
  std::vector<std::unique_ptr<CsiClient>> clients_;
};

}  // namespace

std::unique_ptr<World> make_real_world() { return std::make_unique<RealWorld>(); }

RealWorld::RealWorld()
    : grows_mounted_ext4_(can_grow_mounted_ext4()),
      files_(temp_.path() / "state", temp_.path() / "run"),
      agent_(ORDINALD_PROGRAM, temp_.path(), settings(temp_.path())) {
  fs::create_directories(at("stage"));
  fs::create_directories(at("pods"));
  start();
}

void RealWorld::start() {
  agent_.start();
  clients_.clear();
  for (std::size_t i = 0; i < clients; ++i) {
    clients_.push_back(std::make_unique<CsiClient>(agent_.endpoint()));
  }
}

void RealWorld::kill() {
  if (agent_.running()) {
    agent_.kill();
  }
}

std::vector<Answer> RealWorld::run(const std::vector<Call>& calls, std::optional<int> crash) {
  std::vector<Answer> answers(calls.size());
  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < calls.size(); ++i) {
      threads.emplace_back([&, i] { answers[i] = ask(*clients_[i % clients], calls[i]); });
    }
    if (crash) {
      std::this_thread::sleep_for(std::chrono::milliseconds(*crash));  // not waited for: the moment of the kill
      agent_.kill();
    }
  }
  for (Answer& answer : answers) {
    if (crash && (answer.code == Code::unavailable || answer.code == Code::internal)) {
      answer = Answer{};
    }
  }
  return answers;
}

Answer RealWorld::ask(CsiClient& client, const Call& call) const {
  Answer answer;
  const auto take = [&](const auto& reply) {
    answer.code = code_of(reply.code());
    answer.message = reply.error();
    return reply.ok();
  };
  const auto range = [&](auto& request) {
    request.mutable_capacity_range()->set_required_bytes(call.size);
    request.mutable_capacity_range()->set_limit_bytes(call.limit);
  };
  switch (call.verb) {
    case Verb::create: {
      v1::CreateVolumeRequest request;
      request.set_name("v" + std::to_string(call.volume));
      range(request);
      *request.add_volume_capabilities() = capability(call, call.block);
      if (call.both) {
        *request.add_volume_capabilities() = capability(call, !call.block);
      }
      if (call.allow) {
        (*request.mutable_parameters())["multiNodeModes"] = "allow";
      }
      if (const auto reply = client.call(request); take(reply)) {
        answer.id = reply->volume().volume_id();
        answer.size = reply->volume().capacity_bytes();
      }
      break;
    }
    case Verb::remove: {
      v1::DeleteVolumeRequest request;
      request.set_volume_id(call.id);
      take(client.call(request));
      break;
    }
    case Verb::validate: {
      v1::ValidateVolumeCapabilitiesRequest request;
      request.set_volume_id(call.id);
      *request.add_volume_capabilities() = capability(call, call.block);
      if (const auto reply = client.call(request); take(reply)) {
        answer.confirmed = reply->has_confirmed();
      }
      break;
    }
    case Verb::get: {
      v1::ControllerGetVolumeRequest request;
      request.set_volume_id(call.id);
      if (const auto reply = client.call(request); take(reply)) {
        answer.size = reply->volume().capacity_bytes();
      }
      break;
    }
    case Verb::list: {
      v1::ListVolumesRequest request;
      request.set_max_entries(7);
      for (bool more = true; more;) {
        const auto reply = client.call(request);
        more = take(reply) && !reply->next_token().empty();
        for (const auto& entry : reply->entries()) {
          answer.listed[entry.volume().volume_id()] = entry.volume().capacity_bytes();
        }
        request.set_starting_token(reply->next_token());
      }
      break;
    }
    case Verb::capacity:
      take(client.call(v1::GetCapacityRequest{}));
      break;
    case Verb::expand: {
      v1::ControllerExpandVolumeRequest request;
      request.set_volume_id(call.id);
      range(request);
      if (const auto reply = client.call(request); take(reply)) {
        answer.size = reply->capacity_bytes();
      }
      break;
    }
    case Verb::health: {
      v1::ControllerGetVolumeHealthRequest request;
      request.set_volume_id(call.id);
      if (const auto reply = client.call(request); take(reply)) {
        answer.reasons = reasons(reply->volume_health());
      }
      break;
    }
    case Verb::list_health:
      take(client.call(v1::ControllerListVolumeHealthRequest{}));
      break;
    case Verb::stage: {
      v1::NodeStageVolumeRequest request;
      request.set_volume_id(call.id);
      request.set_staging_target_path(at(call.staging));
      *request.mutable_volume_capability() = capability(call, call.block);
      take(client.call(request));
      break;
    }
    case Verb::unstage: {
      v1::NodeUnstageVolumeRequest request;
      request.set_volume_id(call.id);
      request.set_staging_target_path(at(call.staging));
      take(client.call(request));
      break;
    }
    case Verb::publish: {
      v1::NodePublishVolumeRequest request;
      request.set_volume_id(call.id);
      request.set_staging_target_path(at(call.staging));
      request.set_target_path(at(call.target));
      *request.mutable_volume_capability() = capability(call, call.block);
      request.set_readonly(call.readonly);
      (*request.mutable_volume_context())["csi.storage.k8s.io/pod.uid"] = call.pod;
      take(client.call(request));
      break;
    }
    case Verb::unpublish: {
      v1::NodeUnpublishVolumeRequest request;
      request.set_volume_id(call.id);
      request.set_target_path(at(call.target));
      take(client.call(request));
      break;
    }
    case Verb::stats: {
      v1::NodeGetVolumeStatsRequest request;
      request.set_volume_id(call.id);
      request.set_volume_path(at(call.staging));
      take(client.call(request));
      break;
    }
    case Verb::node_health: {
      v1::NodeGetVolumeHealthRequest request;
      request.set_volume_id(call.id);
      if (const auto reply = client.call(request); take(reply)) {
        answer.reasons = reasons(reply->volume_health());
      }
      break;
    }
    case Verb::storage_health:
      take(client.call(v1::NodeGetStorageHealthRequest{}));
      break;
    case Verb::node_expand: {
      v1::NodeExpandVolumeRequest request;
      request.set_volume_id(call.id);
      request.set_volume_path(at(call.staging));
      range(request);
      if (const auto reply = client.call(request); take(reply)) {
        answer.size = reply->capacity_bytes();
      }
      break;
    }
  }
  return answer;
}

Facts RealWorld::look() {
  Facts facts;
  std::map<std::string, std::string> id_by_loop;  // loopN → id
  for (const LoopDevice& loop : loops_beneath(agent_.pool())) {
    const std::string id = id_of(loop.backing_file);
    id_by_loop[fs::path(loop.path).filename()] = id;
    ++facts.loops[id];
  }
  const std::string root = temp_.path().string() + "/";
  for (const Mounted& mounted : mount_table()) {
    if (!mounted.path.starts_with(root)) {
      continue;
    }
    MountFact fact{.read_only = ("," + mounted.options + ",").find(",ro,") != std::string::npos};
    std::string loop = fs::path(mounted.source).filename();
    struct stat status{};
    if (::lstat(mounted.path.c_str(), &status) == 0 && S_ISBLK(status.st_mode)) {
      loop = "loop" + std::to_string(minor(status.st_rdev));
      fact.block = true;
      std::ifstream("/sys/block/" + loop + "/ro") >> fact.read_only;
    }
    const auto found = id_by_loop.find(loop);
    fact.id = found == id_by_loop.end() ? "" : found->second;
    const std::string path = mounted.path.substr(root.size());
    if (const auto below = facts.mounts.find(path); below != facts.mounts.end()) {
      fact.depth = below->second.depth + 1;
    }
    facts.mounts[path] = fact;
  }
  for (const fs::directory_entry& file : fs::directory_iterator(agent_.pool())) {
    std::error_code gone;
    const std::string id = id_of(file.path());
    const auto size = file.file_size(gone);
    if (!id.empty() && !gone) {
      facts.images[id] = static_cast<std::int64_t>(size);
    }
  }
  files_.list(facts.records, facts.ledger, facts.strangers);
  facts.strangers.clear();  // a round of repairs may be writing
  return facts;
}

int RealWorld::write(const std::string& path, bool as_block, const std::string& text) {
  const File file(as_block ? at(path) : at(path) / "data", O_WRONLY | (as_block ? 0 : O_CREAT | O_TRUNC));
  if (file.get() < 0) {
    return errno;
  }
  std::string bytes = text;
  if (as_block) {
    bytes.resize(block);
  }
  return ::write(file.get(), bytes.data(), bytes.size()) < 0 || ::fsync(file.get()) != 0 ? errno : 0;
}

std::optional<std::string> RealWorld::read(const std::string& path, bool as_block) {
  const File file(as_block ? at(path) : at(path) / "data", O_RDONLY);
  std::string bytes(block, '\0');
  const ssize_t got = file.get() < 0 ? -1 : ::read(file.get(), bytes.data(), bytes.size());
  if (got < 0) {
    return std::nullopt;
  }
  bytes.resize(static_cast<std::size_t>(got));
  return as_block ? std::string{bytes.c_str()} : bytes;
}

bool RealWorld::exists(const std::string& path) { return fs::symlink_status(at(path)).type() != fs::file_type::not_found; }

bool RealWorld::unmount(const std::string& path) { return ::umount2(at(path).c_str(), UMOUNT_NOFOLLOW) == 0; }

bool RealWorld::detach(const std::string& id) {
  bool done = false;
  for (const LoopDevice& loop : loops_beneath(agent_.pool())) {
    if (id_of(loop.backing_file) == id) {
      const File device(loop.path, O_RDONLY);
      done = (device.get() >= 0 && ::ioctl(device.get(), LOOP_CLR_FD, 0) == 0) || done;
    }
  }
  return done;
}

bool RealWorld::obstruct(const std::string& path, Obstacle obstacle) {
  std::error_code error;
  if (!mounted_at(at(path)).path.empty() || (exists(path) && !fs::remove(at(path), error))) {
    return false;
  }
  switch (obstacle) {
    case Obstacle::none:
    case Obstacle::litter:
      return false;
    case Obstacle::file:
      write_file(at(path), "somebody's");
      break;
    case Obstacle::symlink:
      fs::create_symlink("/nowhere", at(path));
      break;
    case Obstacle::full_directory:
      fs::create_directory(at(path));
      write_file(at(path) / "precious", "somebody's");
      break;
  }
  return true;
}

bool RealWorld::clear(const std::string& path) {
  if (!mounted_at(at(path)).path.empty()) {
    return false;
  }
  std::error_code error;
  fs::remove(at(path) / "precious", error);
  fs::remove(at(path), error);
  return true;
}

World::Weight RealWorld::weight() const {
  Weight weight;
  const fs::path proc = "/proc/" + std::to_string(agent_.pid());
  std::ifstream status(proc / "status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmRSS:")) {
      weight.rss = std::atol(line.c_str() + 6);
    }
  }
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(proc / "fd", error)) {
    static_cast<void>(entry);
    ++weight.descriptors;
  }
  return weight;
}

}  // namespace ordinald::testing
