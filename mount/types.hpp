#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

/// The plain structs that pass the seam (kernel.hpp). Each lists its members once in `fields`, which carries it between processes
/// (archive.hpp). Sizes are bytes. Device numbers are `makedev(3)` values.
namespace ordinald::mount {

/// One volume's image: a regular file directly beneath a pool's directory.
struct ImageRef {
  std::string directory{};  ///< absolute
  std::string file{};       ///< a name without a slash
  std::string volume_id{};  ///< what the image's `trusted.ordinald.volume` attribute must say
  void fields(auto& f) { f(directory, file, volume_id); }
};

struct ImageSpec {
  ImageRef image{};
  std::uint64_t size = 0;
  bool thick = false;   ///< every block allocated by fallocate(2)
  std::string label{};  ///< kept with a new image, where its file system has room for it: what the volume was made as
  void fields(auto& f) { f(image, size, thick, label); }
};

struct ImageInfo {
  std::uint64_t size = 0;
  std::uint64_t allocated = 0;
  std::uint64_t device = 0;  ///< st_dev: holds within one boot only
  std::uint64_t inode = 0;
  std::string volume_id{};  ///< of the attribute; empty where there is none
  std::string label{};      ///< inspect_image only: as it was made with
  void fields(auto& f) { f(size, allocated, device, inode, volume_id, label); }
};

enum class FileKind : std::uint8_t { none, directory, regular, block_device, symlink, other };

/// One thing that libblkid found.
struct Signature {
  std::string usage{};  ///< filesystem, raid, crypto, other, or partition-table
  std::string type{};   ///< ext4, xfs, LVM2_member, crypto_LUKS, gpt …
  std::string uuid{};
  std::string label{};
  void fields(auto& f) { f(usage, type, uuid, label); }
};

/// What may become a volume: a file or block device, as it is found, and what it holds.
struct Survey {
  FileKind kind =
      FileKind::none;  ///< of the path itself: through no symlink. Of other kinds than a file or block device nothing else is known
  std::uint64_t size = 0;
  std::uint64_t allocated = 0;
  std::uint64_t device = 0;  ///< st_dev; holds within one boot only
  std::uint64_t inode = 0;
  std::uint64_t links = 0;  ///< its names
  std::string volume_id{};  ///< of its attributes, as an image has them
  std::string label{};
  std::string backing{};  ///< of a loop device: the file that it stands on, by sysfs
  std::string in_use{};   ///< who has it, for a person; empty: nobody
  std::vector<Signature> signatures{};
  std::uint64_t filesystem_size = 0;  ///< as in Probe
  std::uint32_t block_size = 0;       ///< the largest of a device's blocks, of 512 and 4096, with which it can be mounted
  bool outside_journal = false;       ///< of an ext4 or xfs: its journal is on another device
  std::string problem{};              ///< why what it holds could not be mounted and read; empty where it could, or was not tried
  std::uint64_t total = 0, used = 0;  ///< of the filesystem, by statvfs(3)
  std::vector<std::string> names{};   ///< what lies at its top, in order; at most `most_names`
  std::uint64_t name_count = 0;       ///< how many there are
  static constexpr std::size_t most_names = 50;
  void fields(auto& f) {
    f(kind, size, allocated, device, inode, links, volume_id, label, backing, in_use, signatures, filesystem_size, block_size,
      outside_journal, problem, total, used, names, name_count);
  }
};

/// A file that becomes a volume's image.
struct AdoptRequest {
  std::string source{};                           ///< its path
  std::uint64_t device = 0, inode = 0, size = 0;  ///< as the survey found it
  ImageRef image{};
  std::string label{};
  void fields(auto& f) { f(source, device, inode, size, image, label); }
};

struct PoolImage {
  std::string file{};
  std::uint64_t size = 0;
  std::uint64_t allocated = 0;
  std::string volume_id{};  ///< of the attribute; empty where there is none (not ours)
  std::string trouble{};    ///< why it could not be looked at (a damaged inode); what else is said of it is not to be relied on
  void fields(auto& f) { f(file, size, allocated, volume_id, trouble); }
};

/// A pool's directory and the file system below it.
struct PoolUsage {
  std::uint64_t total = 0;
  std::uint64_t free = 0;    ///< to an unprivileged writer (f_bavail)
  std::uint64_t inodes = 0;  ///< in total; 0: it makes them as it needs them (btrfs), or does not say
  std::uint64_t inodes_free = 0;
  std::uint64_t device = 0;  ///< st_dev: of btrfs each subvolume has its own
  std::string filesystem{};  ///< which one it is, for comparing: where two are the same, they share their room
  bool read_only = false;
  std::string mark{};  ///< the directory's own (pool_mark.hpp); empty: none
  std::vector<PoolImage> images{};
  void fields(auto& f) { f(total, free, inodes, inodes_free, device, filesystem, read_only, mark, images); }
};

/// A block device as it is on this node now, with the proof that it is the right one. Every verb that opens it compares all of this
/// with what it opened, and refuses with failed_precondition when anything differs.
struct Device {
  std::string path{};                ///< /dev/loopN, for people and for opening; proves nothing
  std::uint64_t number = 0;          ///< makedev(major, minor)
  std::uint64_t diskseq = 0;         ///< /sys/dev/block/M:m/diskseq, never reused within a boot
  std::uint64_t backing_device = 0;  ///< loop: st_dev of the backing file
  std::uint64_t backing_inode = 0;   ///< loop: its inode
  std::uint64_t size = 0;            ///< when last looked at; not compared
  std::uint32_t block_size = 0;      ///< logical; not compared
  bool read_only = false;            ///< the device's own flag when last looked at; not compared
  bool by_agent = false;             ///< loop: an agent attached it, as attach and find_attached see it; not compared
  void fields(auto& f) { f(path, number, diskseq, backing_device, backing_inode, size, block_size, read_only, by_agent); }
};

/// A loop device that has a file, by sysfs alone.
struct LoopEntry {
  std::string path{};  ///< /dev/loopN
  std::uint64_t number = 0;
  std::string backing{};  ///< as sysfs shows it, without its " (deleted)": a hint, and proves nothing
  bool deleted = false;
  void fields(auto& f) { f(path, number, backing, deleted); }
};

/// How strong a proof of blankness is asked for (rule 1).
enum class BlankProof : std::uint8_t {
  none,        ///< signatures only
  all_zero,    ///< an image file: all that SEEK_DATA calls data reads as zero
  edges_zero,  ///< other devices: the first and the last MiB read as zero
};

struct ProbeRequest {
  Device device{};
  BlankProof proof = BlankProof::none;
  ImageRef image{};  ///< for all_zero
  void fields(auto& f) { f(device, proof, image); }
};

/// What the superblock of an ext4 says of its past, whatever libblkid thinks of it. All empty: there is none.
struct Ext4Past {
  std::string mounted{};  ///< which filesystem, and when it was mounted last
  std::string checked{};  ///< when it was checked last, and how often it was mounted since
  bool unclean = false;   ///< a check has something to do: a journal to replay, errors, a count that is due
  bool torn = false;      ///< its checksum is wrong: a tool died while it wrote it (they write it piece by piece)
  void fields(auto& f) { f(mounted, checked, unclean, torn); }
};

struct Probe {
  /// O_EXCL was refused: a filesystem on it is alive somewhere (or a tool has it). What follows was then read without it,
  /// and nothing may be called blank.
  bool busy = false;
  std::vector<Signature> signatures{};
  bool blank = false;                 ///< no signature, every read succeeded, and the proof asked for holds
  std::string not_blank_reason{};     ///< for a person, where `blank` is false
  std::uint64_t filesystem_size = 0;  ///< of ext4, xfs or btrfs, by its superblock (a tail too short for it to use counted in); 0 otherwise
  Ext4Past ext4{};
  void fields(auto& f) { f(busy, signatures, blank, not_blank_reason, filesystem_size, ext4); }
};

enum class AccessTime : std::uint8_t { relatime, noatime, strictatime };

/// The flags of a mount point (not of the filesystem): mount_setattr(2).
struct MountAttributes {
  bool read_only = false;
  bool no_suid = false;
  bool no_dev = false;
  bool no_exec = false;
  bool no_dir_atime = false;
  AccessTime atime = AccessTime::relatime;
  void fields(auto& f) { f(read_only, no_suid, no_dev, no_exec, no_dir_atime, atime); }
  bool operator==(const MountAttributes&) const = default;
};

/// What must be found at a path for it to count as ours.
struct Expected {
  std::uint64_t number = 0;  ///< the block device's number: st_dev of ext4 and xfs, st_rdev of a block target
  std::string fs_type{};     ///< empty: a block target
  std::string uuid{};        ///< of the filesystem; what tells btrfs, whose st_dev is anonymous
  void fields(auto& f) { f(number, fs_type, uuid); }
};

struct MountRequest {
  Device device{};
  std::string fs_type{};
  std::string uuid{};
  std::vector<std::string> options{};  ///< the filesystem's own, `key` or `key=value`, each with its place in the call's mount_flags
  std::vector<std::uint32_t>
      option_places;  ///< same length as options: its index in mount_flags, for the error's text; UINT32_MAX: our own
  MountAttributes attributes{};
  std::string target{};  ///< an existing directory, or one whose parent exists (it is made, 0750)
  void fields(auto& f) { f(device, fs_type, uuid, options, option_places, attributes, target); }
};

enum class TargetKind : std::uint8_t { directory, file };

struct BindRequest {
  std::string source{};  ///< the staging path, or a device's node
  Expected expected{};   ///< what the source must be, checked on the very tree that is bound
  std::string target{};  ///< made when missing; its parent must exist
  TargetKind kind = TargetKind::directory;
  MountAttributes attributes{};
  void fields(auto& f) { f(source, expected, target, kind, attributes); }
};

struct UnmountRequest {
  std::string path{};
  Expected expected{};  ///< a mount of anything else is left alone: failed_precondition
  bool remove = false;  ///< afterwards remove the directory (only when empty) or the file (only when of size 0)
  /// Write back what is cached first, syncfs(2): umount(2) does that too, but says nothing when it fails. What failed is told after the
  /// unmount, once: a device that stays sick must not make a mount that nobody can take away.
  bool write_back = false;
  void fields(auto& f) { f(path, expected, remove, write_back); }
};

/// What is at a path, by statx(2), without following a symlink at its end.
struct PathInfo {
  FileKind kind = FileKind::none;
  bool mount_root = false;
  bool broken = false;       ///< a mount whose filesystem answers ENOTCONN, ESTALE, EIO, EHOSTDOWN, ENODEV or ESHUTDOWN
  std::uint64_t device = 0;  ///< st_dev
  std::uint64_t rdev = 0;    ///< st_rdev of a block_device
  std::string fs_uuid{};     ///< btrfs only
  std::uint64_t mount_id = 0;
  bool read_only = false;  ///< the mount point or its filesystem is read-only (statvfs ST_RDONLY)
  void fields(auto& f) { f(kind, mount_root, broken, device, rdev, fs_uuid, mount_id, read_only); }
};

/// Whether `info` is what `expected` describes, as a mount.
bool matches(const PathInfo& info, const Expected& expected);

struct FilesystemUsage {
  std::uint64_t total = 0, available = 0, used = 0;
  std::uint64_t inodes = 0, inodes_free = 0, inodes_used = 0;
  void fields(auto& f) { f(total, available, used, inodes, inodes_free, inodes_used); }
};

/// A directory that an orchestrator stages a volume in: `<name>/globalmount` is the staging path.
struct StagingPlace {
  std::string name{};
  std::int64_t age = 0;  ///< seconds since an entry of it came or went
  std::string data{};    ///< its vol_data.json, which says whose it is
  void fields(auto& f) { f(name, age, data); }
};

/// One line of /proc/PID/mountinfo, unescaped (proc_pid_mountinfo(5)).
struct MountEntry {
  std::uint64_t id = 0;
  std::uint64_t parent = 0;
  std::uint64_t device = 0;
  std::string root{};
  std::string mount_point{};
  std::string options{};  ///< of the mount point
  std::string fs_type{};
  std::string source{};
  std::string super_options{};  ///< of the filesystem
  void fields(auto& f) { f(id, parent, device, root, mount_point, options, fs_type, source, super_options); }
};

/// A mount namespace other than ours in which a filesystem is still mounted.
struct Pin {
  std::int64_t pid = 0;   ///< the lowest process in it
  std::string command{};  ///< its comm
  std::string mount_point{};
  std::uint64_t mount_namespace = 0;
  void fields(auto& f) { f(pid, command, mount_point, mount_namespace); }
};

/// Which processes are asked about: those of control groups with these names, wherever they lie.
struct CgroupQuery {
  /// A whole name (`podUID`, `postgres@0.service`), the end of one after a `*` (`*-podUID.slice`), or `/`: every process.
  std::vector<std::string> names{};
  Device device{};
  std::string btrfs_uuid{};  ///< of what is on it, where that is a btrfs: its files have other device numbers, one a subvolume
  /// Where every copy of our mount table has it. Who has it mounted there only, in a namespace of its own and with nothing open, is not
  /// told of; beneath another directory, as of one who has the host's root at /host, it is known by the last three names.
  std::vector<std::string> usual{};
  bool any = false;  ///< every living process of theirs, whether it has the device or not: by a node that a runtime made it may at any time
  void fields(auto& f) { f(names, device, btrfs_uuid, usual, any); }
};

/// Those of them that have the device, or what is on it, mounted or open.
struct CgroupUsers {
  bool visible = false;      ///< false: the host's control groups are not mounted here, and nothing is known
  bool found = false;        ///< a control group of such a name exists
  std::uint64_t unseen = 0;  ///< processes in it that can't be looked into: of another pid namespace, or without the permission
  std::vector<Pin>
      users{};  ///< `mount_point`: where it is mounted, or the file that is open, or empty (any); `mount_namespace`: the process's
  void fields(auto& f) { f(visible, found, unseen, users); }
};

struct GrowRequest {
  Device device{};
  std::string fs_type{};  ///< ext4, xfs, btrfs
  std::string path{};     ///< where it is mounted
  void fields(auto& f) { f(device, fs_type, path); }
};

/// A program to run (rule 8): absolute argv, no shell, clean environment, a process group and a mount namespace of its own
/// whose /dev holds `null` and the device only.
struct ToolRequest {
  std::vector<std::string> argv{};
  Device device{};  ///< identity compared before and after
  std::chrono::milliseconds deadline{0};
  std::uint64_t memory = 0;  ///< of its address space, at most; 0: half of the node's, and at least 1 GiB
  std::string scratch{};     ///< a directory that it may write to, as `scratch_in_tool`; empty: none
  void fields(auto& f) { f(argv, device, deadline, memory, scratch); }
};

struct ToolOutcome {
  int exit_status = -1;    ///< -1: it did not exit by itself
  int signal = 0;          ///< that ended it, 0 if none
  bool timed_out = false;  ///< killed and reaped when its deadline passed
  std::string output{};    ///< stdout and stderr, at most the last 16 KiB
  std::chrono::milliseconds took{0};
  void fields(auto& f) { f(exit_status, signal, timed_out, output, took); }
};

}  // namespace ordinald::mount
