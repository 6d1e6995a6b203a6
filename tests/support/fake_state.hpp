#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "mount/result.hpp"
#include "mount/types.hpp"
#include "mount/unique_fd.hpp"

/// What FakeKernel knows of a node: pools, images, loops, filesystems, mounts and the paths around them. Plain data that a test may read
/// and bend as it likes; FakeNode (fake_kernel.hpp) owns one and guards it by a mutex. Sizes are bytes.
namespace ordinald::testing {

using mount::Device;
using mount::Expected;
using mount::FileKind;
using mount::ImageRef;
using mount::MountAttributes;
using mount::PathInfo;
using mount::Result;

/// A file, directory or symlink.
struct FakeEntry {
  FileKind kind = FileKind::regular;
  std::string text{};  ///< a file's content, or where a symlink leads
  std::uint32_t gid = 0;
  std::uint32_t mode = 0644;
};

/// A file system's tree. Keys are paths from its root, without a slash at either end; the root is "".
using FakeTree = std::map<std::string, FakeEntry>;

/// What an image's bytes mean.
struct FakeContent {
  enum class Kind : std::uint8_t {
    blank,
    filesystem,
    foreign,  ///< another signature than a filesystem's: LUKS, swap, a partition table …
    raw,      ///< bytes that are no signature
  };
  Kind kind = Kind::blank;
  std::string usage{};  ///< libblkid's word, where there is a signature
  std::string type{};
  std::string uuid{};
  std::uint64_t size = 0;        ///< the filesystem's, by its superblock
  bool half_made = false;        ///< its mkfs died in between
  bool damaged = false;          ///< needs a person's repair
  bool left_out = false;         ///< ext4: a check could not write its undo file, and went on: only e2undo mends that
  bool torn = false;             ///< ext4: a tool died while it wrote the superblock
  std::uint32_t mounts = 0;      ///< ext4: how often it was mounted for writing
  bool checked = true;           ///< ext4: wholly checked since it was last mounted, as resize2fs wants it
  std::uint64_t raw_offset = 0;  ///< where raw's one byte is
  std::string raw_text{};        ///< what write_device wrote
  FakeTree tree{};               ///< the files in the filesystem
};

/// An inode in a pool's directory.
struct FakeImage {
  std::string directory{};
  std::string file{};
  std::string volume_id{};  ///< the attribute; empty: a file that isn't ours
  std::string label{};      ///< the other attribute
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  std::uint64_t size = 0;
  std::uint64_t allocated = 0;
  bool linked = true;  ///< false once unlinked, while a loop still holds it
  int read_errno = 0;  ///< what a read of its data fails with
  FakeContent content{};
};

/// A pool's directory. Pools with the same `device` share one file system.
struct FakePool {
  std::uint64_t device = 0;
  bool read_only = false;
  std::string mark{};                          ///< the directory's
  std::shared_ptr<mount::UniqueFd> to_lock{};  ///< what stands for its directory where that is locked
};

/// A file system that pools lie on.
struct FakeStore {
  std::uint64_t total = 0;
  std::uint64_t used_by_others = 0;
  std::uint64_t inodes = 0;
  std::uint64_t inodes_free = 0;
};

/// A filesystem that is mounted somewhere. Lives as long as one mount in any namespace holds it.
struct FakeSuperblock {
  std::string fs_type{};
  std::shared_ptr<FakeImage> image{};  ///< none: not of a device of ours (tmpfs)
  std::uint64_t number = 0;            ///< of its device
  std::uint64_t device = 0;            ///< st_dev: the same, of btrfs an anonymous one
  bool read_only = false;              ///< set itself read-only after an error
  bool broken = false;                 ///< answers EIO
  FakeTree own_tree{};                 ///< where there is no image
  FakeTree& tree() { return image ? image->content.tree : own_tree; }
};

struct FakeLoop {
  std::shared_ptr<FakeImage> image{};
  std::uint64_t diskseq = 0;
  std::uint64_t size = 0;  ///< as of attach or the last refresh
  std::uint32_t block_size = 0;
  bool read_only = false;
  bool takes_discard = true;
  bool autoclear = false;                      ///< goes with its last user
  bool by_agent = false;                       ///< attached by an agent
  bool held = false;                           ///< some process has it open O_EXCL
  std::weak_ptr<FakeSuperblock> filesystem{};  ///< expired: nothing alive on it
};

struct FakeMount {
  std::uint64_t id = 0;
  std::uint64_t mount_namespace = 0;  ///< 0 is the agent's own
  std::string mount_point{};
  std::shared_ptr<FakeSuperblock> filesystem{};  ///< none: a device's node bound over a file
  std::uint64_t rdev = 0;                        ///< of that node
  std::string source{};                          ///< /dev/loopN
  std::string root = "/";                        ///< what of the filesystem the mount table shows; paths lead to all of it even so
  MountAttributes attributes{};
  int open_files = 0;
  std::int64_t pid = 0;  ///< the lowest process of another namespace, and its name
  std::string command{};
};

/// A process of a workload, in a control group.
struct FakeProcess {
  std::string cgroup{};  ///< the group's name
  std::int64_t pid = 0;  ///< 0: of another pid namespace
  std::string command{};
  std::uint64_t mount_namespace = 0;  ///< what is mounted there it has; in 0 it has nothing
};

/// What is at a path, through the mounts over it.
struct FakeView {
  FileKind kind = FileKind::none;
  FakeMount* mount = nullptr;  ///< that it lies in; none: the node's root file system
  FakeTree* tree = nullptr;
  std::string key;  ///< in the tree
  bool mount_root = false;
  std::uint64_t rdev = 0;
  [[nodiscard]] FakeEntry* entry() const;
};

struct FakeState {
  /// Takes back an act that a verb has done and not made durable yet.
  using Undo = std::function<void(FakeState&)>;
  std::map<std::string, std::vector<Undo>> unsynced;  ///< by volume id: a power loss may undo each of these, or not
  std::map<std::string, FakePool> pools;              ///< by directory
  std::map<std::uint64_t, FakeStore> stores;          ///< by st_dev
  std::map<std::uint64_t, std::uint64_t> subvolumes;  ///< of btrfs: the st_dev of each, and its store's
  std::vector<std::shared_ptr<FakeImage>> images;     ///< the linked ones
  std::map<std::uint32_t, FakeLoop> loops;            ///< by the number in /dev/loopN
  std::vector<FakeMount> mounts;                      ///< oldest first: of those at one path the last is on top
  std::vector<FakeProcess> processes;
  FakeTree root{{"", {.kind = FileKind::directory, .mode = 0755}}};  ///< the node's root file system
  std::map<std::string, mount::ToolOutcome> tool_results;            ///< by program's base name: answered instead of doing its work
  std::optional<int> undo_is_full;                                   ///< with which status e2fsck ends then
  std::map<std::string, std::string> hung;                           ///< volume id → what to say
  std::int64_t staging_age = 3600;                                   ///< of each staging place
  bool can_grow_mounted_ext4 = true;                                 ///< CAP_SYS_RESOURCE
  bool sees_groups = true;                                           ///< the host's control groups are mounted
  bool sees_processes = true;                                        ///< its pid namespace is the host's
  std::uint64_t next_inode = 12;
  std::uint64_t next_diskseq = 1;
  std::uint64_t next_mount_id = 30;
  std::uint32_t next_minor = 1;  ///< for file systems without a device of ours

  /// A pool's directory (made with its parents) of so many bytes; with `device`, on the file system of the pool that has that device.
  std::uint64_t add_pool(const std::string& directory, std::uint64_t total, std::optional<std::uint64_t> device = std::nullopt);
  /// A pool on a btrfs subvolume of the file system that has that device: its own is another one.
  std::uint64_t add_pool_on_subvolume(const std::string& directory, std::uint64_t device);
  /// The device of the whole file system.
  [[nodiscard]] std::uint64_t store_of(std::uint64_t device) const {
    const auto found = subvolumes.find(device);
    return found == subvolumes.end() ? device : found->second;
  }
  [[nodiscard]] std::uint64_t free_bytes(std::uint64_t device) const;

  std::shared_ptr<FakeImage> image(const ImageRef& ref) const;
  /// As `image`, of a volume that must exist (a test's mistake throws).
  FakeImage& volume(const std::string& volume_id);
  /// A new file in a pool. An empty volume id makes a foreign one.
  FakeImage& add_image(const ImageRef& ref, std::uint64_t size);

  /// The loop that a Device means. failed_precondition: another, or none.
  Result<FakeLoop*> loop(const Device& device);
  [[nodiscard]] Device device(std::uint32_t number) const;
  std::optional<Device> device_of(const FakeImage& image) const;
  /// Detaches what is autoclear and has no user left.
  void sweep();

  /// A directory with all its parents, in what is mounted there.
  void add_directory(const std::string& path);
  void add_symlink(const std::string& path, const std::string& to);
  /// errno, 0 when written: EROFS, ENOENT (no parent), EIO. A file in a pool becomes a foreign image.
  int write_file(const std::string& path, const std::string& text);
  /// Writes a byte to a device node or a block target: errno, 0 when written.
  int write_device(const std::string& path, const std::string& text = "x");
  std::optional<std::string> read_device(const std::string& path);
  std::optional<std::string> read_file(const std::string& path);
  FakeView view(const std::string& path);
  FakeMount* mount_at(const std::string& path);

  PathInfo path_info(const FakeView& view) const;
  [[nodiscard]] bool is_mount_of(const FakeView& view, const Expected& expected) const;
  FakeMount& add_mount(const std::string& path, std::shared_ptr<FakeSuperblock> filesystem, const MountAttributes& attributes);
  /// The st_dev of a file system that lies on no one device.
  std::uint64_t anonymous_device();
  /// A tmpfs, by somebody else.
  void mount_foreign(const std::string& path);
  /// Keeps what is mounted at the path alive in another mount namespace; answers its number, for unpin.
  std::uint64_t pin(const std::string& path, std::int64_t pid, const std::string& command);
  void unpin(std::uint64_t mount_namespace);

  /// What a boot leaves: files in pools and on the root file system. Gone: loops, mounts, whatever is under /run, and what is not durable
  /// yet where `is_lost` says so; st_dev numbers change.
  void power_loss(const std::function<bool()>& is_lost = [] { return false; });
};

/// makedev(7, n), and back.
std::uint64_t loop_device_number(std::uint32_t number);
/// N of /dev/loopN.
std::optional<std::uint32_t> loop_number(const std::string& path);

}  // namespace ordinald::testing
