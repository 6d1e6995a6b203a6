#include "mount/xfs.hpp"

#include <algorithm>

#include "mount/mkfs_options.hpp"
#include "mount/units.hpp"

namespace ordinald::mount {
namespace {

constexpr std::uint64_t default_block = 4096;

/// mkfs.xfs(8).
constexpr AllowedOption xfs_mkfs_options[] = {
    {"-b", "size", "1024|2048|4096", "1024, 2048 or 4096"},
    {"-i", "size", "512|1024|2048", "512, 1024 or 2048"},
    {"-i", "maxpct", "[0-9]|[1-9][0-9]|100", "0 to 100"},
    {"-d", "agcount", "[1-9][0-9]{0,5}", "a number"},
    {"-d", "su", "[1-9][0-9]{0,5}[km]?", "a size"},
    {"-d", "sw", "[1-9][0-9]{0,3}", "a number"},
    {"-l", "size", "[1-9][0-9]{0,5}[km]", "a size"},
    {"-n", "size", "4096|8192|16384|32768|65536", "4096 to 65536"},
    {"-m", "reflink", "[01]", "0 or 1"},
    {"-m", "bigtime", "[01]", "0 or 1"},
    {"-m", "rmapbt", "[01]", "0 or 1"},
    {"-m", "finobt", "[01]", "0 or 1"},
    {"-L", "", "[A-Za-z0-9._-]{1,12}", "a label"},
};

class Xfs final : public Filesystem {
 public:
  [[nodiscard]] std::string_view name() const override { return "xfs"; }
  [[nodiscard]] std::uint64_t minimum_size() const override { return 300 * mib; }

  [[nodiscard]] std::vector<std::string> make_argv(const MakeRequest& request) const override {
    std::vector<std::string> argv{"/usr/sbin/mkfs.xfs", "-q", "-K", "-m", "uuid=" + request.uuid};
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
    return "xfs_repair -n " + device + " shows the damage, xfs_repair " + device +
           " mends it (before its -L, which drops the last writes, let a newer kernel try the mount: before 6.12 some logs of a growth "
           "fail)";
  }
  [[nodiscard]] std::vector<std::string> mount_options(bool /*thick*/) const override { return {}; }
  [[nodiscard]] Result<std::vector<std::string>> mkfs_options(std::string_view text, std::uint32_t block_size) const override {
    TRY(auto arguments, check_mkfs_options(name(), text, xfs_mkfs_options));
    const auto block = mkfs_number(arguments, "-b", "size");
    TRYV(check_mkfs_block(block, block_size));
    const std::uint64_t inode = mkfs_number(arguments, "-i", "size").value_or(0);
    if (2 * inode > block.value_or(default_block)) {
      return refuse_mkfs("an inode of " + std::to_string(inode) + " bytes is more than half of the filesystem's block of " +
                         std::to_string(block.value_or(default_block)) + ", which it can't be");
    }
    return arguments;
  }

  [[nodiscard]] Result<void> mkfs_fits(std::span<const std::string> arguments, std::uint64_t size,
                                       std::uint32_t /*block_size*/) const override {
    const std::uint64_t block = mkfs_number(arguments, "-b", "size").value_or(default_block);
    const auto unit = mkfs_number(arguments, "-d", "su");
    const auto width = mkfs_number(arguments, "-d", "sw");
    if (unit.has_value() != width.has_value()) {
      return refuse_mkfs("-d su and -d sw go together: a stripe's unit, and how many of them it has");
    }
    TRY(const std::uint64_t group, group_size(arguments, size, unit.has_value()));
    if (unit && (*unit % block != 0 || *unit > group / 16 || *unit * *width > INT32_MAX)) {
      return refuse_mkfs("-d su=" + std::to_string(*unit) + ",sw=" + std::to_string(*width) + ": a stripe's unit is made of blocks of " +
                         std::to_string(block) + " bytes and has at most " + std::to_string(group / 16) +
                         ", a sixteenth of an allocation group; the whole stripe has less than 2 GiB");
    }
    const auto log = mkfs_number(arguments, "-l", "size");
    const std::uint64_t largest_log = std::min(group / 8 * 7, 1024 * mib);
    if (log && (*log < smallest_log || *log > largest_log || *log % block != 0)) {
      return refuse_mkfs("-l size=" + std::to_string(*log) + ": a log has " + std::to_string(smallest_log) + " to " +
                         std::to_string(largest_log) + " bytes, in whole blocks of " + std::to_string(block) +
                         "; it must find room in an allocation group, which here has " + std::to_string(group));
    }
    return success();
  }

 private:
  static constexpr std::uint64_t smallest_log = 64 * mib;

  /// Bytes of an allocation group, as asked or as mkfs chooses it; at least as large that the smallest log finds room in one.
  static Result<std::uint64_t> group_size(std::span<const std::string> arguments, std::uint64_t size, bool striped) {
    constexpr std::uint64_t gib = 1024 * mib;
    const std::uint64_t by_itself = !striped ? 4 : size <= 8 * gib ? 8 : size <= 512 * gib ? 16 : 32;
    const auto asked = mkfs_number(arguments, "-d", "agcount");
    const std::uint64_t groups = asked.value_or(by_itself);
    const std::uint64_t least = (striped ? 128 : 75) * mib;
    const bool too_large = asked && size / groups >= 1024 * gib;
    if (groups < 2 || size / groups < least || too_large) {
      return refuse_mkfs(std::to_string(groups) + " allocation groups (-d agcount) of a volume of " + std::to_string(size) +
                         " bytes: it takes two or more, each of at least " + std::to_string(least) + " bytes" +
                         (striped ? " where it is striped (-d su, sw)" : "") + " and less than 1 TiB");
    }
    return size / groups;
  }
};

}  // namespace

const Filesystem* xfs_filesystem() {
  static const Xfs xfs;
  return &xfs;
}

}  // namespace ordinald::mount
