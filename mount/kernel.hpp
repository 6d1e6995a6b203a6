#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mount/pool_lock.hpp"
#include "mount/result.hpp"
#include "mount/types.hpp"

namespace ordinald::mount {

/// The narrow seam to the kernel and to child programs. One verb is one intent, is safe to repeat, and leaves no descriptor open.
///
/// Implementations: LinuxKernel makes the system calls in the calling process; RemoteKernel asks a worker process to, with a
/// deadline; FakeKernel keeps a model in memory. ONE contract suite (tests/mount/kernel_contract.hpp) runs against all.
///
/// Threading: one object is used by one thread at a time.
/// Errors: each verb names those with a meaning; any other failure of a system call is `internal` (or `resource_exhausted`
/// for ENOSPC and its kin) with errno. RemoteKernel adds `unavailable`: no answer within the deadline, it may still be going on.
class Kernel {
 public:
  Kernel() = default;
  Kernel(const Kernel&) = delete;
  Kernel& operator=(const Kernel&) = delete;
  virtual ~Kernel() = default;

  // --- images (open(2) beneath the directory, never through a symlink) ---

  /// Makes the image under a temporary name, durable (fsync of file and directory) and marked with the volume's id and label before it gets
  /// its own. One that exists already with the same volume id is grown to the size if it is smaller, and is never shrunk. already_exists: a
  /// file of that name that isn't this volume's.
  virtual Result<ImageInfo> create_image(const ImageSpec& spec) = 0;
  /// nullopt: no such file. not_found: the directory itself is missing. failed_precondition: not a regular file.
  virtual Result<std::optional<ImageInfo>> inspect_image(const ImageRef& image) = 0;
  /// Grows the image to at least the size; for thick, allocates every hole (again). Never shrinks. Durable.
  /// not_found: no image. failed_precondition: it isn't this volume's.
  virtual Result<ImageInfo> resize_image(const ImageSpec& spec) = 0;
  /// Puts another label in the place of the image's, durable; a crash leaves the one, the other, or none. One that its file system has no
  /// room for is left out, and the old one is gone all the same. not_found: no image. failed_precondition: it isn't this volume's.
  virtual Result<void> relabel_image(const ImageSpec& spec) = 0;
  /// Makes a file the volume's image: it becomes root's alone (0600) and gets mark and label, durable; then it is moved into the directory,
  /// durable. None of its bytes is touched, and at each moment it has one of its two names. There already, with this volume's mark:
  /// success. already_exists: a file of the image's name that isn't this volume's. not_found: no file and no image. failed_precondition:
  /// not the file that was surveyed, or it has other names, is used by anybody, or is not on the directory's file system (errno EXDEV).
  virtual Result<ImageInfo> adopt_image(const AdoptRequest& request) = 0;
  /// Unlinks it, and fsyncs the directory. No such file is success. failed_precondition: not this volume's.
  virtual Result<void> remove_image(const ImageRef& image) = 0;
  /// The pool's directory, opened to be locked (pool_lock.hpp). not_found: it is missing.
  virtual Result<PoolDirectory> open_pool(const std::string& directory) = 0;
  /// Marks the directory, durable, where it has no mark yet; answers the one that it has then. not_found: it is missing.
  virtual Result<std::string> mark_pool(const std::string& directory, const std::string& mark) = 0;
  /// The directory's file system and every regular `*.img` in it, and `.*.img.new`, which a creation that crashed has left; what of them
  /// can't be looked at, with why. not_found: the directory is missing.
  virtual Result<PoolUsage> inspect_pool(const std::string& directory) = 0;

  // --- devices ---

  /// The loop device of the image: the one that it has already, autoclear or not, else a new one (loop(4), LOOP_CONFIGURE; without
  /// autoclear; direct I/O where the file system below allows it). The image's attribute must name the volume. not_found: no image.
  /// failed_precondition: not this volume's, or attached with another block size.
  virtual Result<Device> attach(const ImageRef& image, std::uint32_t block_size) = 0;
  /// The loop device that the image has now, or none. Of an image that is gone, by sysfs's "(deleted)" name.
  virtual Result<std::optional<Device>> find_attached(const ImageRef& image) = 0;
  /// Every loop device that has a file, as sysfs shows it: opens none, and so waits for none.
  virtual Result<std::vector<LoopEntry>> loops() = 0;
  /// Takes the loop away; success only once sysfs says that it is gone (or the number has another diskseq).
  /// failed_precondition: something still uses it.
  virtual Result<void> detach(const Device& device) = 0;
  /// Device as it is now: size, flags. not_found: gone (no such device, or another diskseq or backing file).
  virtual Result<Device> inspect_device(const Device& device) = 0;
  /// Sets the device's own read-only flag (BLKROSET).
  virtual Result<void> set_device_read_only(const Device& device, bool read_only) = 0;
  /// From now on the device takes no discard, so that nobody gives blocks of its image away by it (queue/discard_max_bytes in sysfs). It
  /// ends with the attachment.
  virtual Result<void> refuse_discard(const Device& device) = 0;
  /// Makes the device as large as its image is now (LOOP_SET_CAPACITY).
  virtual Result<Device> refresh_device_size(const Device& device) = 0;
  /// Looks for every kind of signature on the device, opened O_EXCL, and proves blankness as asked. Any failed read is an error.
  virtual Result<Probe> probe(const ProbeRequest& request) = 0;
  /// Empties the device on a descriptor opened O_EXCL: BLKDISCARD, or for thick BLKZEROOUT without unmapping; then fsync.
  /// failed_precondition: busy.
  virtual Result<void> erase(const Device& device, bool thick) = 0;

  /// Looks at a file or block device and, where nobody uses it and it holds one filesystem of ours, into that: read-only, without recovery,
  /// in a mount that is nowhere. Changes nothing, and leaves nothing behind when it is killed. not_found: no such path.
  virtual Result<Survey> survey(const std::string& path) = 0;

  // --- mounts ---

  /// Mounts by the new mount API. invalid_argument: the kernel refuses an option (named by place, `mount_flags[2]`, never by its text).
  /// failed_precondition: the filesystem can't be mounted as it is (needs repair, duplicate UUID), or the target is a mount already or a
  /// symlink, or its parent is missing.
  virtual Result<PathInfo> mount_filesystem(const MountRequest& request) = 0;
  /// Makes the target and binds the source there, with its attributes from the first moment.
  /// failed_precondition: the source isn't what is expected, or the target is a symlink, of the other kind, or a mount already, or its
  /// parent is missing.
  virtual Result<PathInfo> bind(const BindRequest& request) = 0;
  /// Unmounts (plain, UMOUNT_NOFOLLOW) all that is stacked there and is as expected, then removes as asked. Not a mount, or nothing there,
  /// is success (and removes as asked). failed_precondition: busy for a quarter of a second (EBUSY), a mount of something else, a directory
  /// with content. After a write-back that was asked for and failed: its errno, with the unmount done, so that the next one is success.
  virtual Result<void> unmount(const UnmountRequest& request) = 0;
  virtual Result<PathInfo> inspect_path(const std::string& path) = 0;
  /// The mount table of this process's namespace.
  virtual Result<std::vector<MountEntry>> mount_table() = 0;
  /// Directories in this one that have a directory `globalmount` and a regular file `vol_data.json` of at most 4 KiB, by name. Looks
  /// neither at what is mounted at `globalmount` nor through symlinks. A directory that is missing has none.
  virtual Result<std::vector<StagingPlace>> staging_places(const std::string& directory) = 0;
  /// statvfs(3) of what is mounted at the path. failed_precondition: not a mount of what is expected.
  virtual Result<FilesystemUsage> usage(const std::string& path, const Expected& expected) = 0;
  /// Grows a mounted filesystem to its device: EXT4_IOC_RESIZE_FS, XFS_IOC_FSGROWFSDATA, BTRFS_IOC_RESIZE. Answers its size afterwards;
  /// already as large is success. failed_precondition: EPERM: ext4 without CAP_SYS_RESOURCE, or with errors; EROFS: mounted read-only.
  virtual Result<std::uint64_t> grow_filesystem(const GrowRequest& request) = 0;
  /// Group, g+rwX, and setgid on directories, for all beneath the path when its root lacks them; the root last. Never through a symlink,
  /// never to another filesystem; files' setuid, setgid and capabilities survive the chown. CSI: volume_mount_group.
  virtual Result<void> apply_group(const std::string& path, const Expected& expected, std::uint32_t gid) = 0;
  /// The other mount namespaces in which the filesystem of this device is mounted (/proc/*/mountinfo).
  virtual Result<std::vector<Pin>> pins(const Device& device) = 0;

  /// Processes of the control groups that have the device or its filesystem mounted (in a mount namespace of their own) or open. Finds
  /// the groups by name, and reads of /proc only what is theirs. Waits for no device. Asked for no name it answers what the agent can see
  /// at all: `visible`, and `unseen` when the host's processes are not its own too.
  virtual Result<CgroupUsers> cgroup_users(const CgroupQuery& query) = 0;

  // --- programs ---

  /// Runs a tool to its end or its deadline, without a device where its number is 0. internal: it could not be started.
  virtual Result<ToolOutcome> run_tool(const ToolRequest& request) = 0;
};

/// Where a call gets the kernel for the volume it works on. Thread safe.
class KernelSource {
 public:
  KernelSource() = default;
  KernelSource(const KernelSource&) = delete;
  KernelSource& operator=(const KernelSource&) = delete;
  virtual ~KernelSource() = default;

  /// A kernel for work on one volume (or, with a name like "pool:fast", on one pool). unavailable: an earlier call's worker, or one of an
  /// agent that was killed, still hangs in this volume; the message says which and since when.
  virtual Result<std::unique_ptr<Kernel>> for_volume(std::string_view volume_id) = 0;
};

}  // namespace ordinald::mount
