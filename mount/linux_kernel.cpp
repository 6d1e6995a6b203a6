#include "mount/linux_kernel.hpp"

#include <fcntl.h>

#include <utility>

#include "mount/adoption.hpp"
#include "mount/block_device.hpp"
#include "mount/cgroup_users.hpp"
#include "mount/growth.hpp"
#include "mount/image_file.hpp"
#include "mount/loop_device.hpp"
#include "mount/loop_search.hpp"
#include "mount/mount_group.hpp"
#include "mount/mounter.hpp"
#include "mount/mountinfo.hpp"
#include "mount/path_info.hpp"
#include "mount/pool_mark.hpp"
#include "mount/probe.hpp"
#include "mount/staging_places.hpp"
#include "mount/survey.hpp"
#include "mount/unmounter.hpp"

namespace ordinald::mount {

LinuxKernel::LinuxKernel(ToolRunner runner) : runner_(std::move(runner)) {}

Result<ImageInfo> LinuxKernel::create_image(const ImageSpec& spec) { return create_image_file(spec); }
Result<std::optional<ImageInfo>> LinuxKernel::inspect_image(const ImageRef& image) {
  TRY(auto info, inspect_image_file(image));
  if (info) {
    TRY(info->label, read_image_label(image));
  }
  return info;
}
Result<ImageInfo> LinuxKernel::resize_image(const ImageSpec& spec) { return resize_image_file(spec); }
Result<void> LinuxKernel::relabel_image(const ImageSpec& spec) { return relabel_image_file(spec); }
Result<ImageInfo> LinuxKernel::adopt_image(const AdoptRequest& request) { return adopt_file(request); }
Result<void> LinuxKernel::remove_image(const ImageRef& image) { return remove_image_file(image); }
Result<PoolDirectory> LinuxKernel::open_pool(const std::string& directory) { return open_pool_directory(directory); }
Result<std::string> LinuxKernel::mark_pool(const std::string& directory, const std::string& mark) {
  return mark_pool_directory(directory, mark);
}
Result<PoolUsage> LinuxKernel::inspect_pool(const std::string& directory) { return inspect_pool_directory(directory); }

Result<Device> LinuxKernel::attach(const ImageRef& image, std::uint32_t block_size) { return attach_loop(image, block_size); }
Result<std::optional<Device>> LinuxKernel::find_attached(const ImageRef& image) { return find_loop(image); }
Result<std::vector<LoopEntry>> LinuxKernel::loops() { return list_loops(); }
Result<void> LinuxKernel::detach(const Device& device) { return detach_loop(device); }
Result<Device> LinuxKernel::inspect_device(const Device& device) { return inspect_block_device(device); }
Result<void> LinuxKernel::set_device_read_only(const Device& device, bool read_only) {
  return set_block_device_read_only(device, read_only);
}
Result<void> LinuxKernel::refuse_discard(const Device& device) { return refuse_loop_discard(device); }
Result<Device> LinuxKernel::refresh_device_size(const Device& device) { return refresh_loop_size(device); }
Result<Probe> LinuxKernel::probe(const ProbeRequest& request) { return probe_device(request); }
Result<void> LinuxKernel::erase(const Device& device, bool thick) { return erase_block_device(device, thick); }
Result<Survey> LinuxKernel::survey(const std::string& path) { return survey_path(path); }

Result<PathInfo> LinuxKernel::mount_filesystem(const MountRequest& request) { return mount_device(request); }
Result<PathInfo> LinuxKernel::bind(const BindRequest& request) { return bind_path(request); }
Result<void> LinuxKernel::unmount(const UnmountRequest& request) { return unmount_path(request); }
Result<PathInfo> LinuxKernel::inspect_path(const std::string& path) { return read_path_info(path); }
Result<std::vector<MountEntry>> LinuxKernel::mount_table() { return read_mount_table(); }
Result<std::vector<StagingPlace>> LinuxKernel::staging_places(const std::string& directory) { return list_staging_places(directory); }
Result<FilesystemUsage> LinuxKernel::usage(const std::string& path, const Expected& expected) { return read_usage(path, expected); }
Result<std::uint64_t> LinuxKernel::grow_filesystem(const GrowRequest& request) { return grow_mounted(request); }
Result<void> LinuxKernel::apply_group(const std::string& path, const Expected& expected, std::uint32_t gid) {
  return give_to_group(path, expected, gid);
}
Result<std::vector<Pin>> LinuxKernel::pins(const Device& device) { return find_pins(device); }
Result<CgroupUsers> LinuxKernel::cgroup_users(const CgroupQuery& query) { return find_cgroup_users(query, "/sys/fs/cgroup"); }

Result<ToolOutcome> LinuxKernel::run_tool(const ToolRequest& request) {
  if (request.device.number == 0) {
    return runner_(request);
  }
  // Closed again before the tool starts: it needs the device for itself.
  TRYV(open_verified(request.device, O_RDONLY));
  TRY(auto outcome, runner_(request));
  if (const auto after = open_verified(request.device, O_RDONLY); !after) {
    return after.error().with_context("after " + request.argv.front() + " had run");
  }
  return outcome;
}

}  // namespace ordinald::mount
