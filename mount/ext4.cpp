#include "mount/ext4.hpp"

#include <algorithm>

#include "mount/mkfs_options.hpp"
#include "mount/units.hpp"

namespace ordinald::mount {
namespace {

/// mke2fs(8).
constexpr AllowedOption ext4_mkfs_options[] = {
    {"-b", "", "1024|2048|4096", "1024, 2048 or 4096"},  {"-i", "", "[1-9][0-9]{3,7}", "bytes per inode"},
    {"-I", "", "256|512|1024", "256, 512 or 1024"},      {"-m", "", "[0-9]|[1-4][0-9]|50", "0 to 50"},
    {"-N", "", "[1-9][0-9]{0,9}", "a number of inodes"}, {"-T", "", "default|small|news|largefile|largefile4|huge", "a usage type"},
    {"-L", "", "[A-Za-z0-9._-]{1,16}", "a label"},       {"-J", "size", "[1-9][0-9]{0,5}", "MiB"},
    {"-E", "stride", "[1-9][0-9]{0,5}", "blocks"},       {"-E", "stripe_width", "[1-9][0-9]{0,5}", "blocks"},
    {"-E", "packed_meta_blocks", "[01]", "0 or 1"},
};

std::vector<std::string> with_undo(std::vector<std::string> argv, const std::string& device, const std::string& undo) {
  if (!undo.empty()) {
    argv.insert(argv.end(), {"-z", undo});
  }
  argv.push_back(device);
  return argv;
}

class Ext4 final : public Filesystem {
 public:
  [[nodiscard]] std::string_view name() const override { return "ext4"; }

  // Below that a journal does not fit, with 4096-byte sectors.
  [[nodiscard]] std::uint64_t minimum_size() const override { return 8 * mib; }

  [[nodiscard]] std::vector<std::string> make_argv(const MakeRequest& request) const override {
    // The bytes are zero, proven: nothing has to be written over, nor initialised in the background later.
    std::string extended = "nodiscard,assume_storage_prezeroed=1";
    std::vector<std::string> argv{"/usr/sbin/mkfs.ext4", "-q", "-U", request.uuid};
    for (std::size_t i = 0; i + 1 < request.options.size(); i += 2) {
      if (request.options[i] == "-E") {  // of several, mke2fs takes the last
        extended += "," + request.options[i + 1];
      } else {
        argv.insert(argv.end(), {request.options[i], request.options[i + 1]});
      }
    }
    argv.insert(argv.end(), {"-E", extended, request.device});
    return argv;
  }

  [[nodiscard]] std::vector<std::string> check_argv(const std::string& device, const std::string& undo) const override {
    return with_undo({"/usr/sbin/e2fsck", "-p"}, device, undo);
  }
  [[nodiscard]] std::vector<std::string> whole_check_argv(const std::string& device, const std::string& undo) const override {
    return with_undo({"/usr/sbin/e2fsck", "-f", "-p"}, device, undo);
  }
  [[nodiscard]] std::vector<std::string> grow_argv(const std::string& device, const std::string& undo) const override {
    return with_undo({"/usr/sbin/resize2fs"}, device, undo);
  }
  [[nodiscard]] std::vector<std::string> undo_argv(const std::string& device, const std::string& undo, UndoMode mode) const override {
    std::vector<std::string> argv{"/usr/sbin/e2undo"};
    if (mode != UndoMode::matching) {
      argv.emplace_back("-f");
    }
    if (mode == UndoMode::read_only) {
      argv.emplace_back("-n");
    }
    argv.insert(argv.end(), {undo, device});
    return argv;
  }
  [[nodiscard]] std::string repair_hint(const std::string& device) const override { return "e2fsck -f " + device; }

  // A filesystem with an error in it stops taking writes, so that somebody notices.
  [[nodiscard]] std::vector<std::string> mount_options(bool /*thick*/) const override { return {"errors=remount-ro"}; }

  [[nodiscard]] Result<std::vector<std::string>> mkfs_options(std::string_view text, std::uint32_t block_size) const override {
    TRY(auto arguments, check_mkfs_options(name(), text, ext4_mkfs_options));
    TRYV(check_mkfs_block(mkfs_number(arguments, "-b", ""), block_size));
    return arguments;
  }

  [[nodiscard]] Result<void> mkfs_fits(std::span<const std::string> arguments, std::uint64_t size,
                                       std::uint32_t block_size) const override {
    TRYV(check_inodes(arguments));
    const std::uint64_t inode_size = mkfs_number(arguments, "-I", "").value_or(default_inode);
    const std::uint64_t inodes = mkfs_number(arguments, "-N", "").value_or(size / inode_ratio(arguments, size));
    constexpr std::uint64_t fewest = 16;  // eleven of its own, in whole bytes of a bitmap
    if (inodes < fewest) {
      return refuse_mkfs(std::to_string(inodes) + " inodes (-N, or the volume's " + std::to_string(size) +
                         " bytes over -i, or what -T has for that) are too few, it takes " + std::to_string(fewest));
    }
    TRY(const std::uint64_t journal, journal_size(arguments, size, block_size));
    // Superblocks, bitmaps, descriptors and what is kept for more of them.
    const std::uint64_t others = size / 16 + mib;
    if (const std::uint64_t tables = inodes * inode_size; tables > size / 2 || tables + journal + others > size) {
      return refuse_mkfs(std::to_string(inodes) + " inodes (-N, or the size over -i) of " + std::to_string(inode_size) +
                         " bytes (-I), and what its journal asks for (-J), " + std::to_string(journal) +
                         " bytes, leave too little of a volume of " + std::to_string(size));
    }
    return success();
  }

 private:
  static constexpr std::uint64_t default_inode = 256;

  /// Of e2fsprogs 1.47: a ratio below the block size is none of the errors, whatever mke2fs(8) says.
  static Result<void> check_inodes(std::span<const std::string> arguments) {
    constexpr std::uint64_t least_ratio = 1024;
    constexpr std::uint64_t most_ratio = 64 * mib;
    if (const auto ratio = mkfs_number(arguments, "-i", ""); ratio && (*ratio < least_ratio || *ratio > most_ratio)) {
      return refuse_mkfs("-i " + std::to_string(*ratio) + ": bytes per inode can be " + std::to_string(least_ratio) + " to " +
                         std::to_string(most_ratio));
    }
    if (const auto number = mkfs_number(arguments, "-N", ""); number && *number > UINT32_MAX) {
      return refuse_mkfs("-N " + std::to_string(*number) + ": it can have " + std::to_string(UINT32_MAX) + " inodes at most");
    }
    return success();
  }

  /// Bytes per inode: as asked, or else as mke2fs.conf(5) has it.
  static std::uint64_t inode_ratio(std::span<const std::string> arguments, std::uint64_t size) {
    if (const auto ratio = mkfs_number(arguments, "-i", "")) {
      return *ratio;
    }
    const std::string usage = mkfs_value(arguments, "-T", "").value_or(size < 512 * mib ? "small" : "default");
    return usage == "small" || usage == "news" ? 4096 : usage == "largefile" ? mib : usage == "largefile4" ? 4 * mib : 16384;
  }

  /// Bytes that must be free for it.
  static Result<std::uint64_t> journal_size(std::span<const std::string> arguments, std::uint64_t size, std::uint32_t block_size) {
    const auto asked = mkfs_number(arguments, "-J", "size");
    if (!asked) {
      return std::max(4 * mib, size / 8);
    }
    constexpr std::uint64_t fewest_blocks = 1024;
    constexpr std::uint64_t most_blocks = 10'240'000;
    // Which block mke2fs takes by itself depends on the size.
    const auto block = mkfs_number(arguments, "-b", "");
    const std::uint64_t least = fewest_blocks * block.value_or(4096);
    const std::uint64_t most = most_blocks * block.value_or(block_size < 1024 ? 1024 : block_size);
    if (*asked * mib < least || *asked * mib > most) {
      return refuse_mkfs("-J size=" + std::to_string(*asked) + ": with blocks of " + (block ? std::to_string(*block) : "unsaid size (-b)") +
                         " a journal can have " + std::to_string(least / mib) + " to " + std::to_string(most / mib) + " MiB");
    }
    return 2 * *asked * mib;  // no more than half of what is free
  }
};

}  // namespace

const Filesystem* ext4_filesystem() {
  static const Ext4 ext4;
  return &ext4;
}

}  // namespace ordinald::mount
