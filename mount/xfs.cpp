#include "mount/xfs.hpp"

#include "mount/mkfs_options.hpp"

namespace ordinald::mount {
namespace {

constexpr std::uint64_t mib = std::uint64_t{1024} * 1024;

/// mkfs.xfs(8).
constexpr AllowedOption mkfs_list[] = {
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

  [[nodiscard]] std::vector<std::string> check_argv(const std::string& /*device*/) const override { return {}; }
  [[nodiscard]] std::vector<std::string> whole_check_argv(const std::string& /*device*/) const override { return {}; }
  [[nodiscard]] std::vector<std::string> grow_argv(const std::string& /*device*/, const std::string& /*undo*/) const override { return {}; }
  [[nodiscard]] std::vector<std::string> undo_argv(const std::string& /*device*/, const std::string& /*undo*/) const override { return {}; }
  [[nodiscard]] std::string repair_hint(const std::string& device) const override {
    return "xfs_repair -n " + device + " shows the damage, xfs_repair " + device + " mends it";
  }
  [[nodiscard]] std::vector<std::string> mount_options(bool /*thick*/) const override { return {}; }
  [[nodiscard]] Result<std::vector<std::string>> mkfs_options(std::string_view text) const override {
    return check_mkfs_options(name(), text, mkfs_list);
  }
};

}  // namespace

const Filesystem* xfs_filesystem() {
  static const Xfs xfs;
  return &xfs;
}

}  // namespace ordinald::mount
