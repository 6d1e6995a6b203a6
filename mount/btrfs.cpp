#include "mount/btrfs.hpp"

#include "mount/mkfs_options.hpp"

namespace ordinald::mount {
namespace {

constexpr std::uint64_t mib = std::uint64_t{1024} * 1024;

/// mkfs.btrfs(8).
constexpr AllowedOption mkfs_list[] = {
    {"-n", "", "4096|8192|16384|32768|65536|16k|32k|64k", "a node size"},
    {"-d", "", "single|dup", "single or dup"},
    {"-m", "", "single|dup", "single or dup"},
    {"--csum", "", "crc32c|xxhash|sha256|blake2", "a checksum"},
    {"-L", "", "[A-Za-z0-9._-]{1,64}", "a label"},
};

class Btrfs final : public Filesystem {
 public:
  [[nodiscard]] std::string_view name() const override { return "btrfs"; }
  [[nodiscard]] std::uint64_t minimum_size() const override { return 109 * mib; }
  /// BTRFS_IOC_RESIZE answers EINVAL to any size below.
  [[nodiscard]] std::uint64_t minimum_growth() const override { return 256 * mib; }

  [[nodiscard]] std::vector<std::string> make_argv(const MakeRequest& request) const override {
    std::vector<std::string> argv{"/usr/sbin/mkfs.btrfs", "-q", "-K", "-U", request.uuid};
    argv.insert(argv.end(), request.options.begin(), request.options.end());
    argv.push_back(request.device);
    return argv;
  }

  [[nodiscard]] std::vector<std::string> check_argv(const std::string& /*device*/) const override { return {}; }
  [[nodiscard]] std::vector<std::string> whole_check_argv(const std::string& /*device*/) const override { return {}; }
  [[nodiscard]] std::vector<std::string> grow_argv(const std::string& /*device*/, const std::string& /*undo*/) const override { return {}; }
  [[nodiscard]] std::vector<std::string> undo_argv(const std::string& /*device*/, const std::string& /*undo*/) const override { return {}; }
  [[nodiscard]] std::string repair_hint(const std::string& device) const override {
    return "btrfs check --readonly " + device + " shows the damage; mount it by hand with -o ro,rescue=all to copy data out";
  }

  // Since kernel 6.2 btrfs discards by itself, which would make a thick image thin.
  [[nodiscard]] std::vector<std::string> mount_options(bool thick) const override {
    return thick ? std::vector<std::string>{"nodiscard"} : std::vector<std::string>{};
  }
  [[nodiscard]] Result<std::vector<std::string>> mkfs_options(std::string_view text) const override {
    return check_mkfs_options(name(), text, mkfs_list);
  }
};

}  // namespace

const Filesystem* btrfs_filesystem() {
  static const Btrfs btrfs;
  return &btrfs;
}

}  // namespace ordinald::mount
