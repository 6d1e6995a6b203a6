#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "mount/files.hpp"
#include "tests/support/fake_images.hpp"
#include "tests/support/fake_kernel.hpp"

namespace ordinald::testing {

using mount::AdoptRequest;
using mount::errno_error;
using mount::Error;
using mount::ErrorCode;
using mount::ImageInfo;
using mount::ImageSpec;
using mount::make_error;
using mount::PoolUsage;
using mount::success;

ImageRef image_at(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return {.directory = path.substr(0, slash), .file = path.substr(slash + 1), .volume_id = {}};
}

std::string path_of(const ImageRef& ref) { return ref.directory + "/" + ref.file; }

namespace {

constexpr std::size_t largest_label = 65536;

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

}  // namespace

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

// --- images and pools ---

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
    image.label = spec.label.size() <= largest_label ? spec.label : std::string{};
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

Result<void> FakeKernel::relabel_image(const ImageSpec& spec) {
  TRYV(node_.pass("relabel_image", volume_id_));
  return finish_durably("relabel_image", [&](FakeState& state) -> Result<void> {
    TRY(const std::shared_ptr<FakeImage> image, own_image(state, spec.image));
    state.unsynced[volume_id_].push_back([image, old = image->label](FakeState& /*at_boot*/) { image->label = old; });
    image->label = spec.label.size() <= largest_label ? spec.label : std::string{};
    return success();
  });
}

Result<ImageInfo> FakeKernel::adopt_image(const AdoptRequest& request) {
  TRYV(node_.pass("adopt_image", volume_id_));
  const ImageRef from = image_at(request.source);
  const auto surveyed = [&](FakeState& state) -> Result<std::shared_ptr<FakeImage>> {
    TRYV(find_pool(state, request.image.directory));
    const std::shared_ptr<FakeImage> image = state.image(from);
    if (!image) {
      return errno_error(ErrorCode::not_found, ENOENT, request.source);
    }
    if (image->inode != request.inode || image->size != request.size) {
      return make_error(ErrorCode::failed_precondition, request.source + " is not the file any more that was looked at");
    }
    if (state.device_of(*image)) {
      return make_error(ErrorCode::failed_precondition, request.source + " is in use");
    }
    return image;
  };
  TRYV(half("adopt_image", [&](FakeState& state) {
    const auto image =
        state.image(request.image) ? Result<std::shared_ptr<FakeImage>>{make_error(ErrorCode::already_exists, "")} : surveyed(state);
    if (image) {
      image.value()->volume_id = request.image.volume_id;
      image.value()->label = request.label;
    }
    return image.has_value();
  }));
  return finish_durably("adopt_image", [&](FakeState& state) -> Result<ImageInfo> {
    TRYV(find_pool(state, request.image.directory));
    if (const std::shared_ptr<FakeImage> there = state.image(request.image); there) {
      if (there->volume_id != request.image.volume_id) {
        return make_error(ErrorCode::already_exists, path_of(request.image) + " is there, and is not volume " + request.image.volume_id);
      }
      return info_of(*there);
    }
    TRY(const std::shared_ptr<FakeImage> image, surveyed(state));
    if (state.pools.at(from.directory).device != state.pools.at(request.image.directory).device) {
      return errno_error(ErrorCode::failed_precondition, EXDEV, "moving " + request.source);
    }
    image->directory = request.image.directory;
    image->file = request.image.file;
    state.unsynced[volume_id_].push_back([image, from](FakeState& /*at_boot*/) {
      image->directory = from.directory;
      image->file = from.file;
    });
    return info_of(*image);
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

Result<mount::PoolDirectory> FakeKernel::open_pool(const std::string& directory) {
  return act("open_pool", [&](FakeState& state) -> Result<mount::PoolDirectory> {
    TRYV(find_pool(state, directory));
    // A file of the real kernel's, since its locks are what is wanted.
    std::shared_ptr<mount::UniqueFd>& file = state.pools.at(directory).to_lock;
    if (!file) {
      file = std::make_shared<mount::UniqueFd>(::memfd_create("fake pool", MFD_CLOEXEC));
    }
    mount::PoolDirectory opened{.fd = mount::UniqueFd{::open(mount::proc_path(file->get()).c_str(), O_RDONLY | O_CLOEXEC)},
                                .device = state.pools.at(directory).device,
                                .inode = 0};
    struct stat status{};
    if (!opened.fd || ::fstat(opened.fd.get(), &status) != 0) {
      return errno_error(errno, "opening a fake pool");
    }
    opened.inode = status.st_ino;
    opened.mark = state.pools.at(directory).mark;
    return opened;
  });
}

Result<std::string> FakeKernel::mark_pool(const std::string& directory, const std::string& mark) {
  TRYV(node_.pass("mark_pool", volume_id_));
  return finish_durably("mark_pool", [&](FakeState& state) -> Result<std::string> {
    TRYV(find_pool(state, directory));
    FakePool& pool = state.pools.at(directory);
    if (pool.mark.empty() && pool.read_only) {
      return errno_error(EROFS, directory);
    }
    if (pool.mark.empty()) {
      pool.mark = mark;
      state.unsynced[volume_id_].push_back([directory](FakeState& at_boot) { at_boot.pools.at(directory).mark.clear(); });
    }
    return pool.mark;
  });
}

Result<PoolUsage> FakeKernel::inspect_pool(const std::string& directory) {
  return act("inspect_pool", [&](FakeState& state) -> Result<PoolUsage> {
    TRYV(find_pool(state, directory));
    const FakePool& pool = state.pools.at(directory);
    const FakeStore& store = state.stores.at(state.store_of(pool.device));
    PoolUsage usage{.total = store.total,
                    .free = state.free_bytes(pool.device),
                    .inodes = store.inodes,
                    .inodes_free = store.inodes_free,
                    .device = pool.device,
                    .filesystem = "device " + std::to_string(state.store_of(pool.device)),
                    .read_only = pool.read_only,
                    .mark = pool.mark,
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

}  // namespace ordinald::testing
