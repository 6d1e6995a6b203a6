#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "mount/kernel.hpp"
#include "mount/worker_pool.hpp"

namespace ordinald::mount {

/// The kernel as one worker serves it: sends the verb, waits for the answer until the deadline. Got from WorkerPool::for_volume.
///
/// Threading: one thread; it must not outlive its pool.
/// Errors: those of the verbs; unavailable: no answer in time, the worker is left behind with its volume, and this object and every later
/// one of the volume say so until it has answered or died; internal: the worker died meanwhile (the next verb gets another one).
class RemoteKernel : public Kernel {
 public:
  RemoteKernel(WorkerPool& pool, std::string volume, std::unique_ptr<WorkerPool::Worker> worker)
      : pool_(pool), volume_(std::move(volume)), worker_(std::move(worker)) {}
  ~RemoteKernel() override;

  Result<ImageInfo> create_image(const ImageSpec& spec) override;
  Result<std::optional<ImageInfo>> inspect_image(const ImageRef& image) override;
  Result<ImageInfo> resize_image(const ImageSpec& spec) override;
  Result<void> relabel_image(const ImageSpec& spec) override;
  Result<ImageInfo> adopt_image(const AdoptRequest& request) override;
  Result<void> remove_image(const ImageRef& image) override;
  Result<PoolDirectory> open_pool(const std::string& directory) override;
  Result<std::string> mark_pool(const std::string& directory, const std::string& mark) override;
  Result<PoolUsage> inspect_pool(const std::string& directory) override;
  Result<Device> attach(const ImageRef& image, std::uint32_t block_size) override;
  Result<std::optional<Device>> find_attached(const ImageRef& image) override;
  Result<std::vector<LoopEntry>> loops() override;
  Result<void> detach(const Device& device) override;
  Result<Device> inspect_device(const Device& device) override;
  Result<void> set_device_read_only(const Device& device, bool read_only) override;
  Result<void> refuse_discard(const Device& device) override;
  Result<Device> refresh_device_size(const Device& device) override;
  Result<Probe> probe(const ProbeRequest& request) override;
  Result<void> erase(const Device& device, bool thick) override;
  Result<Survey> survey(const std::string& path) override;
  Result<PathInfo> mount_filesystem(const MountRequest& request) override;
  Result<PathInfo> bind(const BindRequest& request) override;
  Result<void> unmount(const UnmountRequest& request) override;
  Result<PathInfo> inspect_path(const std::string& path) override;
  Result<std::vector<MountEntry>> mount_table() override;
  Result<std::vector<StagingPlace>> staging_places(const std::string& directory) override;
  Result<FilesystemUsage> usage(const std::string& path, const Expected& expected) override;
  Result<std::uint64_t> grow_filesystem(const GrowRequest& request) override;
  Result<void> apply_group(const std::string& path, const Expected& expected, std::uint32_t gid) override;
  Result<std::vector<Pin>> pins(const Device& device) override;
  Result<CgroupUsers> cgroup_users(const CgroupQuery& query) override;
  Result<ToolOutcome> run_tool(const ToolRequest& request) override;

 private:
  /// What an unmount of the path that outlasted its call lost, told once.
  std::optional<Error> late_error_of_unmounting(const std::string& path);
  /// The verb's answer, by its number in the list (verbs.hpp).
  template <auto Function, class... Args>
  auto call(const Args&... arguments);
  template <auto Function, class... Args>
  auto call_within(std::chrono::milliseconds deadline, const Args&... arguments);
  /// The answer's bytes; `what` is for the text of errors.
  template <class Describe>
  Result<std::string> ask(const std::string& request, std::chrono::milliseconds deadline, const Describe& what, bool unmounts);

  WorkerPool& pool_;
  const std::string volume_;
  std::unique_ptr<WorkerPool::Worker> worker_;  ///< empty after it was lost
};

}  // namespace ordinald::mount
