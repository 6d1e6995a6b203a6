#include "tests/support/fake_kernel.hpp"

#include <algorithm>
#include <cerrno>

#include "tests/support/fake_tools.hpp"

namespace ordinald::testing {

using mount::BlankProof;
using mount::errno_error;
using mount::Error;
using mount::ErrorCode;
using mount::ImageInfo;
using mount::ImageSpec;
using mount::Kernel;
using mount::make_error;
using mount::PoolUsage;
using mount::Probe;
using mount::ProbeRequest;
using mount::success;
using mount::ToolOutcome;
using mount::ToolRequest;

namespace {

constexpr std::uint64_t mib = std::uint64_t{1024} * 1024;

std::string path_of(const ImageRef& ref) { return ref.directory + "/" + ref.file; }

ImageInfo info_of(const FakeImage& image) {
  return {.size = image.size,
          .allocated = image.allocated,
          .device = image.device,
          .inode = image.inode,
          .volume_id = image.volume_id,
          .label = {}};
}

Result<void> find_pool(const FakeState& state, const std::string& directory) {
  if (!state.pools.contains(directory)) {
    return errno_error(ErrorCode::not_found, ENOENT, directory);
  }
  return success();
}

Error not_this_volumes(const ImageRef& ref) {
  return make_error(ErrorCode::failed_precondition, path_of(ref) + " is not marked as volume " + ref.volume_id);
}

/// The image, which must be there and this volume's.
Result<std::shared_ptr<FakeImage>> own_image(const FakeState& state, const ImageRef& ref) {
  TRYV(find_pool(state, ref.directory));
  const std::shared_ptr<FakeImage> image = state.image(ref);
  if (!image) {
    return errno_error(ErrorCode::not_found, ENOENT, path_of(ref));
  }
  if (image->volume_id != ref.volume_id) {
    return not_this_volumes(ref);
  }
  return image;
}

/// The name under which an image is made.
ImageRef temporary_of(const ImageRef& ref) { return {.directory = ref.directory, .file = "." + ref.file + ".new", .volume_id = {}}; }

void unlink(FakeState& state, const ImageRef& ref) {
  if (const std::shared_ptr<FakeImage> image = state.image(ref); image) {
    image->linked = false;
    std::erase(state.images, image);
  }
}

/// As large as asked; thick: every block allocated.
Result<ImageInfo> grow(FakeState& state, FakeImage& image, const ImageSpec& spec) {
  const std::uint64_t size = std::max(image.size, spec.size);
  if (state.pools.at(image.directory).read_only) {
    return errno_error(EROFS, path_of(spec.image));
  }
  if (spec.thick && size - std::min(size, image.allocated) > state.free_bytes(image.device)) {
    return errno_error(ENOSPC, "allocating " + path_of(spec.image));
  }
  state.unsynced[spec.image.volume_id].push_back(
      [ref = spec.image, old_size = image.size, old_allocated = image.allocated](FakeState& at_boot) {
        if (const std::shared_ptr<FakeImage> it = at_boot.image(ref); it) {
          it->size = old_size;
          it->allocated = old_allocated;
        }
      });
  image.size = size;
  image.allocated = spec.thick ? size : image.allocated;
  return info_of(image);
}

bool in_use(const FakeLoop& loop) { return loop.held || !loop.filesystem.expired(); }

bool has_signature(const FakeContent& content) {
  return content.kind == FakeContent::Kind::filesystem || content.kind == FakeContent::Kind::foreign;
}

/// Whether the proof that was asked for sees the raw byte.
bool sees_raw_byte(const FakeContent& content, const FakeLoop& loop, BlankProof proof) {
  if (content.kind != FakeContent::Kind::raw || proof == BlankProof::none) {
    return false;
  }
  return proof == BlankProof::all_zero || content.raw_offset < mib || content.raw_offset + mib >= loop.size;
}

}  // namespace

// --- the node ---

Result<std::unique_ptr<Kernel>> FakeNode::for_volume(std::string_view volume_id) {
  const std::scoped_lock lock{mutex_};
  if (const auto hung = state_.hung.find(std::string{volume_id}); hung != state_.hung.end()) {
    return make_error(ErrorCode::unavailable, hung->second);
  }
  return std::unique_ptr<Kernel>{std::make_unique<FakeKernel>(*this, std::string{volume_id})};
}

void FakeNode::set_hook(FakeHook hook) {
  const std::scoped_lock lock{mutex_};
  hook_ = std::move(hook);
}

std::size_t FakeNode::passed(const std::string& point) {
  const std::scoped_lock lock{mutex_};
  return passed_[point];
}

Result<void> FakeNode::pass(std::string point, const std::string& volume_id) {
  FakeHook hook;
  {
    const std::scoped_lock lock{mutex_};
    ++passed_[point];
    hook = hook_;
  }
  return hook ? hook({.name = std::move(point), .volume_id = volume_id}) : Result<void>{success()};
}

void FakeNode::power_loss(const std::function<bool()>& is_lost) {
  const std::scoped_lock lock{mutex_};
  hook_ = {};
  state_.power_loss(is_lost);
}

// --- images ---

Result<ImageInfo> FakeKernel::create_image(const ImageSpec& spec) {
  TRYV(node_.pass("create_image", volume_id_));
  TRYV(half("create_image", [&](FakeState& state) {
    const bool fresh = state.pools.contains(spec.image.directory) && !state.image(spec.image);
    if (fresh && !state.image(temporary_of(spec.image))) {
      state.add_image(temporary_of(spec.image), 0);
    }
    return fresh;
  }));
  return finish_durably("create_image", [&](FakeState& state) -> Result<ImageInfo> {
    TRYV(find_pool(state, spec.image.directory));
    if (const std::shared_ptr<FakeImage> image = state.image(spec.image); image) {
      if (image->volume_id != spec.image.volume_id) {
        return make_error(ErrorCode::already_exists, path_of(spec.image) + " is there and is not marked as volume " + spec.image.volume_id);
      }
      return grow(state, *image, spec);
    }
    unlink(state, temporary_of(spec.image));
    if (state.view(path_of(spec.image)).kind != FileKind::none) {
      return make_error(ErrorCode::failed_precondition, path_of(spec.image) + " is not a regular file");
    }
    FakeImage& image = state.add_image(spec.image, 0);
    image.label = spec.label.size() <= 65536 ? spec.label : std::string{};
    auto made = grow(state, image, spec);
    // Whole and durable before it gets its name: only the name can be lost.
    state.unsynced[spec.image.volume_id] = {[ref = spec.image](FakeState& at_boot) { unlink(at_boot, ref); }};
    if (!made) {
      state.images.pop_back();
    }
    return made;
  });
}

Result<std::optional<ImageInfo>> FakeKernel::inspect_image(const ImageRef& ref) {
  return act("inspect_image", [&](FakeState& state) -> Result<std::optional<ImageInfo>> {
    TRYV(find_pool(state, ref.directory));
    if (state.view(path_of(ref)).kind != FileKind::none) {
      return make_error(ErrorCode::failed_precondition, path_of(ref) + " is not a regular file");
    }
    const std::shared_ptr<FakeImage> image = state.image(ref);
    if (!image) {
      return std::optional<ImageInfo>{};
    }
    ImageInfo info = info_of(*image);
    info.label = image->label;
    return std::optional{std::move(info)};
  });
}

Result<ImageInfo> FakeKernel::resize_image(const ImageSpec& spec) {
  TRYV(node_.pass("resize_image", volume_id_));
  return finish_durably("resize_image", [&](FakeState& state) -> Result<ImageInfo> {
    TRY(const std::shared_ptr<FakeImage> image, own_image(state, spec.image));
    return grow(state, *image, spec);
  });
}

Result<void> FakeKernel::remove_image(const ImageRef& ref) {
  TRYV(node_.pass("remove_image", volume_id_));
  return finish_durably("remove_image", [&](FakeState& state) -> Result<void> {
    TRYV(find_pool(state, ref.directory));
    if (const std::shared_ptr<FakeImage> image = state.image(ref); image) {
      if (image->volume_id != ref.volume_id) {
        return not_this_volumes(ref);
      }
      unlink(state, ref);
      state.unsynced[ref.volume_id].push_back([image](FakeState& at_boot) {
        image->linked = true;
        at_boot.images.push_back(image);
      });
    }
    unlink(state, temporary_of(ref));
    return success();
  });
}

Result<PoolUsage> FakeKernel::inspect_pool(const std::string& directory) {
  return act("inspect_pool", [&](FakeState& state) -> Result<PoolUsage> {
    TRYV(find_pool(state, directory));
    const FakePool& pool = state.pools.at(directory);
    PoolUsage usage{.total = state.stores.at(pool.device).total,
                    .free = state.free_bytes(pool.device),
                    .device = pool.device,
                    .read_only = pool.read_only,
                    .images = {}};
    for (const std::shared_ptr<FakeImage>& image : state.images) {
      const bool half_made = image->file.starts_with('.') && image->file.ends_with(".img.new");
      if (image->directory == directory && (image->file.ends_with(".img") || half_made)) {
        usage.images.push_back({.file = image->file, .size = image->size, .allocated = image->allocated, .volume_id = image->volume_id});
      }
    }
    return usage;
  });
}

// --- devices ---

Result<Device> FakeKernel::attach(const ImageRef& ref, std::uint32_t block_size) {
  return act("attach", [&](FakeState& state) -> Result<Device> {
    TRY(const std::shared_ptr<FakeImage> image, own_image(state, ref));
    if (const std::optional<Device> old = state.device_of(*image); old) {
      if (old->block_size != block_size) {
        return make_error(ErrorCode::failed_precondition, path_of(ref) + " is attached as " + old->path + " with another block size");
      }
      state.loops.at(*loop_number(old->path)).autoclear = false;
      return *old;
    }
    std::uint32_t number = 0;
    while (state.loops.contains(number)) {
      ++number;
    }
    state.loops[number] = {.image = image,
                           .diskseq = state.next_diskseq++,
                           .size = image->size / block_size * block_size,
                           .block_size = block_size,
                           .by_agent = true,
                           .filesystem = {}};
    return state.device(number);
  });
}

Result<std::optional<Device>> FakeKernel::find_attached(const ImageRef& ref) {
  return act("find_attached", [&](FakeState& state) -> Result<std::optional<Device>> {
    for (const auto& [number, loop] : state.loops) {
      if (loop.image->directory == ref.directory && loop.image->file == ref.file) {
        return std::optional{state.device(number)};
      }
    }
    return std::optional<Device>{};
  });
}

Result<std::vector<mount::LoopEntry>> FakeKernel::loops() {
  return act("loops", [&](FakeState& state) -> Result<std::vector<mount::LoopEntry>> {
    std::vector<mount::LoopEntry> found;
    for (const auto& [number, loop] : state.loops) {
      const Device device = state.device(number);
      found.push_back({.path = device.path,
                       .number = device.number,
                       .backing = loop.image->directory + "/" + loop.image->file,
                       .deleted = !loop.image->linked});
    }
    return found;
  });
}

Result<void> FakeKernel::detach(const Device& device) {
  return act("detach", [&](FakeState& state) -> Result<void> {
    auto loop = state.loop(device);
    if (!loop) {
      return success();
    }
    if (in_use(*loop.value())) {
      // As LOOP_CLR_FD does: it goes with its last user.
      loop.value()->autoclear = true;
      return errno_error(ErrorCode::failed_precondition, EBUSY, "detaching " + device.path + ": something still uses it");
    }
    state.loops.erase(*loop_number(device.path));
    return success();
  });
}

Result<Device> FakeKernel::inspect_device(const Device& device) {
  return act("inspect_device", [&](FakeState& state) -> Result<Device> {
    if (auto loop = state.loop(device); !loop) {
      return make_error(ErrorCode::not_found, loop.error().message);
    }
    return state.device(*loop_number(device.path));
  });
}

Result<void> FakeKernel::set_device_read_only(const Device& device, bool read_only) {
  return act("set_device_read_only", [&](FakeState& state) -> Result<void> {
    TRY(FakeLoop * loop, state.loop(device));
    loop->read_only = read_only;
    return success();
  });
}

Result<Device> FakeKernel::refresh_device_size(const Device& device) {
  return act("refresh_device_size", [&](FakeState& state) -> Result<Device> {
    TRY(FakeLoop * loop, state.loop(device));
    loop->size = loop->image->size / loop->block_size * loop->block_size;
    return state.device(*loop_number(device.path));
  });
}

Result<Probe> FakeKernel::probe(const ProbeRequest& request) {
  return act("probe", [&](FakeState& state) -> Result<Probe> {
    TRY(const FakeLoop* loop, state.loop(request.device));
    if (request.proof == BlankProof::all_zero) {
      TRY(const std::shared_ptr<FakeImage> image, own_image(state, request.image));
      if (image != loop->image) {
        return make_error(ErrorCode::failed_precondition, path_of(request.image) + " is not what backs " + request.device.path);
      }
    }
    if (loop->image->read_errno != 0) {
      return errno_error(loop->image->read_errno, "reading " + request.device.path);
    }
    const FakeContent& content = loop->image->content;
    Probe probe;
    probe.busy = in_use(*loop);
    if (has_signature(content)) {
      probe.signatures.push_back({.usage = content.usage, .type = content.type, .uuid = content.uuid, .label = {}});
      probe.filesystem_size = content.size;
      probe.not_blank_reason = request.device.path + " holds " + content.type;
    } else if (sees_raw_byte(content, *loop, request.proof)) {
      probe.not_blank_reason = request.device.path + " holds data at byte " + std::to_string(content.raw_offset);
    } else if (probe.busy) {
      probe.not_blank_reason = request.device.path + " is in use";
    } else {
      probe.blank = true;
    }
    return probe;
  });
}

Result<void> FakeKernel::erase(const Device& device, bool thick) {
  TRYV(node_.pass("erase", volume_id_));
  return finish_durably("erase", [&](FakeState& state) -> Result<void> {
    TRY(FakeLoop * loop, state.loop(device));
    if (in_use(*loop)) {
      return errno_error(ErrorCode::failed_precondition, EBUSY, "emptying " + device.path);
    }
    if (loop->read_only) {
      return errno_error(EPERM, "emptying " + device.path);
    }
    state.unsynced[volume_id_].push_back(
        [image = loop->image, old = loop->image->content](FakeState& /*at_boot*/) { image->content = old; });
    loop->image->content = {};
    loop->image->allocated = thick ? loop->image->size : 0;
    return success();
  });
}

// --- programs ---

Result<ToolOutcome> FakeKernel::run_tool(const ToolRequest& request) {
  const std::string program = program_name(request.argv);
  TRYV(node_.pass("run_tool", volume_id_));
  if (is_mkfs(program)) {
    auto refused = node_.with([&](FakeState& state) -> Result<std::optional<ToolOutcome>> {
      TRY(FakeLoop * loop, state.loop(request.device));
      const std::shared_ptr<FakeImage> image = loop->image;
      const FakeContent old = image->content;
      std::optional<ToolOutcome> refusal = state.tool_results.contains(program) ? std::nullopt : begin_mkfs(request, *loop);
      if (!refusal) {
        state.unsynced[volume_id_].push_back([image, old](FakeState& /*at_boot*/) { image->content = old; });
      }
      return refusal;
    });
    TRY(const std::optional<ToolOutcome> outcome, std::move(refused));
    if (outcome) {
      return *outcome;
    }
    TRYV(node_.pass("run_tool.half", volume_id_));
  }
  // A tool that has ended has made its work durable.
  auto ended = node_.with([&](FakeState& state) -> Result<ToolOutcome> {
    state.unsynced.erase(volume_id_);
    TRY(FakeLoop * loop, state.loop(request.device));
    if (const auto canned = state.tool_results.find(program); canned != state.tool_results.end()) {
      return canned->second;
    }
    std::optional<ToolOutcome> outcome = run_fake_tool(request, *loop);
    if (!outcome) {
      return errno_error(ENOENT, "starting " + (request.argv.empty() ? std::string{"nothing"} : request.argv.front()));
    }
    return *outcome;
  });
  if (ended) {
    TRYV(node_.pass("run_tool.done", volume_id_));
  }
  return ended;
}

}  // namespace ordinald::testing
