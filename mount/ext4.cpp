#include "mount/ext4.hpp"

#include "mount/mkfs_options.hpp"

namespace ordinald::mount {
namespace {

constexpr std::uint64_t mib = std::uint64_t{1024} * 1024;

/// mke2fs(8).
constexpr AllowedOption mkfs_list[] = {
    {"-b", "", "1024|2048|4096", "1024, 2048 or 4096"},  {"-i", "", "[1-9][0-9]{3,7}", "bytes per inode"},
    {"-I", "", "256|512|1024", "256, 512 or 1024"},      {"-m", "", "[0-9]|[1-4][0-9]|50", "0 to 50"},
    {"-N", "", "[1-9][0-9]{0,9}", "a number of inodes"}, {"-T", "", "default|small|news|largefile|largefile4|huge", "a usage type"},
    {"-L", "", "[A-Za-z0-9._-]{1,16}", "a label"},       {"-J", "size", "[1-9][0-9]{0,5}", "MiB"},
    {"-E", "stride", "[1-9][0-9]{0,5}", "blocks"},       {"-E", "stripe_width", "[1-9][0-9]{0,5}", "blocks"},
    {"-E", "packed_meta_blocks", "[01]", "0 or 1"},
};

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

  [[nodiscard]] std::vector<std::string> check_argv(const std::string& device) const override { return {"/usr/sbin/e2fsck", "-p", device}; }
  [[nodiscard]] std::vector<std::string> whole_check_argv(const std::string& device) const override {
    return {"/usr/sbin/e2fsck", "-f", "-p", device};
  }
  [[nodiscard]] std::vector<std::string> grow_argv(const std::string& device, const std::string& undo) const override {
    return {"/usr/sbin/resize2fs", "-z", undo, device};
  }
  [[nodiscard]] std::vector<std::string> undo_argv(const std::string& device, const std::string& undo) const override {
    return {"/usr/sbin/e2undo", undo, device};
  }
  [[nodiscard]] std::string repair_hint(const std::string& device) const override { return "e2fsck -f " + device; }

  // A filesystem with an error in it stops taking writes, so that somebody notices.
  [[nodiscard]] std::vector<std::string> mount_options(bool /*thick*/) const override { return {"errors=remount-ro"}; }

  [[nodiscard]] Result<std::vector<std::string>> mkfs_options(std::string_view text) const override {
    return check_mkfs_options(name(), text, mkfs_list);
  }
};

}  // namespace

const Filesystem* ext4_filesystem() {
  static const Ext4 ext4;
  return &ext4;
}

}  // namespace ordinald::mount
