/// Plays a StatefulSet against a running agent, through the project's own CSI client: set `db`, ordinals 0 to 2.
///
///   ordinald-quickstart            (packaging/quickstart builds and runs it; needs root)
///
/// Everything happens in a temporary directory and a mount namespace of its own, and nothing is left. Anything unexpected ends it with
/// a non-zero status and the reason.

#include <sys/statvfs.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <functional>
#include <stdexcept>
#include <string>

#include "tests/support/agent_process.hpp"
#include "tests/support/csi_client.hpp"
#include "tests/support/leaks.hpp"
#include "tests/support/mount_namespace.hpp"
#include "tests/support/temp.hpp"

namespace ordinald::testing {
namespace {

namespace fs = std::filesystem;
namespace v1 = csi::v1;
using Clock = std::chrono::steady_clock;

constexpr int replicas = 3;
constexpr std::int64_t volume_size = gibi;
constexpr std::int64_t grown_size = 2 * gibi;

[[noreturn]] void unexpected(const std::string& what) { throw std::runtime_error(what); }

void expect(bool holds, const std::string& what) {
  if (!holds) unexpected(what);
}

template <class Response>
const Response& expect_ok(const Reply<Response>& reply, const std::string& what) {
  if (!reply.ok()) unexpected(what + ": " + reply.error() + " (code " + std::to_string(reply.code()) + ")");
  return reply.message;
}

/// Runs one step of the story and prints its line of the table.
void step(const std::string& what, const std::function<void()>& act) {
  const auto begin = Clock::now();
  act();
  const std::chrono::duration<double, std::milli> took = Clock::now() - begin;
  std::printf("  %-66s %9.1f ms\n", what.c_str(), took.count());
  std::fflush(stdout);
}

void note(const std::string& text) { std::printf("      %s\n", text.c_str()); }

std::uint64_t filesystem_size(const fs::path& path) {
  struct statvfs info{};
  expect(::statvfs(path.c_str(), &info) == 0, "statvfs " + path.string());
  return static_cast<std::uint64_t>(info.f_blocks) * info.f_frsize;
}

/// One replica: its pod, which changes, and its volume, which doesn't.
struct Replica {
  std::string pod;     ///< db-1
  std::string uid;     ///< of the pod that runs now
  std::string claim;   ///< data-db-1
  std::string volume;  ///< the id that CreateVolume gave
  fs::path staging;    ///< as the kubelet lays it out
  fs::path target;
};

class Story {
 public:
  explicit Story(const fs::path& root) : root_(root), agent_(ORDINALD_PROGRAM, root) {}

  void run();
  std::string log() const { return agent_.log(); }

 private:
  void create(Replica& replica);
  Reply<v1::NodePublishVolumeResponse> publish(const Replica& replica, const std::string& pod, const std::string& uid,
                                               const fs::path& target);
  void stage(const Replica& replica);
  void start_pod(Replica& replica, const std::string& uid);
  void stop_pod(const Replica& replica);
  void unstage(const Replica& replica);
  void refuse_second_holder(const Replica& replica);
  void grow(Replica& replica);
  fs::path target_of(const std::string& uid) const;
  CsiClient& csi() { return agent_.client(); }

  static constexpr Mode read_write_once_pod = single_node_single_writer;
  fs::path root_;
  AgentProcess agent_;
  std::array<Replica, replicas> set_;
};

fs::path Story::target_of(const std::string& uid) const {
  const fs::path parent = root_ / "kubelet/pods" / uid;
  fs::create_directories(parent);
  return parent / "mount";
}

void Story::create(Replica& replica) {
  v1::CreateVolumeRequest request;
  request.set_name(replica.claim);
  request.mutable_capacity_range()->set_required_bytes(volume_size);
  *request.add_volume_capabilities() = mount_capability(read_write_once_pod, "ext4");
  (*request.mutable_parameters())["csi.storage.k8s.io/pvc/name"] = replica.claim;
  (*request.mutable_parameters())["csi.storage.k8s.io/pvc/namespace"] = "default";
  replica.volume = expect_ok(csi().call(request), "CreateVolume " + replica.claim).volume().volume_id();
}

void Story::stage(const Replica& replica) {
  v1::NodeStageVolumeRequest request;
  request.set_volume_id(replica.volume);
  request.set_staging_target_path(replica.staging);
  *request.mutable_volume_capability() = mount_capability(read_write_once_pod, "ext4");
  expect_ok(csi().call(request), "NodeStageVolume " + replica.claim);
}

Reply<v1::NodePublishVolumeResponse> Story::publish(const Replica& replica, const std::string& pod, const std::string& uid,
                                                    const fs::path& target) {
  v1::NodePublishVolumeRequest request;
  request.set_volume_id(replica.volume);
  request.set_staging_target_path(replica.staging);
  request.set_target_path(target);
  *request.mutable_volume_capability() = mount_capability(read_write_once_pod, "ext4");
  auto& context = *request.mutable_volume_context();
  context["csi.storage.k8s.io/pod.name"] = pod;
  context["csi.storage.k8s.io/pod.namespace"] = "default";
  context["csi.storage.k8s.io/pod.uid"] = uid;
  return csi().call(request);
}

void Story::start_pod(Replica& replica, const std::string& uid) {
  replica.uid = uid;
  replica.target = target_of(uid);
  expect_ok(publish(replica, replica.pod, uid, replica.target), "NodePublishVolume " + replica.claim);
}

void Story::stop_pod(const Replica& replica) {
  v1::NodeUnpublishVolumeRequest request;
  request.set_volume_id(replica.volume);
  request.set_target_path(replica.target);
  expect_ok(csi().call(request), "NodeUnpublishVolume " + replica.claim);
  expect(!fs::exists(replica.target), replica.target.string() + " is still there after NodeUnpublishVolume");
}

void Story::unstage(const Replica& replica) {
  v1::NodeUnstageVolumeRequest request;
  request.set_volume_id(replica.volume);
  request.set_staging_target_path(replica.staging);
  expect_ok(csi().call(request), "NodeUnstageVolume " + replica.claim);
}

void Story::refuse_second_holder(const Replica& replica) {
  const auto reply = publish(replica, "intruder", "uid-intruder", target_of("uid-intruder"));
  expect(!reply.ok(), replica.claim + " was given to a second holder");
  expect(reply.code() == grpc::FAILED_PRECONDITION,
         "a second holder was refused with code " + std::to_string(reply.code()) + ", not with FAILED_PRECONDITION: " + reply.error());
  note("FAILED_PRECONDITION: " + reply.error());
}

void Story::grow(Replica& replica) {
  step("grow data-db-2 from 1 to 2 GiB: ControllerExpandVolume", [&] {
    v1::ControllerExpandVolumeRequest request;
    request.set_volume_id(replica.volume);
    request.mutable_capacity_range()->set_required_bytes(grown_size);
    expect(expect_ok(csi().call(request), "ControllerExpandVolume").capacity_bytes() == grown_size,
           "ControllerExpandVolume gave another size");
  });
  bool pending = false;
  step("grow data-db-2, while it is mounted: NodeExpandVolume", [&] {
    v1::NodeExpandVolumeRequest request;
    request.set_volume_id(replica.volume);
    request.set_volume_path(replica.target);
    request.set_staging_target_path(replica.staging);
    request.mutable_capacity_range()->set_required_bytes(grown_size);
    const auto reply = csi().call(request);
    if (reply.ok()) return;
    expect(reply.code() == grpc::FAILED_PRECONDITION && reply.error().find("CAP_SYS_RESOURCE") != std::string::npos,
           "NodeExpandVolume: " + reply.error());
    pending = true;
    note("not while mounted: " + reply.error());
  });
  if (pending) {
    step("grow data-db-2 at its next stage instead (pod db-2 restarts)", [&] {
      stop_pod(replica);
      unstage(replica);
      stage(replica);
      start_pod(replica, "uid-db-2-b");
    });
  }
  const std::uint64_t size = filesystem_size(replica.target);
  expect(size > static_cast<std::uint64_t>(grown_size) * 9 / 10,
         "db-2's filesystem has " + std::to_string(size >> 20) + " MiB after it was grown");
  note("db-2 sees " + std::to_string(size >> 20) + " MiB");
}

void Story::run() {
  std::printf("StatefulSet db, %d replicas, ReadWriteOncePod, ext4 on a thin image pool\n\n", replicas);
  for (int ordinal = 0; ordinal < replicas; ++ordinal) {
    Replica& replica = set_[static_cast<std::size_t>(ordinal)];
    replica.pod = "db-" + std::to_string(ordinal);
    replica.claim = "data-" + replica.pod;
    replica.staging = root_ / "kubelet/staging" / replica.claim;
    fs::create_directories(replica.staging);
  }

  step("start the agent, from exec to READY", [&] { agent_.start(); });
  for (Replica& replica : set_) step("create " + replica.claim + ", 1 GiB", [&] { create(replica); });
  for (Replica& replica : set_) step("stage " + replica.claim + ": attach, mkfs, mount", [&] { stage(replica); });
  for (Replica& replica : set_)
    step("publish " + replica.claim + " to pod " + replica.pod, [&] { start_pod(replica, "uid-" + replica.pod); });
  step("each pod writes its own name", [&] {
    for (const Replica& replica : set_) write_file(replica.target / "name", replica.pod);
  });
  step("a second holder of data-db-1 is refused", [&] { refuse_second_holder(set_[1]); });

  step("kill -9 the agent while all are mounted", [&] { agent_.kill(); });
  step("the pods read and write on", [&] {
    for (const Replica& replica : set_) {
      expect(read_file(replica.target / "name") == replica.pod, replica.pod + " does not find its name while the agent is down");
      write_file(replica.target / "written-without-agent", replica.pod);
    }
  });
  step("start the agent again", [&] { agent_.start(); });
  step("the second holder is still refused", [&] { refuse_second_holder(set_[1]); });

  Replica& moved = set_[1];
  step("db-1 is rescheduled: unpublish", [&] { stop_pod(moved); });
  step("db-1 is rescheduled: unstage", [&] { unstage(moved); });
  step("db-1 is rescheduled: stage", [&] { stage(moved); });
  step("db-1 is rescheduled: publish to its new pod", [&] { start_pod(moved, "uid-db-1-b"); });
  step("db-1 finds its own data", [&] {
    expect(read_file(moved.target / "name") == "db-1", "db-1 finds another's data");
    expect(read_file(moved.target / "written-without-agent") == "db-1", "db-1 lost what it wrote while the agent was down");
  });

  grow(set_[2]);
  step("every pod still has its own volume", [&] {
    for (const Replica& replica : set_) expect(read_file(replica.target / "name") == replica.pod, replica.pod + " finds another's data");
  });

  step("clean up: unpublish, unstage and delete all", [&] {
    for (const Replica& replica : set_) {
      stop_pod(replica);
      unstage(replica);
      v1::DeleteVolumeRequest request;
      request.set_volume_id(replica.volume);
      expect_ok(csi().call(request), "DeleteVolume " + replica.claim);
    }
  });
  step("SIGTERM", [&] {
    const Ending ending = agent_.stop();
    expect(ending.exited && ending.status == 0, "the agent ended badly after SIGTERM");
  });
  const std::string left = leaks_beneath(root_);
  expect(left.empty(), "left behind:\n" + left);
  expect(fs::is_empty(agent_.pool()), "an image is left in the pool");
}

}  // namespace
}  // namespace ordinald::testing

int main() {
  using namespace ordinald::testing;
  const auto begin = std::chrono::steady_clock::now();
  try {
    enter_private_mount_namespace();
    const TempDir temp("quickstart");
    Story story(temp.path());
    try {
      story.run();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "\nquickstart failed: %s\n\nthe agent's log:\n%s", error.what(), story.log().c_str());
      return 1;
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "quickstart: %s\n", error.what());
    return 1;
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  std::printf("\nall as expected, nothing left, in %.1f s\n", took.count());
  return 0;
}
