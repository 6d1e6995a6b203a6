#include "mount/btrfs.hpp"

#include "mount/mkfs_options.hpp"
#include "mount/units.hpp"

namespace ordinald::mount {
namespace {

/// mkfs.btrfs(8).
constexpr AllowedOption btrfs_mkfs_options[] = {
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

  [[nodiscard]] std::vector<std::string> check_argv(const std::string& /*device*/, const std::string& /*undo*/) const override {
    return {};
  }
  [[nodiscard]] std::vector<std::string> whole_check_argv(const std::string& /*device*/, const std::string& /*undo*/) const override {
    return {};
  }
  [[nodiscard]] std::vector<std::string> grow_argv(const std::string& /*device*/, const std::string& /*undo*/) const override { return {}; }
  [[nodiscard]] std::vector<std::string> undo_argv(const std::string& /*device*/, const std::string& /*undo*/, UndoMode) const override {
    return {};
  }
  [[nodiscard]] std::string repair_hint(const std::string& device) const override {
    return "btrfs check --readonly " + device + " shows the damage; mount it by hand with -o ro,rescue=all to copy data out";
  }

  // Since kernel 6.2 btrfs discards by itself, which would make a thick image thin.
  [[nodiscard]] std::vector<std::string> mount_options(bool thick) const override {
    return thick ? std::vector<std::string>{"nodiscard"} : std::vector<std::string>{};
  }
  [[nodiscard]] Result<std::vector<std::string>> mkfs_options(std::string_view text, std::uint32_t /*block_size*/) const override {
    return check_mkfs_options(name(), text, btrfs_mkfs_options);
  }
  [[nodiscard]] Result<void> mkfs_fits(std::span<const std::string> arguments, std::uint64_t size,
                                       std::uint32_t /*block_size*/) const override {
    constexpr std::uint64_t least_for_two = 256 * mib;
    if (mkfs_value(arguments, "-d", "") == "dup" && size < least_for_two) {
      return refuse_mkfs("-d dup needs a volume of " + std::to_string(least_for_two) + " bytes, this one has " + std::to_string(size));
    }
    return success();
  }
};

}  // namespace

const Filesystem* btrfs_filesystem() {
  static const Btrfs btrfs;
  return &btrfs;
}

}  // namespace ordinald::mount
