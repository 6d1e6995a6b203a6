// "What Kubernetes really sends".
#include <fcntl.h>
#include <sys/mount.h>

#include <thread>

#include "tests/support/cgroup.hpp"
#include "tests/support/rig.hpp"
#include "tests/support/workload.hpp"

namespace ordinald::testing {
namespace {

const auto rwop = mount_capability(single_node_single_writer, "ext4");

v1::NodePublishVolumeRequest pod_request(const Rig& rig, const std::string& id, const fs::path& staging, const std::string& pod,
                                         const std::string& uid) {
  auto request = rig.publish_request(id, rwop, staging, rig.target(uid));
  auto& context = *request.mutable_volume_context();
  context["storage.kubernetes.io/csiProvisionerIdentity"] = "1-2-csi.ordinald.io";
  context["csi.storage.k8s.io/pod.name"] = pod;
  context["csi.storage.k8s.io/pod.namespace"] = "prod";
  context["csi.storage.k8s.io/pod.uid"] = uid;
  context["csi.storage.k8s.io/serviceAccount.name"] = "default";
  context["csi.storage.k8s.io/ephemeral"] = "false";
  return request;
}

}  // namespace

TEST_CASE("kubernetes: after a kubelet restart Stage and Publish come again for every running pod", "[kubernetes][root]") {
  Rig rig;
  const std::string id = rig.create("pvc-1", rwop);
  auto stage = rig.stage_request(id, rwop, rig.staging("pvc-1"));
  (*stage.mutable_volume_context())["storage.kubernetes.io/csiProvisionerIdentity"] = "1-2-csi.ordinald.io";
  const auto publish = pod_request(rig, id, rig.staging("pvc-1"), "db-0", "uid-1");
  REQUIRE(outcome(rig.call(stage)) == OK);
  REQUIRE(outcome(rig.call(publish)) == OK);
  REQUIRE(try_write(rig.target("uid-1") / "file", "kept") == 0);
  for (int restart = 0; restart < 2; ++restart) {
    CHECK(outcome(rig.call(stage)) == OK);
    CHECK(outcome(rig.call(publish)) == OK);
  }
  CHECK(mounts_beneath(rig.root()).size() == 2);
  CHECK(read_file(rig.target("uid-1") / "file") == "kept");
}

TEST_CASE("kubernetes: Unpublish for the old pod and Publish for the new one follow at once, with no Unstage and Stage between",
          "[kubernetes][root]") {
  Rig rig;
  const std::string id = rig.create("pvc-1", rwop);
  REQUIRE(rig.stage(id, rwop, rig.staging("pvc-1")) == OK);
  for (int i = 0; i < 5; ++i) {
    const std::string uid = "uid-" + std::to_string(i);
    REQUIRE(outcome(rig.call(pod_request(rig, id, rig.staging("pvc-1"), "db-0", uid))) == OK);
    if (i > 0) CHECK(read_file(rig.target(uid) / "file") == "uid-" + std::to_string(i - 1));
    REQUIRE(try_write(rig.target(uid) / "file", uid) == 0);
    CHECK(rig.unpublish(id, rig.target(uid)) == OK);
  }
}

TEST_CASE("kubernetes: a pod deleted by force whose process goes on holds the volume until that ends, a bystander doesn't",
          "[kubernetes][root]") {
  if (!TestCgroup::possible()) {
    std::printf("SKIPPED: control groups can't be made here\n");
    return;
  }
  Rig rig;
  const std::string id = rig.create("pvc-1", rwop);
  const std::string uid = "0c5b9a1e-77d0-4f0e-8a4e-" + std::to_string(::getpid());
  REQUIRE(rig.stage(id, rwop, rig.staging("pvc-1")) == OK);
  REQUIRE(outcome(rig.call(pod_request(rig, id, rig.staging("pvc-1"), "db-0", uid))) == OK);
  // As a runtime does it: the container's mount is a bind of the target, elsewhere, in a namespace of its own.
  const fs::path inside = rig.root() / "container";
  fs::create_directory(inside);
  REQUIRE(::mount(rig.target(uid).c_str(), inside.c_str(), nullptr, MS_BIND, nullptr) == 0);
  const NamespaceHolder bystander;
  TestCgroup group("pod" + uid);
  auto process = std::make_unique<NamespaceHolder>();
  group.add(process->pid());
  REQUIRE(::umount2(inside.c_str(), 0) == 0);

  REQUIRE(rig.unpublish(id, rig.target(uid)) == OK);
  const auto next = pod_request(rig, id, rig.staging("pvc-1"), "db-0", "uid-2");
  const Outcome refused = outcome(rig.call(next));
  CHECK(refused == FAILED_PRECONDITION);
  CHECK_THAT(refused.message,
             Catch::Contains("process " + std::to_string(process->pid())) && Catch::Contains("prod/db-0 (uid " + uid + ")"));
  rig.crash();
  CHECK(outcome(rig.call(next)) == FAILED_PRECONDITION);
  process.reset();
  CHECK(outcome(rig.call(next)) == OK);
}

TEST_CASE("bare metal: a unit whose process still has a file open holds the volume until that ends, and again when it is started anew",
          "[kubernetes][root]") {
  if (!TestCgroup::possible()) {
    std::printf("SKIPPED: control groups can't be made here\n");
    return;
  }
  Rig rig;
  const std::string id = rig.create("pvc-1", rwop);
  const std::string unit = "postgres\\x2dha@" + std::to_string(::getpid()) + ".service";
  REQUIRE(rig.stage(id, rwop, rig.staging("pvc-1")) == OK);
  const auto claim = [&](const std::string& name, const std::string& by) {
    auto request = rig.publish_request(id, rwop, rig.staging("pvc-1"), rig.target(name));
    auto& context = *request.mutable_volume_context();
    context["csi.storage.k8s.io/pod.name"] = name;
    context["csi.storage.k8s.io/pod.namespace"] = "host";
    context["ordinald.io/unit"] = by;
    return request;
  };
  for (int round = 0; round < 2; ++round) {
    REQUIRE(outcome(rig.call(claim("db-0", unit))) == OK);
    const fs::path file = rig.target("db-0") / "file";
    REQUIRE(try_write(file, "x") == 0);
    // As a service does, in the host's namespace: what it has open keeps the filesystem, not the target, once that is unmounted lazily.
    auto process = std::make_unique<Workload>(unit, [&] { (void)::open(file.c_str(), O_WRONLY); });
    REQUIRE(::umount2(rig.target("db-0").c_str(), MNT_DETACH) == 0);
    REQUIRE(rig.unpublish(id, rig.target("db-0")) == OK);
    const Outcome refused = outcome(rig.call(claim("db-9", "other.service")));
    CHECK(refused == FAILED_PRECONDITION);
    CHECK_THAT(refused.message,
               Catch::Contains("process " + std::to_string(process->pid())) && Catch::Contains("host/db-0 (unit " + unit + ")"));
    process.reset();
    CHECK(outcome(rig.call(claim("db-9", "other.service"))) == OK);
    CHECK(rig.unpublish(id, rig.target("db-9")) == OK);
  }
}

TEST_CASE("kubernetes: a second pod of a ReadWriteOncePod claim is refused, and told who has it", "[kubernetes][root]") {
  Rig rig;
  const std::string id = rig.create("pvc-1", rwop);
  REQUIRE(rig.stage(id, rwop, rig.staging("pvc-1")) == OK);
  REQUIRE(outcome(rig.call(pod_request(rig, id, rig.staging("pvc-1"), "db-1", "uid-old"))) == OK);
  const Outcome refused = outcome(rig.call(pod_request(rig, id, rig.staging("pvc-1"), "db-1", "uid-new")));
  CHECK(refused == FAILED_PRECONDITION);
  CHECK_THAT(refused.message, Catch::Contains("uid-old") && Catch::Contains("prod"));
}

TEST_CASE("kubernetes: a different pod uid on the same target is ALREADY_EXISTS", "[kubernetes][root]") {
  Rig rig;
  const std::string id = rig.create("pvc-1", rwop);
  REQUIRE(rig.stage(id, rwop, rig.staging("pvc-1")) == OK);
  auto request = pod_request(rig, id, rig.staging("pvc-1"), "db-0", "uid-1");
  REQUIRE(outcome(rig.call(request)) == OK);
  (*request.mutable_volume_context())["csi.storage.k8s.io/pod.uid"] = "uid-2";
  CHECK(outcome(rig.call(request)) == ALREADY_EXISTS);
}

TEST_CASE("kubernetes: of a block target only the parent exists, staging is a directory", "[kubernetes][root]") {
  Rig rig;
  const auto block = block_capability(single_node_single_writer);
  const std::string id = rig.create("pvc-1", block);
  REQUIRE(rig.stage(id, block, rig.staging("pvc-1")) == OK);
  REQUIRE(rig.publish(id, block, rig.staging("pvc-1"), rig.target("pod")) == OK);
  CHECK(fs::is_block_file(rig.target("pod")));
  CHECK(rig.unpublish(id, rig.target("pod")) == OK);
  CHECK(rig.unstage(id, rig.staging("pvc-1")) == OK);
  CHECK(fs::is_directory(rig.staging("pvc-1")));  // the kubelet made it, and removes it
  CHECK(leaks_beneath(rig.root()) == "");
}

TEST_CASE("kubernetes: NodeExpand comes with the pod's path, staging path, capability and required bytes", "[kubernetes][root]") {
  Rig rig(Settings{{"controllerExpansion", false}});
  const LiveVolume volume = bring_up(rig, "pvc-1", mount_capability(single_node_single_writer, "xfs"));
  v1::NodeExpandVolumeRequest request;
  request.set_volume_id(volume.id);
  request.set_volume_path(volume.target);
  request.set_staging_target_path(volume.staging);
  request.mutable_capacity_range()->set_required_bytes(640 * mebi);
  *request.mutable_volume_capability() = volume.capability;
  const auto reply = rig.call(request);
  REQUIRE(outcome(reply) == OK);
  CHECK(reply->capacity_bytes() == 640 * mebi);
}

TEST_CASE("kubernetes: capabilities are asked before each call, and answered while a call runs", "[kubernetes][root]") {
  Rig rig;
  const std::string id = rig.create("pvc-1", rwop);
  ToolGate gate("/usr/sbin/mke2fs");
  Outcome staged;
  std::jthread staging([&] { staged = rig.stage(id, rwop, rig.staging("pvc-1")); });
  gate.wait_for_one();
  for (int i = 0; i < 3; ++i) CHECK(outcome(rig.call(v1::NodeGetCapabilitiesRequest(), std::chrono::seconds(10))) == OK);
  CHECK(outcome(rig.call(v1::NodeGetInfoRequest(), std::chrono::seconds(10))) == OK);
  CHECK(outcome(rig.call(v1::ProbeRequest(), std::chrono::seconds(10))) == OK);
  gate.let_one_through();
  staging.join();
  CHECK(staged == OK);
}

}  // namespace ordinald::testing
