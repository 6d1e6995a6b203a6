#include "mount/image_pool.hpp"

#include <utility>

#include "mount/files.hpp"

namespace ordinald::mount {
namespace {

/// A verb's failure in a pool's words. A missing directory is no missing volume: nothing of the volume is decided while the pool is away.
Error pool_error(const Error& error, const std::string& what) {
  Error result = error.with_context(what);
  if (result.code == ErrorCode::not_found) {
    result.code = ErrorCode::failed_precondition;
  }
  return result;
}

}  // namespace

ImagePool::ImagePool(Settings settings) : settings_(std::move(settings)) {}

ImageRef ImagePool::image(const PoolVolume& volume) const {
  return ImageRef{.directory = settings_.directory, .file = volume.id + ".img", .volume_id = volume.id};
}

std::string ImagePool::path(const PoolVolume& volume) const { return settings_.directory + "/" + volume.id + ".img"; }

std::uint64_t ImagePool::round_up(std::uint64_t bytes, std::uint32_t block_size) const {
  return (bytes + block_size - 1) / block_size * block_size;
}

ProbeRequest ImagePool::blank_probe(const PoolVolume& volume, const Device& device) const {
  return ProbeRequest{.device = device, .proof = BlankProof::all_zero, .image = image(volume)};
}

Result<void> ImagePool::prepare() const {
  if (auto made = make_directories(settings_.directory); !made) {
    return pool_error(made.error(), "pool " + settings_.name + ": its directory");
  }
  return success();
}

Result<std::string> ImagePool::mark(Kernel& kernel) const {
  auto opened = kernel.open_pool(settings_.directory);
  if (!opened) {
    return pool_error(opened.error(), "pool " + settings_.name);
  }
  return std::move(opened.value().mark);
}

Result<std::string> ImagePool::set_mark(Kernel& kernel, const std::string& mark) const {
  TRYV(claim(kernel));
  auto marked = kernel.mark_pool(settings_.directory, mark);
  if (!marked) {
    return pool_error(marked.error(), "pool " + settings_.name);
  }
  return marked;
}

Result<void> ImagePool::claim(Kernel& kernel) const {
  {
    const std::scoped_lock lock{mutex_};
    if (claimed_.fd) {
      return success();
    }
  }
  auto opened = kernel.open_pool(settings_.directory);
  if (!opened) {
    return opened.error().code == ErrorCode::unavailable ? Result<void>{opened.error().with_context("pool " + settings_.name)} : success();
  }
  const std::scoped_lock lock{mutex_};
  if (claimed_.fd) {
    return success();  // another call was faster, and has it for all of us
  }
  if (auto locked = lock_pool_directory(opened.value(), settings_.directory); !locked) {
    return locked.error().code == ErrorCode::failed_precondition ? Result<void>{locked.error().with_context("pool " + settings_.name)}
                                                                 : success();
  }
  claimed_ = std::move(opened.value());
  return success();
}

Result<PoolUsage> ImagePool::usage(Kernel& kernel) const {
  TRYV(claim(kernel));
  auto result = kernel.inspect_pool(settings_.directory);
  if (!result) {
    return result.error().with_context("pool " + settings_.name);
  }
  bool elsewhere = false;
  {
    const std::scoped_lock lock{mutex_};
    elsewhere = claimed_.fd && claimed_.device != result.value().device;
    if (elsewhere) {
      claimed_ = {};  // a file system was mounted there since, or taken away
    }
  }
  if (elsewhere) {
    TRYV(claim(kernel));
  }
  return result;
}

Result<void> ImagePool::create(Kernel& kernel, const PoolVolume& volume) const {
  TRYV(claim(kernel));
  auto made = kernel.create_image(ImageSpec{.image = image(volume), .size = volume.size, .thick = settings_.thick, .label = volume.label});
  if (!made) {
    return pool_error(made.error(), "pool " + settings_.name + ": making " + path(volume));
  }
  return success();
}

Result<void> ImagePool::adopt(Kernel& kernel, const PoolVolume& volume, const std::string& source, const Survey& found) const {
  TRYV(claim(kernel));
  auto adopted = kernel.adopt_image(
      {.source = source, .device = found.device, .inode = found.inode, .size = found.size, .image = image(volume), .label = volume.label});
  if (!adopted) {
    return pool_error(adopted.error(), "pool " + settings_.name + ": taking " + source + " as " + path(volume));
  }
  return success();
}

Result<void> ImagePool::relabel(Kernel& kernel, const PoolVolume& volume) const {
  TRYV(claim(kernel));
  auto labelled = kernel.relabel_image(ImageSpec{.image = image(volume), .label = volume.label});
  if (!labelled) {
    return pool_error(labelled.error(), "pool " + settings_.name + ": labelling " + path(volume));
  }
  return success();
}

Result<void> ImagePool::remove(Kernel& kernel, const PoolVolume& volume) const {
  TRYV(claim(kernel));
  auto removed = kernel.remove_image(image(volume));
  if (!removed) {
    return pool_error(removed.error(), "pool " + settings_.name + ": removing " + path(volume));
  }
  return success();
}

Result<void> ImagePool::grow(Kernel& kernel, const PoolVolume& volume) const {
  TRYV(claim(kernel));
  auto grown = kernel.resize_image(ImageSpec{.image = image(volume), .size = volume.size, .thick = settings_.thick});
  if (!grown) {
    return pool_error(grown.error(),
                      "pool " + settings_.name + ": growing " + path(volume) + " to " + std::to_string(volume.size) + " bytes");
  }
  return success();
}

Result<Device> ImagePool::attach(Kernel& kernel, const PoolVolume& volume) const {
  TRYV(claim(kernel));
  const std::string what = "pool " + settings_.name + ": attaching " + path(volume);
  const auto cut_short = [&](std::uint64_t size) {
    return make_error(ErrorCode::failed_precondition, what + ": it has " + std::to_string(size) + " bytes, the volume " +
                                                          std::to_string(volume.size) +
                                                          "; the file was cut short: put it back from a copy (it is not used as it is)");
  };
  // Looked at before, so that a refusal leaves no loop device behind.
  auto info = kernel.inspect_image(image(volume));
  if (!info) {
    return pool_error(info.error(), what);
  }
  if (info.value() && info.value()->volume_id == volume.id) {
    if (info.value()->size < volume.size) {
      return cut_short(info.value()->size);
    }
    if (settings_.thick) {
      // A hole may have come since: a discard by a tool or by hand, a copy that skipped zeros.
      auto filled = kernel.resize_image(ImageSpec{.image = image(volume), .size = info.value()->size, .thick = true});
      if (!filled) {
        return pool_error(filled.error(), what);
      }
    }
  }
  auto device = kernel.attach(image(volume), volume.block_size);
  if (!device) {
    if (device.error().code == ErrorCode::not_found) {
      return make_error(ErrorCode::failed_precondition,
                        what + ": " + device.error().message + "; its data is there no more: put the file back, or delete the volume");
    }
    return device.error().with_context(what);
  }
  if (device.value().size < volume.size) {
    // The image may have grown after the loop was made.
    device = kernel.refresh_device_size(device.value());
    if (!device) {
      return device.error().with_context(what);
    }
  }
  if (device.value().size < volume.size) {
    return cut_short(device.value().size);
  }
  return device;
}

Result<std::optional<Device>> ImagePool::find_attached(Kernel& kernel, const PoolVolume& volume) const {
  auto found = kernel.find_attached(image(volume));
  if (!found) {
    return pool_error(found.error(), "pool " + settings_.name + ": looking for the loop device of " + path(volume));
  }
  return found;
}

Result<PoolBacking> ImagePool::backing(Kernel& kernel, const PoolVolume& volume) const {
  TRYV(claim(kernel));
  const std::string what = "pool " + settings_.name + ": looking at " + path(volume);
  auto info = kernel.inspect_image(image(volume));
  if (!info) {
    return pool_error(info.error(), what);
  }
  if (!info.value()) {
    return make_error(ErrorCode::not_found, what + ": there is no such file");
  }
  if (info.value()->volume_id != volume.id) {
    return make_error(ErrorCode::failed_precondition, what + ": the file is marked as volume \"" + info.value()->volume_id + "\"");
  }
  return PoolBacking{.size = info.value()->size, .label = std::move(info.value()->label)};
}

Result<std::vector<PoolFinding>> ImagePool::examine(Kernel& kernel, const PoolVolume& volume, const std::optional<Device>& attached) const {
  auto info = kernel.inspect_image(image(volume));
  if (!info) {
    if (info.error().code == ErrorCode::not_found) {
      return std::vector{PoolFinding{.data_loss = false,
                                     .reason = "PoolUnreachable",
                                     .message = "pool " + settings_.name + ": " + info.error().message +
                                                "; mount or put back its directory, then the volume is served again"}};
    }
    return pool_error(info.error(), "pool " + settings_.name + ": " + path(volume));
  }
  if (!info.value()) {
    return std::vector{PoolFinding{.data_loss = true,
                                   .reason = "BackingFileMissing",
                                   .message = path(volume) +
                                              " is missing; put it back from a copy, or delete the volume. While a workload still has it "
                                              "mounted its data can be copied out; at the unmount it is gone"}};
  }
  if (info.value()->volume_id != volume.id) {
    return std::vector{PoolFinding{.data_loss = true,
                                   .reason = "BackingFileForeign",
                                   .message = path(volume) + " is marked as volume \"" + info.value()->volume_id +
                                              "\"; it was replaced: put the volume's own file back"}};
  }
  if (info.value()->size < volume.size) {
    return std::vector{PoolFinding{.data_loss = true,
                                   .reason = "BackingFileTooShort",
                                   .message = path(volume) + " has " + std::to_string(info.value()->size) + " bytes, the volume " +
                                              std::to_string(volume.size) + "; it was cut short: put it back from a copy"}};
  }
  if (attached && (info.value()->device != attached->backing_device || info.value()->inode != attached->backing_inode)) {
    return std::vector{
        PoolFinding{.data_loss = true,
                    .reason = "BackingFileReplaced",
                    .message = path(volume) + " is another file than the one that " + attached->path +
                               " stands on, which was deleted or moved away: what is written now is gone at the unstage, and "
                               "the next stage uses the file that is there then. Copy the data out while it is mounted"}};
  }
  return std::vector<PoolFinding>{};
}

}  // namespace ordinald::mount
