#include "mount/remote_kernel.hpp"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "mount/archive.hpp"
#include "mount/process.hpp"
#include "mount/verbs.hpp"

namespace ordinald::mount {
namespace {

using std::chrono::steady_clock;
using std::chrono::system_clock;

/// A tool ends by its own deadline; this much later its worker must have reaped it.
constexpr std::chrono::seconds tool_grace{10};

/// An adoption writes back first what is still in memory of a file that may just have been copied.
constexpr std::chrono::minutes adoption_deadline{10};

/// What a verb works on, of its first argument, for the text of an error.
std::string object_of(const std::string& path) { return path; }
std::string object_of(const ImageRef& image) { return image.directory + "/" + image.file; }
std::string object_of(const ImageSpec& spec) { return object_of(spec.image); }
std::string object_of(const AdoptRequest& request) { return request.source; }
std::string object_of(const Device& device) { return device.path; }
std::string object_of(const BindRequest& request) { return request.target; }
std::string object_of(const UnmountRequest& request) { return request.path; }
std::string object_of(const ToolRequest& request) {
  return (request.argv.empty() ? "" : request.argv[0] + " on ") + object_of(request.device);
}
template <class T>
  requires requires(const T& request) { request.device.path; }
std::string object_of(const T& request) {
  return object_of(request.device);
}
template <class T, class... Rest>
std::string describe(std::string_view verb, const T& first, const Rest&...) {
  return std::string{verb} + " of " + object_of(first);
}
std::string describe(std::string_view verb) { return std::string{verb}; }

}  // namespace

RemoteKernel::~RemoteKernel() {
  if (worker_) pool_.give_back(std::move(worker_));
}

template <class Describe>
Result<std::string> RemoteKernel::ask(const std::string& request, std::chrono::milliseconds deadline, const Describe& what, bool unmounts) {
  if (!worker_) {
    TRY(worker_, pool_.lease(volume_));
  }
  const auto since = system_clock::now();
  const auto until = steady_clock::now() + deadline;
  const int stop_fd = pool_.stopped_.get();
  std::string reply;
  Channel::Status status = worker_->channel.send(request, until, stop_fd);
  const bool sent = status == Channel::Status::done;
  if (sent) status = worker_->channel.receive(reply, until, stop_fd);
  if (status == Channel::Status::done) return reply;

  auto worker = std::move(worker_);
  const std::string context = what() + " for volume " + volume_;
  const std::string where = "worker process " + std::to_string(worker->pid);
  Hang hang{.volume = volume_, .what = what(), .unmounts = unmounts, .pid = worker->pid, .since = since};
  // A request that isn't whole was never begun: the worker ends when the rest does not come.
  if (sent) pool_.leave(std::move(worker), std::move(hang));
  if (status == Channel::Status::closed) {  // unavailable: an orchestrator takes any other for final, and it may have been done
    const char* what_then = sent
                                ? " died before it answered (the kernel's log says whether it was out of memory): it may have been done or "
                                  "not, repeat the call"
                                : " died before it was asked: nothing was done, repeat the call";
    return Error{.code = ErrorCode::unavailable, .message = context + ": " + where + what_then, .sys_errno = EPIPE};
  }
  if (status == Channel::Status::stopped) {
    return make_error(ErrorCode::unavailable,
                      context + " is given up because the agent is ending; it may have been done or not, repeat the call");
  }
  const std::string took = std::to_string(std::chrono::duration_cast<std::chrono::seconds>(system_clock::now() - since).count());
  return make_error(ErrorCode::unavailable,
                    context + " has had no answer since " + clock_text(since) + " (" + took + " s), in " + where +
                        ": the device, or what lies below it, hangs (see dmesg). The volume is served again once it "
                        "answers; other volumes are not affected");
}

template <auto Function, class... Args>
auto RemoteKernel::call_within(std::chrono::milliseconds deadline, const Args&... arguments) {
  constexpr auto index = verb_index<Function>;
  using V = VerbAt<index>;
  using Value = typename VerbSignature<V>::Value;
  constexpr bool unmounts = index == verb_index<&Kernel::unmount>;
  const auto reply = ask(archive::pack(index, volume_, arguments...), deadline, [&] { return describe(V::name, arguments...); }, unmounts);
  if (!reply) return Result<Value>{reply.error()};
  return archive::Reader{reply.value()}.template get_result<Value>();
}

template <auto Function, class... Args>
auto RemoteKernel::call(const Args&... arguments) {
  return call_within<Function>(pool_.options_.verb_deadline, arguments...);
}

Result<ImageInfo> RemoteKernel::create_image(const ImageSpec& spec) { return call<&Kernel::create_image>(spec); }
Result<std::optional<ImageInfo>> RemoteKernel::inspect_image(const ImageRef& image) { return call<&Kernel::inspect_image>(image); }
Result<ImageInfo> RemoteKernel::resize_image(const ImageSpec& spec) { return call<&Kernel::resize_image>(spec); }
Result<void> RemoteKernel::relabel_image(const ImageSpec& spec) { return call<&Kernel::relabel_image>(spec); }
Result<ImageInfo> RemoteKernel::adopt_image(const AdoptRequest& request) {
  return call_within<&Kernel::adopt_image>(std::max<std::chrono::milliseconds>(pool_.options_.verb_deadline, adoption_deadline), request);
}
Result<void> RemoteKernel::remove_image(const ImageRef& image) { return call<&Kernel::remove_image>(image); }
Result<PoolDirectory> RemoteKernel::open_pool(const std::string& directory) {
  auto opened = call<&Kernel::open_pool>(directory);
  if (!opened) return opened;
  opened.value().fd = worker_ ? worker_->channel.take_fd() : UniqueFd{};
  if (!opened.value().fd) return errno_error(ErrorCode::resource_exhausted, EMFILE, "receiving the descriptor of " + directory);
  return opened;
}
Result<std::string> RemoteKernel::mark_pool(const std::string& directory, const std::string& mark) {
  return call<&Kernel::mark_pool>(directory, mark);
}
Result<PoolUsage> RemoteKernel::inspect_pool(const std::string& directory) { return call<&Kernel::inspect_pool>(directory); }
Result<Device> RemoteKernel::attach(const ImageRef& image, std::uint32_t block_size) { return call<&Kernel::attach>(image, block_size); }
Result<std::optional<Device>> RemoteKernel::find_attached(const ImageRef& image) { return call<&Kernel::find_attached>(image); }
Result<std::vector<LoopEntry>> RemoteKernel::loops() { return call<&Kernel::loops>(); }
Result<void> RemoteKernel::detach(const Device& device) { return call<&Kernel::detach>(device); }
Result<Device> RemoteKernel::inspect_device(const Device& device) { return call<&Kernel::inspect_device>(device); }
Result<void> RemoteKernel::set_device_read_only(const Device& device, bool read_only) {
  return call<&Kernel::set_device_read_only>(device, read_only);
}
Result<void> RemoteKernel::refuse_discard(const Device& device) { return call<&Kernel::refuse_discard>(device); }
Result<Device> RemoteKernel::refresh_device_size(const Device& device) { return call<&Kernel::refresh_device_size>(device); }
Result<Probe> RemoteKernel::probe(const ProbeRequest& request) { return call<&Kernel::probe>(request); }
Result<void> RemoteKernel::erase(const Device& device, bool thick) { return call<&Kernel::erase>(device, thick); }
Result<Survey> RemoteKernel::survey(const std::string& path) { return call<&Kernel::survey>(path); }
Result<PathInfo> RemoteKernel::mount_filesystem(const MountRequest& request) {
  if (const auto late = late_error_of_unmounting(request.target)) {
    return *late;  // before anybody goes on with what is there
  }
  return call<&Kernel::mount_filesystem>(request);
}
Result<PathInfo> RemoteKernel::bind(const BindRequest& request) { return call<&Kernel::bind>(request); }
Result<void> RemoteKernel::unmount(const UnmountRequest& request) {
  TRYV(call<&Kernel::unmount>(request));
  const auto late = late_error_of_unmounting(request.path);
  return late ? Result<void>{*late} : success();
}

std::optional<Error> RemoteKernel::late_error_of_unmounting(const std::string& path) {
  const auto late = pool_.take_late_error(volume_, describe(VerbAt<verb_index<&Kernel::unmount>>::name, path));
  return late ? std::optional{late->with_context("when " + path + " was unmounted the last time")} : std::nullopt;
}
Result<PathInfo> RemoteKernel::inspect_path(const std::string& path) { return call<&Kernel::inspect_path>(path); }
Result<std::vector<MountEntry>> RemoteKernel::mount_table() { return call<&Kernel::mount_table>(); }
Result<std::vector<StagingPlace>> RemoteKernel::staging_places(const std::string& directory) {
  return call<&Kernel::staging_places>(directory);
}
Result<FilesystemUsage> RemoteKernel::usage(const std::string& path, const Expected& expected) {
  return call<&Kernel::usage>(path, expected);
}
Result<std::uint64_t> RemoteKernel::grow_filesystem(const GrowRequest& request) { return call<&Kernel::grow_filesystem>(request); }
Result<void> RemoteKernel::apply_group(const std::string& path, const Expected& expected, std::uint32_t gid) {
  return call<&Kernel::apply_group>(path, expected, gid);
}
Result<std::vector<Pin>> RemoteKernel::pins(const Device& device) { return call<&Kernel::pins>(device); }
Result<CgroupUsers> RemoteKernel::cgroup_users(const CgroupQuery& query) { return call<&Kernel::cgroup_users>(query); }
Result<ToolOutcome> RemoteKernel::run_tool(const ToolRequest& request) {
  return call_within<&Kernel::run_tool>(request.deadline + tool_grace, request);
}

}  // namespace ordinald::mount
