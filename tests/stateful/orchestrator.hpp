#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/rig.hpp"
#include "tests/support/workload.hpp"

/// Plays the control plane and the kubelet for StatefulSets against a real agent: claims, pods with their names and uids, volumes staged
/// and published for them, and a process for each pod, in a control group and a mount namespace of its own, as a runtime makes it.
namespace ordinald::testing {

inline const v1::VolumeCapability rwop = mount_capability(single_node_single_writer, "ext4");

struct PodId {
  std::string name_space = "prod";
  std::string name;
  std::string uid;
};

/// A pod that nobody has had before.
PodId new_pod(const std::string& name, const std::string& name_space = "prod");

/// A bound claim and its volume.
struct ClaimedVolume {
  std::string name_space;
  std::string name;
  std::string id;
  fs::path staging;
  v1::VolumeCapability capability;
};

class Orchestrator {
 public:
  explicit Orchestrator(Rig& rig) : rig_(rig) {}
  Rig& rig() { return rig_; }

  /// Makes its volume, with what the provisioner tells of the claim.
  ClaimedVolume provision(const std::string& claim, const std::string& identity = "ordinal", const std::string& name_space = "prod",
                          const v1::VolumeCapability& capability = rwop);
  Outcome stage(const ClaimedVolume& volume) { return rig_.stage(volume.id, volume.capability, volume.staging); }
  fs::path target(const ClaimedVolume& volume, const PodId& pod) const { return rig_.target(pod.uid + "-" + volume.name); }
  Outcome publish(const ClaimedVolume& volume, const PodId& pod);
  Outcome unpublish(const ClaimedVolume& volume, const PodId& pod) { return rig_.unpublish(volume.id, target(volume, pod)); }
  Outcome unstage(const ClaimedVolume& volume) { return rig_.unstage(volume.id, volume.staging); }

  /// The pod's container: in its namespace the volume is mounted elsewhere than on the host, and it has a file of it open.
  std::unique_ptr<Workload> run(const ClaimedVolume& volume, const PodId& pod, const std::string& group = {},
                                const std::string& hierarchy = {});
  /// The targets at which it is mounted on the host now.
  std::vector<std::string> targets_of(const ClaimedVolume& volume) const;

 private:
  Rig& rig_;
};

/// One set. Its pods each add a line to each of their volumes when they start, and see there the lines of those before them.
class StatefulSet {
 public:
  StatefulSet(Orchestrator& orchestrator, std::string name, std::vector<std::string> templates = {"data"}, int start = 0)
      : orchestrator_(orchestrator), name_(std::move(name)), templates_(std::move(templates)), start_(start) {}

  std::string pod_name(int ordinal) const { return name_ + "-" + std::to_string(start_ + ordinal); }
  /// Starts in order, stops in reverse.
  void scale(int replicas);
  /// Deletes the pod and starts its successor; as a kubelet does, mostly without an Unstage between.
  void reschedule(int ordinal);
  void roll();
  /// Its claims are gone too, and their volumes.
  void delete_claims();

  const ClaimedVolume& volume(int ordinal, const std::string& of) const { return volumes_.at(of + "-" + pod_name(ordinal)); }
  const PodId& pod(int ordinal) const { return pods_[static_cast<std::size_t>(ordinal)]; }
  /// How many pods of this ordinal there have been, as each of its volumes says.
  int lives(int ordinal) const;
  /// In which order pods were started (`+db-0`) and stopped (`-db-0`).
  std::string story;

 private:
  void start(int ordinal);
  void stop(int ordinal, bool unstages = true);

  Orchestrator& orchestrator_;
  std::string name_;
  std::vector<std::string> templates_;
  int start_;
  int reschedulings_ = 0;
  std::map<std::string, ClaimedVolume> volumes_;
  std::vector<PodId> pods_;
  std::map<std::string, std::unique_ptr<Workload>> processes_;
};

}  // namespace ordinald::testing
