#include "tests/support/fake_state.hpp"

#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <stdexcept>
#include <string_view>
#include <utility>

namespace ordinald::testing {

using mount::ErrorCode;
using mount::make_error;

namespace {

constexpr unsigned loop_major = 7;
const std::uint64_t root_device = makedev(254, 1);
const std::uint64_t devtmpfs_device = makedev(0, 6);
constexpr std::uint64_t raw_byte_offset = 4096;

/// The path without a slash at its ends.
std::string trimmed(std::string_view path) {
  while (path.starts_with('/')) {
    path.remove_prefix(1);
  }
  while (path.ends_with('/')) {
    path.remove_suffix(1);
  }
  return std::string{path};
}

std::string parent_of(const std::string& key) {
  const std::size_t slash = key.rfind('/');
  return slash == std::string::npos ? std::string{} : key.substr(0, slash);
}

/// What is left of `path` beneath `directory` ("" for itself); none when it isn't there.
std::optional<std::string> beneath(const std::string& path, const std::string& directory) {
  std::string inner = trimmed(path);
  const std::string outer = trimmed(directory);
  if (inner == outer) {
    return std::string{};
  }
  if (outer.empty()) {
    return inner;
  }
  if (inner.starts_with(outer + "/")) {
    return inner.substr(outer.size() + 1);
  }
  return std::nullopt;
}

}  // namespace

std::uint64_t loop_device_number(std::uint32_t number) { return makedev(loop_major, number); }

std::optional<std::uint32_t> loop_number(const std::string& path) {
  constexpr std::string_view prefix = "/dev/loop";
  if (!path.starts_with(prefix)) {
    return std::nullopt;
  }
  std::uint32_t number = 0;
  const char* end = path.data() + path.size();
  const auto [rest, error] = std::from_chars(path.data() + prefix.size(), end, number);
  return error == std::errc{} && rest == end ? std::optional{number} : std::nullopt;
}

FakeEntry* FakeView::entry() const {
  if (tree == nullptr) {
    return nullptr;
  }
  const auto found = tree->find(key);
  return found == tree->end() ? nullptr : &found->second;
}

// --- pools, images, loops ---

std::uint64_t FakeState::add_pool(const std::string& directory, std::uint64_t total, std::optional<std::uint64_t> device) {
  if (!device) {
    device = makedev(253, next_minor++);
    stores[*device] = {.total = total};
  }
  pools[directory] = {.device = *device};
  add_directory(directory);
  return *device;
}

std::uint64_t FakeState::add_pool_on_subvolume(const std::string& directory, std::uint64_t device) {
  const std::uint64_t own = makedev(0, next_minor++);
  subvolumes[own] = store_of(device);
  return add_pool(directory, 0, own);
}

std::uint64_t FakeState::free_bytes(std::uint64_t device) const {
  device = store_of(device);
  const FakeStore& store = stores.at(device);
  std::uint64_t used = store.used_by_others;
  for (const std::shared_ptr<FakeImage>& image : images) {
    used += store_of(image->device) == device ? image->allocated : 0;
  }
  for (const auto& [number, loop] : loops) {
    used += !loop.image->linked && store_of(loop.image->device) == device ? loop.image->allocated : 0;
  }
  return used < store.total ? store.total - used : 0;
}

std::shared_ptr<FakeImage> FakeState::image(const ImageRef& ref) const {
  const auto found = std::ranges::find_if(
      images, [&](const std::shared_ptr<FakeImage>& image) { return image->directory == ref.directory && image->file == ref.file; });
  return found == images.end() ? nullptr : *found;
}

FakeImage& FakeState::volume(const std::string& volume_id) {
  for (const std::shared_ptr<FakeImage>& image : images) {
    if (image->volume_id == volume_id) {
      return *image;
    }
  }
  throw std::logic_error{"the fake node has no volume " + volume_id};
}

FakeImage& FakeState::add_image(const ImageRef& ref, std::uint64_t size) {
  images.push_back(std::make_shared<FakeImage>(FakeImage{.directory = ref.directory,
                                                         .file = ref.file,
                                                         .volume_id = ref.volume_id,
                                                         .device = pools.at(ref.directory).device,
                                                         .inode = next_inode++,
                                                         .size = size,
                                                         .content = {}}));
  return *images.back();
}

Result<FakeLoop*> FakeState::loop(const Device& wanted) {
  const std::optional<std::uint32_t> number = loop_number(wanted.path);
  const auto found = number ? loops.find(*number) : loops.end();
  if (found == loops.end()) {
    return make_error(ErrorCode::failed_precondition, wanted.path + ": no such device");
  }
  const Device now = device(found->first);
  if (now.number != wanted.number || now.diskseq != wanted.diskseq || now.backing_device != wanted.backing_device ||
      now.backing_inode != wanted.backing_inode) {
    return make_error(ErrorCode::failed_precondition, wanted.path + ": another device than was attached");
  }
  return &found->second;
}

Device FakeState::device(std::uint32_t number) const {
  const FakeLoop& loop = loops.at(number);
  return {.path = "/dev/loop" + std::to_string(number),
          .number = loop_device_number(number),
          .diskseq = loop.diskseq,
          .backing_device = loop.image->device,
          .backing_inode = loop.image->inode,
          .size = loop.size,
          .block_size = loop.block_size,
          .read_only = loop.read_only,
          .by_agent = loop.by_agent};
}

std::optional<Device> FakeState::device_of(const FakeImage& image) const {
  for (const auto& [number, loop] : loops) {
    if (loop.image.get() == &image) {
      return device(number);
    }
  }
  return std::nullopt;
}

void FakeState::sweep() {
  std::erase_if(loops, [](const auto& entry) {
    const FakeLoop& loop = entry.second;
    return loop.autoclear && !loop.held && loop.filesystem.expired();
  });
}

// --- paths ---

FakeView FakeState::view(const std::string& path) {
  FakeView view{.tree = &root, .key = trimmed(path)};
  for (FakeMount& mount : mounts) {
    const std::optional<std::string> rest = mount.mount_namespace == 0 ? beneath(path, mount.mount_point) : std::nullopt;
    // The innermost mount counts, and of several there the newest.
    if (rest && (view.mount == nullptr || mount.mount_point.size() >= view.mount->mount_point.size())) {
      view.mount = &mount;
      view.key = *rest;
      view.tree = mount.filesystem ? &mount.filesystem->tree() : nullptr;
    }
  }
  view.mount_root = view.mount != nullptr && view.key.empty();
  if (view.mount != nullptr && !view.mount->filesystem) {
    view.kind = view.key.empty() ? FileKind::block_device : FileKind::none;
    view.rdev = view.mount->rdev;
  } else if (const FakeEntry* entry = view.entry(); entry != nullptr) {
    view.kind = entry->kind;
  } else if (const std::optional<std::uint32_t> number = loop_number(path); number && view.mount == nullptr && loops.contains(*number)) {
    view.kind = FileKind::block_device;
    view.rdev = loop_device_number(*number);
  }
  return view;
}

FakeMount* FakeState::mount_at(const std::string& path) {
  const FakeView at = view(path);
  return at.mount_root ? at.mount : nullptr;
}

void FakeState::add_directory(const std::string& path) {
  const FakeView at = view(path);
  if (at.kind == FileKind::directory) {
    return;
  }
  if (at.tree == nullptr || at.kind != FileKind::none) {
    throw std::logic_error{"the fake node can't make the directory " + path};
  }
  for (std::string key = at.key; !key.empty(); key = parent_of(key)) {
    at.tree->try_emplace(key, FakeEntry{.kind = FileKind::directory, .mode = 0755});
  }
}

void FakeState::add_symlink(const std::string& path, const std::string& to) {
  const FakeView at = view(path);
  at.tree->insert_or_assign(at.key, FakeEntry{.kind = FileKind::symlink, .text = to, .mode = 0777});
}

int FakeState::write_file(const std::string& path, const std::string& text) {
  const FakeView at = view(path);
  if (at.mount != nullptr && at.mount->filesystem && at.mount->filesystem->broken) {
    return EIO;
  }
  if (at.mount != nullptr && (at.mount->attributes.read_only || (at.mount->filesystem && at.mount->filesystem->read_only))) {
    return EROFS;
  }
  const std::string directory = path.substr(0, path.rfind('/'));
  if (const ImageRef ref{.directory = directory, .file = path.substr(directory.size() + 1), .volume_id = {}};
      at.mount == nullptr && pools.contains(directory)) {
    const std::shared_ptr<FakeImage> old = image(ref);
    FakeImage& file = old ? *old : add_image(ref, text.size());
    file.size = std::max<std::uint64_t>(file.size, text.size());
    return 0;
  }
  if (at.tree == nullptr || at.key.empty() || (at.kind != FileKind::none && at.kind != FileKind::regular)) {
    return EISDIR;
  }
  const auto parent = at.tree->find(parent_of(at.key));
  if (parent == at.tree->end() || parent->second.kind != FileKind::directory) {
    return ENOENT;
  }
  (*at.tree)[at.key].text = text;
  return 0;
}

int FakeState::write_device(const std::string& path, const std::string& text) {
  const FakeView at = view(path);
  if (at.kind != FileKind::block_device) {
    return ENOTBLK;
  }
  for (auto& [number, loop] : loops) {
    if (loop_device_number(number) != at.rdev) {
      continue;
    }
    if (loop.read_only) {
      return EPERM;
    }
    if (FakeContent& content = loop.image->content; content.kind == FakeContent::Kind::blank) {
      content.kind = FakeContent::Kind::raw;
      content.raw_offset = raw_byte_offset;
    }
    loop.image->content.raw_text = text;
    return 0;
  }
  return ENXIO;
}

std::optional<std::string> FakeState::read_device(const std::string& path) {
  const FakeView at = view(path);
  for (const auto& [number, loop] : loops) {
    if (at.kind == FileKind::block_device && loop_device_number(number) == at.rdev) {
      return loop.image->content.raw_text;
    }
  }
  return std::nullopt;
}

std::optional<std::string> FakeState::read_file(const std::string& path) {
  const FakeView at = view(path);
  return at.kind == FileKind::regular ? std::optional{at.entry()->text} : std::nullopt;
}

// --- mounts ---

PathInfo FakeState::path_info(const FakeView& at) const {
  PathInfo info;
  info.kind = at.kind;
  info.mount_root = at.mount_root;
  if (at.kind == FileKind::none) {
    return info;
  }
  info.device = root_device;
  info.rdev = at.rdev;
  if (at.kind == FileKind::block_device) {
    info.device = devtmpfs_device;
  }
  if (at.mount != nullptr) {
    info.mount_id = at.mount->id;
    info.read_only = at.mount->attributes.read_only;
    if (const FakeSuperblock* filesystem = at.mount->filesystem.get(); filesystem != nullptr) {
      info.device = filesystem->broken ? filesystem->number : filesystem->device;
      info.broken = filesystem->broken;
      info.read_only |= filesystem->read_only;
      info.fs_uuid = filesystem->fs_type == "btrfs" && filesystem->image ? filesystem->image->content.uuid : "";
    }
  }
  return info;
}

bool FakeState::is_mount_of(const FakeView& at, const Expected& expected) const { return mount::matches(path_info(at), expected); }

FakeMount& FakeState::add_mount(const std::string& path, std::shared_ptr<FakeSuperblock> filesystem, const MountAttributes& attributes) {
  mounts.push_back(
      {.id = next_mount_id++, .mount_point = "/" + trimmed(path), .filesystem = std::move(filesystem), .attributes = attributes});
  return mounts.back();
}

std::uint64_t FakeState::anonymous_device() {
  constexpr std::uint32_t first = 30;
  return makedev(0, first + next_minor++);
}

void FakeState::mount_foreign(const std::string& path) {
  auto filesystem = std::make_shared<FakeSuperblock>(FakeSuperblock{.fs_type = "tmpfs", .device = anonymous_device()});
  filesystem->own_tree[""] = {.kind = FileKind::directory, .mode = 01777};
  add_mount(path, std::move(filesystem), {}).source = "tmpfs";
}

std::uint64_t FakeState::pin(const std::string& path, std::int64_t pid, const std::string& command) {
  const FakeMount* original = mount_at(path);
  if (original == nullptr) {
    throw std::logic_error{"the fake node has no mount to pin at " + path};
  }
  FakeMount copy = *original;
  copy.id = next_mount_id++;
  copy.mount_namespace = 4026532000U + copy.id;
  copy.open_files = 0;
  copy.pid = pid;
  copy.command = command;
  mounts.push_back(copy);
  return copy.mount_namespace;
}

void FakeState::unpin(std::uint64_t mount_namespace) {
  std::erase_if(mounts, [&](const FakeMount& mount) { return mount.mount_namespace == mount_namespace; });
  sweep();
}

void FakeState::power_loss(const std::function<bool()>& is_lost) {
  for (const auto& [volume_id, undos] : std::exchange(unsynced, {})) {
    for (const Undo& undo : undos) {
      if (is_lost()) {
        undo(*this);
      }
    }
  }
  mounts.clear();
  loops.clear();
  next_diskseq = 1;
  std::erase_if(root, [](const auto& entry) { return entry.first.starts_with("run/"); });
  // Disks are found in another order at the next boot.
  std::map<std::uint64_t, std::uint64_t> renamed;
  std::map<std::uint64_t, FakeStore> renamed_stores;
  for (const auto& [old_device, store] : stores) {
    renamed[old_device] = makedev(253, next_minor++);
    renamed_stores[renamed[old_device]] = store;
  }
  stores = std::move(renamed_stores);
  std::map<std::uint64_t, std::uint64_t> renamed_subvolumes;
  for (const auto& [old_device, store] : subvolumes) {
    renamed[old_device] = makedev(0, next_minor++);
    renamed_subvolumes[renamed[old_device]] = renamed.at(store);
  }
  subvolumes = std::move(renamed_subvolumes);
  for (auto& [directory, pool] : pools) {
    pool.device = renamed.at(pool.device);
  }
  for (const std::shared_ptr<FakeImage>& image : images) {
    image->device = renamed.at(image->device);
  }
}

}  // namespace ordinald::testing
