#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "mount/kernel.hpp"

namespace ordinald::mount {

/// Runs one program to its end or its deadline (mount/command.hpp has the real one).
using ToolRunner = std::function<Result<ToolOutcome>(const ToolRequest&)>;

/// The Kernel that makes the system calls, in the calling process. Each verb is one line here: what it does is in the module that
/// its line names (image_file, adoption, survey, loop_device, block_device, probe, mounter, unmounter, path_info, mountinfo,
/// staging_places, growth, mount_group).
///
/// Threading: holds no state but the runner; one object is used by one thread at a time. Any verb can hang with its device, which is
/// why it is a worker process that owns one. Errors and units: kernel.hpp.
class LinuxKernel final : public Kernel {
 public:
  explicit LinuxKernel(ToolRunner runner);

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

  /// The device's identity is compared before and after: a tool runs on what it was meant for, and what it did is believed only then.
  Result<ToolOutcome> run_tool(const ToolRequest& request) override;

 private:
  ToolRunner runner_;
};

}  // namespace ordinald::mount
