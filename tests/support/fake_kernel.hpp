#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "mount/kernel.hpp"
#include "tests/support/fake_state.hpp"

/// A kernel in memory, for tests of what stands on the seam. Held to the same contract suite as the real ones (kernel_contract.hpp), so it
/// can't lie.
///
///   FakeNode node;
///   node.with([](FakeState& state) { state.add_pool("/pool", 10 * gib); });
///   VolumeManager manager{node, …};      // a KernelSource
///   node.set_hook([](const FakePoint& point) -> Result<void> { if (point.name == "mount_filesystem") throw Crash{}; return success(); });
///
/// Threading: FakeNode is thread safe; any number of FakeKernels share one. A FakeKernel is used by one thread at a time.
namespace ordinald::testing {

/// A point that every verb passes: `attach` before it acts, `attach.done` when it has acted and is about to answer; `bind.half` where half
/// of its work is done (of run_tool: half of a filesystem written), `remove_image.volatile` where all of it is, and not durable yet.
struct FakePoint {
  std::string name;
  std::string volume_id;  ///< as for_volume was asked
};

/// Called at each point, without the node's lock. May throw (the process dies there), block, or answer an error in the verb's place.
using FakeHook = std::function<Result<void>(const FakePoint&)>;

/// One node: outlives the kernels that it hands out, and the agents that use them, one after the other.
class FakeNode final : public mount::KernelSource {
 public:
  Result<std::unique_ptr<mount::Kernel>> for_volume(std::string_view volume_id) override;

  /// Works on the model under the lock, and answers what `work` answers.
  template <class Work>
  auto with(Work&& work) {
    const std::scoped_lock lock{mutex_};
    return std::forward<Work>(work)(state_);
  }

  void set_hook(FakeHook hook);
  /// How often the point was passed.
  std::size_t passed(const std::string& point);
  Result<void> pass(std::string point, const std::string& volume_id);

  /// The agent dies: nothing of the node changes, but what was watching its calls is gone.
  void crash_process() { set_hook({}); }
  /// The node loses power and boots.
  void power_loss(const std::function<bool()>& is_lost = [] { return false; });

 private:
  std::mutex mutex_;
  FakeState state_;
  FakeHook hook_;
  std::map<std::string, std::size_t> passed_;
};

/// One caller's view of the node.
class FakeKernel : public mount::Kernel {
 public:
  FakeKernel(FakeNode& node, std::string volume_id) : node_(node), volume_id_(std::move(volume_id)) {}

  Result<mount::ImageInfo> create_image(const mount::ImageSpec& spec) override;
  Result<std::optional<mount::ImageInfo>> inspect_image(const mount::ImageRef& ref) override;
  Result<mount::ImageInfo> resize_image(const mount::ImageSpec& spec) override;
  Result<void> relabel_image(const mount::ImageSpec& spec) override;
  Result<mount::ImageInfo> adopt_image(const mount::AdoptRequest& request) override;
  Result<void> remove_image(const mount::ImageRef& ref) override;
  Result<mount::PoolDirectory> open_pool(const std::string& directory) override;
  Result<std::string> mark_pool(const std::string& directory, const std::string& mark) override;
  Result<mount::PoolUsage> inspect_pool(const std::string& directory) override;

  Result<mount::Device> attach(const mount::ImageRef& ref, std::uint32_t block_size) override;
  Result<std::optional<mount::Device>> find_attached(const mount::ImageRef& ref) override;
  Result<std::vector<mount::LoopEntry>> loops() override;
  Result<void> detach(const mount::Device& device) override;
  Result<mount::Device> inspect_device(const mount::Device& device) override;
  Result<void> set_device_read_only(const mount::Device& device, bool read_only) override;
  Result<void> refuse_discard(const mount::Device& device) override;
  Result<mount::Device> refresh_device_size(const mount::Device& device) override;
  Result<mount::Probe> probe(const mount::ProbeRequest& request) override;
  Result<void> erase(const mount::Device& device, bool thick) override;
  Result<mount::Survey> survey(const std::string& path) override;

  Result<mount::PathInfo> mount_filesystem(const mount::MountRequest& request) override;
  Result<mount::PathInfo> bind(const mount::BindRequest& request) override;
  Result<void> unmount(const mount::UnmountRequest& request) override;
  Result<mount::PathInfo> inspect_path(const std::string& path) override;
  Result<std::vector<mount::MountEntry>> mount_table() override;
  Result<std::vector<mount::StagingPlace>> staging_places(const std::string& directory) override;
  Result<mount::FilesystemUsage> usage(const std::string& path, const mount::Expected& expected) override;
  Result<std::uint64_t> grow_filesystem(const mount::GrowRequest& request) override;
  Result<void> apply_group(const std::string& path, const mount::Expected& expected, std::uint32_t gid) override;
  Result<std::vector<mount::Pin>> pins(const mount::Device& device) override;

  Result<mount::CgroupUsers> cgroup_users(const mount::CgroupQuery& query) override;

  Result<mount::ToolOutcome> run_tool(const mount::ToolRequest& request) override;

 private:
  /// A verb: passes its point, works on the model under the lock, and passes its end where that went well.
  template <class Work>
  auto act(std::string_view verb, Work&& work) -> std::invoke_result_t<Work, FakeState&>;
  /// Half of a verb's work: what is there when it is cut short.
  template <class Work>
  Result<void> half(std::string_view verb, Work&& work);
  /// As `act`, without the point before it, of a verb that makes its work durable at the end: that is `unsynced` until then.
  template <class Work>
  auto finish_durably(std::string_view verb, Work&& work) -> std::invoke_result_t<Work, FakeState&>;

  FakeNode& node_;
  std::string volume_id_;
};

template <class Work>
auto FakeKernel::act(std::string_view verb, Work&& work) -> std::invoke_result_t<Work, FakeState&> {
  TRYV(node_.pass(std::string{verb}, volume_id_));
  auto answer = node_.with(std::forward<Work>(work));
  if (answer) {
    TRYV(node_.pass(std::string{verb} + ".done", volume_id_));
  }
  return answer;
}

template <class Work>
Result<void> FakeKernel::half(std::string_view verb, Work&& work) {
  return node_.with(std::forward<Work>(work)) ? node_.pass(std::string{verb} + ".half", volume_id_) : Result<void>{mount::success()};
}

template <class Work>
auto FakeKernel::finish_durably(std::string_view verb, Work&& work) -> std::invoke_result_t<Work, FakeState&> {
  auto answer = node_.with(std::forward<Work>(work));
  if (answer) {
    TRYV(node_.pass(std::string{verb} + ".volatile", volume_id_));
    node_.with([&](FakeState& state) { state.unsynced.erase(volume_id_); });
    TRYV(node_.pass(std::string{verb} + ".done", volume_id_));
  }
  return answer;
}

}  // namespace ordinald::testing
