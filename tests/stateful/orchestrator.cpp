#include "tests/stateful/orchestrator.hpp"

#include <fcntl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <stdexcept>

namespace ordinald::testing {

PodId new_pod(const std::string& name, const std::string& name_space) {
  static unsigned made = 0;
  char uid[37];
  std::snprintf(uid, sizeof uid, "%08x-77d0-4f0e-8a4e-%012x", ++made, static_cast<unsigned>(::getpid()));
  return {.name_space = name_space, .name = name, .uid = uid};
}

ClaimedVolume Orchestrator::provision(const std::string& claim, const std::string& identity, const std::string& name_space,
                                      const v1::VolumeCapability& capability) {
  ClaimedVolume volume{.name_space = name_space, .name = claim, .id = {}, .staging = {}, .capability = capability};
  static int made = 0;
  const std::string name = "pvc-" + std::to_string(++made);
  StringMap parameters{{"csi.storage.k8s.io/pvc/name", claim}, {"csi.storage.k8s.io/pvc/namespace", name_space}};
  if (!identity.empty()) parameters["identity"] = identity;
  volume.id = rig_.create(name, capability, capability.mount().fs_type() == "btrfs" ? 128 * mebi : 16 * mebi, parameters);
  volume.staging = rig_.staging(name);
  return volume;
}

Outcome Orchestrator::publish(const ClaimedVolume& volume, const PodId& pod) {
  auto request = rig_.publish_request(volume.id, volume.capability, volume.staging, target(volume, pod));
  auto& context = *request.mutable_volume_context();
  context["storage.kubernetes.io/csiProvisionerIdentity"] = "1-2-csi.ordinald.io";
  context["csi.storage.k8s.io/pod.name"] = pod.name;
  context["csi.storage.k8s.io/pod.namespace"] = pod.name_space;
  context["csi.storage.k8s.io/pod.uid"] = pod.uid;
  context["csi.storage.k8s.io/serviceAccount.name"] = "default";
  context["csi.storage.k8s.io/ephemeral"] = "false";
  return outcome(rig_.call(request));
}

std::unique_ptr<Workload> Orchestrator::run(const ClaimedVolume& volume, const PodId& pod, const std::string& group,
                                            const std::string& hierarchy) {
  const fs::path inside = rig_.root() / "container" / pod.uid;
  fs::create_directories(inside);
  const fs::path from = target(volume, pod);
  return std::make_unique<Workload>(
      group.empty() ? "pod" + pod.uid : group,
      [&] {
        leave_mount_namespace();
        if (::mount(from.c_str(), inside.c_str(), nullptr, MS_BIND, nullptr) != 0 ||
            ::open((inside / "open").c_str(), O_RDWR | O_CREAT, 0600) < 0) {
          throw std::runtime_error("a container's volume");
        }
      },
      hierarchy);
}

std::vector<std::string> Orchestrator::targets_of(const ClaimedVolume& volume) const {
  const std::string source = mounted_at(volume.staging).source;
  std::vector<std::string> targets;
  for (const Mounted& mount : mount_table())
    if (!source.empty() && mount.source == source && mount.path != volume.staging) targets.push_back(mount.path);
  return targets;
}

void StatefulSet::scale(int replicas) {
  while (static_cast<int>(pods_.size()) < replicas) {
    pods_.emplace_back();
    start(static_cast<int>(pods_.size()) - 1);
  }
  while (static_cast<int>(pods_.size()) > replicas) {
    stop(static_cast<int>(pods_.size()) - 1);
    pods_.pop_back();
  }
}

void StatefulSet::reschedule(int ordinal) {
  stop(ordinal, ++reschedulings_ % 5 == 0);
  start(ordinal);
}

void StatefulSet::roll() {
  for (int ordinal = static_cast<int>(pods_.size()) - 1; ordinal >= 0; --ordinal) reschedule(ordinal);
}

void StatefulSet::start(int ordinal) {
  PodId& pod = pods_[static_cast<std::size_t>(ordinal)] = new_pod(pod_name(ordinal));
  for (const std::string& each : templates_) {
    const std::string claim = each + "-" + pod.name;
    if (!volumes_.contains(claim)) volumes_[claim] = orchestrator_.provision(claim);
    const ClaimedVolume& volume = volumes_.at(claim);
    REQUIRE(orchestrator_.stage(volume) == OK);  // again, where it is staged still
    REQUIRE(orchestrator_.publish(volume, pod) == OK);
    processes_[pod.uid + claim] = orchestrator_.run(volume, pod);
    std::ofstream{orchestrator_.target(volume, pod) / "lives", std::ios::app} << claim << '\n';
  }
  story += (story.empty() ? "+" : " +") + pod.name;
}

void StatefulSet::stop(int ordinal, bool unstages) {
  const PodId& pod = pods_[static_cast<std::size_t>(ordinal)];
  for (const std::string& each : templates_) {
    const ClaimedVolume& volume = volumes_.at(each + "-" + pod.name);
    processes_.erase(pod.uid + volume.name);
    REQUIRE(orchestrator_.unpublish(volume, pod) == OK);
    if (unstages) REQUIRE(orchestrator_.unstage(volume) == OK);
  }
  story += (story.empty() ? "-" : " -") + pod.name;
}

int StatefulSet::lives(int ordinal) const {
  int lives = -1;
  for (const std::string& each : templates_) {
    const ClaimedVolume& volume = volumes_.at(each + "-" + pod(ordinal).name);
    std::ifstream file{orchestrator_.target(volume, pod(ordinal)) / "lives"};
    int lines = 0;
    for (std::string line; std::getline(file, line); ++lines) CHECK(line == volume.name);
    CHECK((lives < 0 || lives == lines));
    lives = lines;
  }
  return lives;
}

void StatefulSet::delete_claims() {
  for (const auto& [claim, volume] : volumes_) CHECK(orchestrator_.rig().remove(volume.id) == OK);
  volumes_.clear();
}

}  // namespace ordinald::testing
