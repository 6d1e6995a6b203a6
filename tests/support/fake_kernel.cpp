#include "tests/support/fake_kernel.hpp"

#include <algorithm>
#include <cerrno>

#include "tests/support/fake_images.hpp"
#include "tests/support/fake_tools.hpp"

namespace ordinald::testing {

using mount::BlankProof;
using mount::errno_error;
using mount::ErrorCode;
using mount::Kernel;
using mount::make_error;
using mount::Probe;
using mount::ProbeRequest;
using mount::success;
using mount::Survey;
using mount::ToolOutcome;
using mount::ToolRequest;

namespace {

constexpr std::uint64_t mib = std::uint64_t{1024} * 1024;

bool in_use(const FakeLoop& loop) { return loop.held || !loop.filesystem.expired(); }

/// As a superblock would have it, in which the time of the last mount is a number.
mount::Ext4Past past_of(const FakeContent& content) {
  std::string uuid = content.uuid;
  std::erase(uuid, '-');
  std::string when;
  for (unsigned shift = 0; shift < 32; shift += 4) {
    when += "0123456789abcdef"[(content.mounts >> (shift ^ 4U)) & 15U];
  }
  return {.mounted = uuid + "." + when, .checked = "0000.00000000", .unclean = content.damaged, .torn = content.torn};
}

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

Result<void> FakeKernel::refuse_discard(const Device& device) {
  return act("refuse_discard", [&](FakeState& state) -> Result<void> {
    TRY(FakeLoop * loop, state.loop(device));
    loop->takes_discard = false;
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
    if (content.kind == FakeContent::Kind::filesystem && content.type == "ext4") {
      probe.ext4 = past_of(content);
    }
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
    loop->image->allocated = thick || !loop->takes_discard ? loop->image->size : 0;
    return success();
  });
}

Result<std::vector<mount::StagingPlace>> FakeKernel::staging_places(const std::string& directory) {
  return act("staging_places", [&](FakeState& state) -> Result<std::vector<mount::StagingPlace>> {
    std::vector<mount::StagingPlace> places;
    const FakeView at = state.view(directory);
    if (at.kind != FileKind::directory || at.tree == nullptr) {
      return places;
    }
    const std::string above = at.key.empty() ? "" : at.key + "/";
    for (const auto& [key, entry] : *at.tree) {
      const bool beneath = key.starts_with(above) && key.size() > above.size() && key.find('/', above.size()) == std::string::npos;
      const auto mount_point = at.tree->find(key + "/globalmount");
      const auto data = at.tree->find(key + "/vol_data.json");
      constexpr std::size_t most_data = 4096;
      if (beneath && entry.kind == FileKind::directory && mount_point != at.tree->end() && data != at.tree->end() &&
          mount_point->second.kind == FileKind::directory && data->second.kind == FileKind::regular &&
          data->second.text.size() <= most_data) {
        places.push_back({.name = key.substr(above.size()), .age = state.staging_age, .data = data->second.text});
      }
    }
    return places;
  });
}

Result<Survey> FakeKernel::survey(const std::string& path) {
  return act("survey", [&](FakeState& state) -> Result<Survey> {
    const std::shared_ptr<FakeImage> image = state.image(image_at(path));
    if (!image) {
      const FakeView view = state.view(path);
      if (view.kind == FileKind::none) {
        return errno_error(ErrorCode::not_found, ENOENT, path);
      }
      return Survey{.kind = view.kind};
    }
    Survey survey{.kind = FileKind::regular,
                  .size = image->size,
                  .allocated = image->allocated,
                  .device = image->device,
                  .inode = image->inode,
                  .links = 1,
                  .volume_id = image->volume_id,
                  .label = image->label,
                  .in_use = state.device_of(*image) ? "it is attached" : ""};
    const FakeContent& content = image->content;
    if (!has_signature(content)) {
      return survey;
    }
    survey.signatures.push_back({.usage = content.usage, .type = content.type, .uuid = content.uuid, .label = {}});
    if (content.kind != FakeContent::Kind::filesystem) {
      return survey;
    }
    survey.filesystem_size = content.size;
    survey.block_size = content.type == "xfs" ? 512 : 4096;
    if (!survey.in_use.empty()) {
      return survey;
    }
    if (content.damaged) {
      survey.problem = "it is damaged";
      return survey;
    }
    survey.total = content.size;
    survey.used = image->allocated;
    for (const auto& [key, entry] : content.tree) {
      if (!key.empty() && key.find('/') == std::string::npos) {
        survey.names.push_back(key);
      }
    }
    survey.name_count = survey.names.size();
    return survey;
  });
}

// --- programs ---

Result<ToolOutcome> FakeKernel::run_tool(const ToolRequest& request) {
  const std::string program = program_name(request.argv);
  TRYV(node_.pass("run_tool", volume_id_));
  if (request.device.number == 0) {
    return ToolOutcome{.exit_status = 0, .output = program + " 0.1"};
  }
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
    std::optional<ToolOutcome> outcome = run_fake_tool(request, *loop, state.undo_is_full);
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
