#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "mount/result.hpp"

/// The port that csi/ calls: plain structs in, Result out. agent/volume_manager implements it over mount/.
/// csi/convert has checked every field before a struct reaches the port; secrets never do.
namespace ordinald::csi {

using mount::Result;
using StringMap = std::map<std::string, std::string>;

/// When the caller gives up; no deadline for callers without one. Bounds the wait for another call's work, not the work.
struct CallContext {
  std::optional<std::chrono::steady_clock::time_point> deadline{};
  std::function<bool()> given_up{};  ///< whether it has hung up already; to be asked on the call's own thread. Empty: it never does
};

/// CSI's access modes, with the numbers of the wire.
enum class AccessMode : std::uint8_t {
  single_node_writer = 1,
  single_node_reader_only = 2,
  multi_node_reader_only = 3,
  multi_node_single_writer = 4,
  multi_node_multi_writer = 5,
  single_node_single_writer = 6,
  single_node_multi_writer = 7,
};

struct Capability {
  bool block = false;
  AccessMode mode = AccessMode::single_node_writer;
  std::string fs_type{};                   ///< empty: not said
  std::vector<std::string> mount_flags{};  ///< never to be logged
  std::optional<std::uint32_t> group{};    ///< volume_mount_group, a gid
};

/// Bytes; 0 where not said. convert has refused negatives and required > limit > 0.
struct CapacityRange {
  std::int64_t required = 0;
  std::int64_t limit = 0;
};

struct CreateVolumeArgs {
  std::string name{};
  CapacityRange capacity{};
  std::vector<Capability> capabilities{};
  StringMap parameters{};
  std::vector<StringMap> requisite{};  ///< topology segments; empty: anywhere
};

/// A volume as the controller shows it.
struct Volume {
  std::string id{};
  std::int64_t capacity = 0;
  StringMap context{};
  StringMap topology{};
};

struct ExpandResult {
  std::int64_t capacity = 0;
  bool node_expansion_required = false;
};

/// `page.next` is empty on the last page.
template <class T>
struct Page {
  std::vector<T> entries{};
  std::string next{};
};

struct PageArgs {
  std::int32_t max_entries = 0;  ///< 0: all
  std::string starting_token{};
};

struct ValidateArgs {
  std::string volume_id{};
  StringMap context{};
  std::vector<Capability> capabilities{};
  StringMap parameters{};
};

/// Confirmed when `message` is empty.
struct ValidateResult {
  bool confirmed = false;
  std::string message{};
};

struct CapacityArgs {
  std::vector<Capability> capabilities{};
  StringMap parameters{};
  std::optional<StringMap> topology{};
};

struct CapacityResult {
  std::int64_t available = 0;
  std::optional<std::int64_t> maximum_volume_size{};
  std::optional<std::int64_t> minimum_volume_size{};
};

/// The numbers are the wire's.
enum class HealthStatus : std::uint8_t { degraded = 1, inaccessible = 2, data_loss = 3 };
enum class StorageStatus : std::uint8_t { degraded = 1, unreachable = 2 };

struct HealthEntry {
  HealthStatus status = HealthStatus::degraded;
  std::string reason{};   ///< one CamelCase word
  std::string message{};  ///< for a person
};

struct VolumeHealth {
  std::string volume_id{};
  std::vector<HealthEntry> entries{};  ///< none: healthy
};

struct StorageHealthEntry {
  StorageStatus status = StorageStatus::degraded;
  std::string reason{};
  std::string message{};
};

struct StageArgs {
  std::string volume_id{};
  std::string staging_path{};
  Capability capability{};
  StringMap publish_context{};
  StringMap volume_context{};
};

struct UnstageArgs {
  std::string volume_id{};
  std::string staging_path{};
};

struct PublishArgs {
  std::string volume_id{};
  std::string staging_path{};
  std::string target_path{};
  Capability capability{};
  bool readonly = false;
  StringMap publish_context{};
  StringMap volume_context{};  ///< with the pod's `csi.storage.k8s.io/pod.*` keys where there are any
};

struct UnpublishArgs {
  std::string volume_id{};
  std::string target_path{};
};

struct StatsArgs {
  std::string volume_id{};
  std::string volume_path{};
  std::string staging_path{};  ///< may be empty
};

/// Bytes, and inodes where it is a filesystem. A raw block device has a total only.
struct VolumeStats {
  bool block = false;
  std::int64_t total = 0, available = 0, used = 0;
  std::int64_t inodes = 0, inodes_free = 0, inodes_used = 0;
};

struct NodeHealthArgs {
  std::string volume_id{};
  std::string publish_path{};  ///< may be empty
  std::string staging_path{};  ///< may be empty
};

struct NodeExpandArgs {
  std::string volume_id{};
  std::string volume_path{};
  std::string staging_path{};  ///< may be empty
  CapacityRange capacity{};
  std::optional<Capability> capability{};
};

struct NodeInfo {
  std::string node_id{};
  std::int64_t max_volumes = 0;  ///< 0: no limit
  StringMap topology{};
};

/// Everything that the services need done. Thread safe; a call blocks until its work is done or refused. Errors are of mount::ErrorCode's
/// kinds, as csi-rules has them for each method; each implementation's message names the volume.
class VolumeOps {
 public:
  VolumeOps() = default;
  VolumeOps(const VolumeOps&) = delete;
  VolumeOps& operator=(const VolumeOps&) = delete;
  virtual ~VolumeOps() = default;

  /// False while starting; failed_precondition only for what a restart could mend.
  virtual Result<bool> ready() = 0;

  virtual Result<Volume> create_volume(const CallContext& call, const CreateVolumeArgs& args) = 0;
  virtual Result<void> delete_volume(const CallContext& call, const std::string& volume_id) = 0;
  virtual Result<ValidateResult> validate_volume(const CallContext& call, const ValidateArgs& args) = 0;
  virtual Result<Page<Volume>> list_volumes(const CallContext& call, const PageArgs& args) = 0;
  virtual Result<Volume> get_volume(const CallContext& call, const std::string& volume_id) = 0;
  virtual Result<CapacityResult> get_capacity(const CallContext& call, const CapacityArgs& args) = 0;
  virtual Result<ExpandResult> expand_volume(const CallContext& call, const std::string& volume_id, const CapacityRange& capacity,
                                             const std::optional<Capability>& capability) = 0;
  virtual Result<VolumeHealth> controller_volume_health(const CallContext& call, const std::string& volume_id) = 0;
  virtual Result<Page<VolumeHealth>> list_volume_health(const CallContext& call, const PageArgs& args) = 0;

  virtual Result<void> stage(const CallContext& call, const StageArgs& args) = 0;
  virtual Result<void> unstage(const CallContext& call, const UnstageArgs& args) = 0;
  virtual Result<void> publish(const CallContext& call, const PublishArgs& args) = 0;
  virtual Result<void> unpublish(const CallContext& call, const UnpublishArgs& args) = 0;
  virtual Result<VolumeStats> stats(const CallContext& call, const StatsArgs& args) = 0;
  virtual Result<VolumeHealth> node_volume_health(const CallContext& call, const NodeHealthArgs& args) = 0;
  virtual Result<std::vector<StorageHealthEntry>> storage_health(const CallContext& call) = 0;
  virtual Result<std::int64_t> node_expand(const CallContext& call, const NodeExpandArgs& args) = 0;
  virtual NodeInfo node_info() = 0;
};

}  // namespace ordinald::csi
