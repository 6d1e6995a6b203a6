// FakeKernel's verbs about mounts and paths.
#include <algorithm>
#include <cerrno>
#include <limits>

#include "tests/support/fake_kernel.hpp"

namespace ordinald::testing {

using mount::BindRequest;
using mount::errno_error;
using mount::ErrorCode;
using mount::FilesystemUsage;
using mount::GrowRequest;
using mount::make_error;
using mount::MountEntry;
using mount::MountRequest;
using mount::Pin;
using mount::success;
using mount::TargetKind;
using mount::UnmountRequest;

namespace {

constexpr std::uint64_t inodes_of_a_filesystem = 65536;
constexpr std::uint32_t group_file = 0060;
constexpr std::uint32_t group_directory = 02070;

std::string parent_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return slash == 0 ? "/" : path.substr(0, slash);
}

/// Whether the filesystem knows the option, by what is before its `=`.
bool knows_option(const std::string& fs_type, const std::string& option) {
  static const std::map<std::string, std::vector<std::string_view>> known{
      {"ext4",
       {"discard", "nodiscard", "errors", "data", "commit", "barrier", "nobarrier", "noload", "norecovery", "journal_checksum", "acl"}},
      {"xfs",
       {"discard", "nodiscard", "nouuid", "norecovery", "inode64", "logbufs", "logbsize", "allocsize", "largeio", "noquota", "prjquota"}},
      {"btrfs",
       {"discard", "nodiscard", "compress", "compress-force", "ssd", "nossd", "commit", "autodefrag", "space_cache", "flushoncommit"}},
  };
  const auto options = known.find(fs_type);
  return options != known.end() && std::ranges::count(options->second, option.substr(0, option.find('='))) > 0;
}

/// What would keep a target from being mounted on. `existing`: ours is there already.
Result<bool> check_target(FakeState& state, const std::string& target, const Expected& expected, const MountAttributes& attributes,
                          FileKind kind) {
  const FakeView at = state.view(target);
  if (at.kind == FileKind::symlink) {
    return make_error(ErrorCode::failed_precondition, target + " is a symlink");
  }
  if (at.mount_root) {
    if (!state.is_mount_of(at, expected)) {
      return make_error(ErrorCode::failed_precondition, target + " is a mount of something else");
    }
    if (at.mount->attributes != attributes) {
      return make_error(ErrorCode::failed_precondition, target + " is mounted already, with other flags of the mount point");
    }
    return true;
  }
  if (at.kind == FileKind::none) {
    const FakeView parent = state.view(parent_of(target));
    if (parent.kind != FileKind::directory) {
      return errno_error(ErrorCode::failed_precondition, ENOENT, "the parent of " + target);
    }
    (*at.tree)[at.key] = {.kind = kind, .mode = kind == FileKind::directory ? 0750U : 0640U};
    return false;
  }
  if (at.kind != kind) {
    return make_error(ErrorCode::failed_precondition, target + " is no " + (kind == FileKind::directory ? "directory" : "regular file"));
  }
  return false;
}

/// Why the filesystem on the loop can't be mounted; success when it can.
Result<void> check_filesystem(const FakeState& state, const FakeLoop& loop, const MountRequest& request) {
  const FakeContent& content = loop.image->content;
  const std::string what = "mounting " + request.device.path + " as " + request.fs_type;
  const auto refuse = [&](const std::string& why) { return make_error(ErrorCode::failed_precondition, what + ": " + why); };
  if (loop.image->read_errno != 0) {
    return errno_error(loop.image->read_errno, what);
  }
  if (content.kind != FakeContent::Kind::filesystem || content.type != request.fs_type) {
    return refuse("wrong filesystem type or bad superblock");
  }
  if (content.damaged || content.half_made) {
    return refuse("the filesystem needs repair");
  }
  if (loop.read_only && loop.filesystem.expired()) {
    return refuse("the device is read-only");
  }
  for (const auto& [number, other] : state.loops) {
    if (content.type == "xfs" && other.image != loop.image && !other.filesystem.expired() && other.image->content.uuid == content.uuid) {
      return refuse("a filesystem with the same UUID is mounted");
    }
  }
  return success();
}

bool is_beneath(const std::string& path, const std::string& directory) { return path.starts_with(directory + "/"); }

bool is_busy(const FakeState& state, const FakeMount& mount) {
  return mount.open_files > 0 || std::ranges::any_of(state.mounts, [&](const FakeMount& other) {
           return other.mount_namespace == 0 && other.id > mount.id && is_beneath(other.mount_point, mount.mount_point);
         });
}

Result<void> remove_path(FakeState& state, const std::string& path) {
  const FakeView at = state.view(path);
  if (at.kind == FileKind::none) {
    return success();
  }
  if (at.kind == FileKind::directory) {
    const bool empty = std::ranges::none_of(*at.tree, [&](const auto& entry) { return is_beneath(entry.first, at.key); });
    if (!empty) {
      return errno_error(ErrorCode::failed_precondition, ENOTEMPTY, "removing " + path);
    }
  } else if (at.kind != FileKind::regular || !at.entry()->text.empty()) {
    return make_error(ErrorCode::failed_precondition, path + " is not an empty file: left as it is");
  }
  at.tree->erase(at.key);
  // As rmdir(2) and unlink(2) do: a mount that another namespace has there is let go of.
  std::erase_if(state.mounts, [&](const FakeMount& mount) { return mount.mount_point == path; });
  state.sweep();
  return success();
}

/// What is mounted at the path, as expected.
Result<FakeView> expect_mount(FakeState& state, const std::string& path, const Expected& expected) {
  FakeView at = state.view(path);
  if (!state.is_mount_of(at, expected)) {
    return make_error(ErrorCode::failed_precondition, path + " is not a mount of what is expected there");
  }
  return at;
}

std::string option_text(const MountAttributes& attributes) {
  std::string text = attributes.read_only ? "ro" : "rw";
  text += attributes.no_suid ? ",nosuid" : "";
  text += attributes.no_dev ? ",nodev" : "";
  text += attributes.no_exec ? ",noexec" : "";
  text += attributes.atime == mount::AccessTime::noatime ? ",noatime" : "";
  text += attributes.no_dir_atime ? ",nodiratime" : "";
  text += attributes.atime == mount::AccessTime::relatime ? ",relatime" : "";
  return text;
}

}  // namespace

Result<PathInfo> FakeKernel::mount_filesystem(const MountRequest& request) {
  return act("mount_filesystem", [&](FakeState& state) -> Result<PathInfo> {
    TRY(FakeLoop * loop, state.loop(request.device));
    const Expected expected{.number = request.device.number, .fs_type = request.fs_type, .uuid = request.uuid};
    for (std::size_t i = 0; i < request.options.size(); ++i) {
      if (!knows_option(request.fs_type, request.options[i])) {
        const std::uint32_t place = request.option_places[i];
        const bool own = place == std::numeric_limits<std::uint32_t>::max();
        const std::string which = own ? "one of the agent's own options" : "mount_flags[" + std::to_string(place) + "]";
        return errno_error(ErrorCode::invalid_argument, EINVAL, request.fs_type + " does not know " + which);
      }
    }
    TRYV(check_filesystem(state, *loop, request));
    TRY(const bool there, check_target(state, request.target, expected, request.attributes, FileKind::directory));
    if (there) {
      return state.path_info(state.view(request.target));
    }
    std::shared_ptr<FakeSuperblock> filesystem = loop->filesystem.lock();
    if (!filesystem) {
      filesystem = std::make_shared<FakeSuperblock>(
          FakeSuperblock{.fs_type = request.fs_type,
                         .image = loop->image,
                         .number = request.device.number,
                         .device = request.fs_type == "btrfs" ? state.anonymous_device() : request.device.number,
                         .own_tree = {}});
      loop->filesystem = filesystem;
      loop->image->content.checked = false;
      ++loop->image->content.mounts;
    }
    state.add_mount(request.target, filesystem, request.attributes).source = request.device.path;
    return state.path_info(state.view(request.target));
  });
}

Result<PathInfo> FakeKernel::bind(const BindRequest& request) {
  const bool block = request.kind == TargetKind::file;
  const FileKind kind = block ? FileKind::regular : FileKind::directory;
  const auto is_expected = [&](FakeState& state) {
    const FakeView source = state.view(request.source);
    return request.expected.fs_type.empty() ? source.kind == FileKind::block_device && source.rdev == request.expected.number
                                            : state.is_mount_of(source, request.expected);
  };
  TRYV(node_.pass("bind", volume_id_));
  TRYV(half("bind", [&](FakeState& state) {
    const bool fresh = state.view(request.target).kind == FileKind::none;
    return fresh && is_expected(state) && check_target(state, request.target, request.expected, request.attributes, kind);
  }));
  auto bound = node_.with([&](FakeState& state) -> Result<PathInfo> {
    if (!is_expected(state)) {
      return make_error(ErrorCode::failed_precondition, request.source + " is not what was staged there");
    }
    const FakeView source = state.view(request.source);
    const std::shared_ptr<FakeSuperblock> filesystem = source.mount != nullptr ? source.mount->filesystem : nullptr;
    const std::string device_path = source.mount != nullptr ? source.mount->source : request.source;
    TRY(const bool there, check_target(state, request.target, request.expected, request.attributes, kind));
    if (!there) {
      FakeMount& made = state.add_mount(request.target, filesystem, request.attributes);
      made.rdev = source.rdev;
      made.source = device_path;
    }
    return state.path_info(state.view(request.target));
  });
  if (bound) {
    TRYV(node_.pass("bind.done", volume_id_));
  }
  return bound;
}

Result<void> FakeKernel::unmount(const UnmountRequest& request) {
  TRYV(node_.pass("unmount", volume_id_));
  bool unmounted = false;
  auto done = node_.with([&](FakeState& state) -> Result<void> {
    while (const FakeMount* mount = state.mount_at(request.path)) {
      if (!state.is_mount_of(state.view(request.path), request.expected)) {
        return make_error(ErrorCode::failed_precondition, request.path + " is a mount of something else: left as it is");
      }
      if (is_busy(state, *mount)) {
        return errno_error(ErrorCode::failed_precondition, EBUSY, "unmounting " + request.path);
      }
      std::erase_if(state.mounts, [id = mount->id](const FakeMount& each) { return each.id == id; });
      state.sweep();
      unmounted = true;
    }
    return success();
  });
  TRYV(std::move(done));
  if (request.remove) {
    TRYV(half("unmount", [&](FakeState& /*state*/) { return unmounted; }));
    TRYV(node_.with([&](FakeState& state) { return remove_path(state, request.path); }));
  }
  return node_.pass("unmount.done", volume_id_);
}

Result<PathInfo> FakeKernel::inspect_path(const std::string& path) {
  return act("inspect_path", [&](FakeState& state) -> Result<PathInfo> { return state.path_info(state.view(path)); });
}

Result<std::vector<MountEntry>> FakeKernel::mount_table() {
  return act("mount_table", [&](FakeState& state) -> Result<std::vector<MountEntry>> {
    constexpr std::uint64_t root_id = 1;
    std::vector<MountEntry> table{{.id = root_id,
                                   .parent = root_id,
                                   .device = state.path_info(state.view("/")).device,
                                   .root = "/",
                                   .mount_point = "/",
                                   .options = "rw,relatime",
                                   .fs_type = "ext4",
                                   .source = "/dev/root",
                                   .super_options = "rw"}};
    for (const FakeMount& mount : state.mounts) {
      if (mount.mount_namespace != 0) {
        continue;
      }
      MountEntry entry;
      entry.id = mount.id;
      entry.parent = root_id;
      entry.root = mount.root;
      entry.mount_point = mount.mount_point;
      entry.source = mount.source;
      for (const MountEntry& other : table) {
        if (other.mount_point == mount.mount_point || is_beneath(mount.mount_point, other.mount_point)) {
          entry.parent = other.id;
        }
      }
      entry.options = option_text(mount.attributes);
      if (mount.filesystem) {
        entry.device = mount.filesystem->device;
        entry.fs_type = mount.filesystem->fs_type;
        entry.super_options = mount.filesystem->read_only ? "ro" : "rw";
      } else {
        entry.device = state.path_info(state.view(mount.mount_point)).device;
        entry.root = mount.source.substr(mount.source.rfind('/'));
        entry.fs_type = "devtmpfs";
        entry.source = "devtmpfs";
        entry.super_options = "rw";
      }
      table.push_back(entry);
    }
    return table;
  });
}

Result<FilesystemUsage> FakeKernel::usage(const std::string& path, const Expected& expected) {
  return act("usage", [&](FakeState& state) -> Result<FilesystemUsage> {
    TRY(const FakeView at, expect_mount(state, path, expected));
    if (!at.mount->filesystem || at.mount->filesystem->broken) {
      return errno_error(EIO, "statvfs of " + path);
    }
    FilesystemUsage usage{.total = at.mount->filesystem->image->content.size, .inodes = inodes_of_a_filesystem};
    for (const auto& [key, entry] : *at.tree) {
      usage.used += entry.text.size();
      ++usage.inodes_used;
    }
    usage.available = usage.total - std::min(usage.total, usage.used);
    usage.inodes_free = usage.inodes - usage.inodes_used;
    return usage;
  });
}

Result<std::uint64_t> FakeKernel::grow_filesystem(const GrowRequest& request) {
  // Durable as it is done: the kernel commits it within the call, which nothing cuts short.
  return act("grow_filesystem", [&](FakeState& state) -> Result<std::uint64_t> {
    TRY(const FakeLoop* loop, state.loop(request.device));
    const FakeView at = state.view(request.path);
    const std::shared_ptr<FakeSuperblock> filesystem = loop->filesystem.lock();
    if (!at.mount_root || !filesystem || at.mount->filesystem != filesystem || filesystem->fs_type != request.fs_type) {
      return make_error(ErrorCode::failed_precondition, request.path + " is not a mount of " + request.device.path);
    }
    FakeContent& content = loop->image->content;
    if (content.size >= loop->size) {
      return content.size;
    }
    if (state.path_info(at).read_only) {
      return errno_error(ErrorCode::failed_precondition, EROFS, "growing what is mounted for reading only at " + request.path);
    }
    if (request.fs_type == "ext4" && !state.can_grow_mounted_ext4) {
      return errno_error(ErrorCode::failed_precondition, EPERM, "growing ext4 on " + request.device.path + " while it is mounted");
    }
    content.size = loop->size;
    return content.size;
  });
}

Result<void> FakeKernel::apply_group(const std::string& path, const Expected& expected, std::uint32_t gid) {
  return act("apply_group", [&](FakeState& state) -> Result<void> {
    TRY(const FakeView at, expect_mount(state, path, expected));
    if (state.path_info(at).read_only) {
      return errno_error(EROFS, "the group of " + path);
    }
    if (const FakeEntry* root = at.entry(); root != nullptr && root->gid == gid && (root->mode & group_directory) == group_directory) {
      return success();
    }
    for (auto& [key, entry] : *at.tree) {
      if (entry.kind == FileKind::symlink) {
        continue;
      }
      entry.gid = gid;
      const bool executable = (entry.mode & 0111U) != 0;
      entry.mode |= entry.kind == FileKind::directory ? group_directory : group_file | (executable ? 0010U : 0U);
    }
    return success();
  });
}

Result<std::vector<Pin>> FakeKernel::pins(const Device& device) {
  return act("pins", [&](FakeState& state) -> Result<std::vector<Pin>> {
    std::vector<Pin> found;
    for (const FakeMount& mount : state.mounts) {
      if (mount.mount_namespace != 0 && mount.filesystem && mount.filesystem->image &&
          mount.filesystem->image->inode == device.backing_inode) {
        found.push_back(
            {.pid = mount.pid, .command = mount.command, .mount_point = mount.mount_point, .mount_namespace = mount.mount_namespace});
      }
    }
    return found;
  });
}

Result<mount::CgroupUsers> FakeKernel::cgroup_users(const mount::CgroupQuery& query) {
  return act("cgroup_users", [&](FakeState& state) -> Result<mount::CgroupUsers> {
    mount::CgroupUsers result{.visible = state.sees_groups};
    if (!state.sees_groups) {
      return result;
    }
    if (query.names.empty()) {
      result.unseen = state.sees_processes ? 0 : 1;
      return result;
    }
    for (const FakeProcess& process : state.processes) {
      const bool asked = std::ranges::any_of(query.names, [&](const std::string& name) {
        return name == "/" ? true : name.starts_with('*') ? process.cgroup.ends_with(name.substr(1)) : process.cgroup == name;
      });
      if (!asked) {
        continue;
      }
      result.found = true;
      if (process.pid == 0 || !state.sees_processes) {
        ++result.unseen;
        continue;
      }
      const std::size_t before = result.users.size();
      for (const FakeMount& mount : state.mounts) {
        const bool node = mount.rdev != 0 && mount.rdev == query.device.number;
        const bool filesystem = mount.filesystem && mount.filesystem->image && mount.filesystem->number == query.device.number;
        const bool copy = std::ranges::any_of(query.usual, [&](const std::string& usual) { return mount.mount_point.ends_with(usual); });
        if (!copy && process.mount_namespace != 0 && mount.mount_namespace == process.mount_namespace && (node || filesystem)) {
          result.users.push_back({.pid = process.pid,
                                  .command = process.command,
                                  .mount_point = mount.mount_point,
                                  .mount_namespace = process.mount_namespace});
          break;
        }
      }
      if (query.any && result.users.size() == before) {
        result.users.push_back({.pid = process.pid, .command = process.command, .mount_namespace = process.mount_namespace});
      }
    }
    return result;
  });
}

}  // namespace ordinald::testing
