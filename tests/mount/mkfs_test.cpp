/// mkfsOptions: what may be asked for, and that a real mkfs takes all of it, so that no volume is promised that can't be formatted.

#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mount.h>

#include <catch2/catch.hpp>
#include <set>

#include "mount/filesystem.hpp"
#include "mount/mkfs_options.hpp"
#include "tests/mount/loop_file.hpp"
#include "tests/support/temp.hpp"

using namespace ordinald;
using namespace ordinald::mount;
using ordinald::testing::loop_on;
using ordinald::testing::TempDir;

namespace {

constexpr std::uint64_t mib = 1 << 20;
constexpr std::uint64_t gib = 1 << 30;

/// Empty: it fits; else why not.
std::string misfit(std::string_view fs, std::string_view text, std::uint64_t size = gib, std::uint32_t block_size = 4096) {
  const auto arguments = find_filesystem(fs)->mkfs_options(text, block_size);
  if (!arguments) {
    return arguments.error().message;
  }
  const auto fits = find_filesystem(fs)->mkfs_fits(arguments.value(), size, block_size);
  if (!fits) {
    CHECK(fits.error().code == ErrorCode::invalid_argument);
    CHECK_THAT(fits.error().message, Catch::StartsWith("parameter mkfsOptions: "));
  }
  return fits ? std::string{} : fits.error().message;
}

/// The words of mkfs where it fails.
std::string make(const Filesystem& filesystem, const Device& device, const std::vector<std::string>& options) {
  static int number = 0;
  const UniqueFd fd{::open(device.path.c_str(), O_RDWR | O_CLOEXEC)};
  std::uint64_t range[2] = {0, device.size};
  if (!fd || ::ioctl(fd.get(), BLKDISCARD, range) != 0) {
    return "the device can't be emptied";
  }
  const std::string uuid = "12345678-1234-4234-8234-" + std::to_string(100'000'000'000 + ++number);
  std::string line;
  for (const std::string& word : filesystem.make_argv({.device = device.path, .uuid = uuid, .options = options})) {
    line += word + " ";
  }
  FILE* pipe = ::popen((line + "2>&1 </dev/null").c_str(), "r");
  std::string words;
  for (char part[256]; pipe != nullptr && ::fgets(part, sizeof part, pipe) != nullptr;) {
    words += part;
  }
  return pipe != nullptr && ::pclose(pipe) == 0 ? std::string{} : line + ": " + words;
}

using Values = std::vector<std::vector<std::string>>;

/// Each value alone, and every two of different options among the first so many.
std::set<std::string> pairs(const Values& options, std::size_t among) {
  std::set<std::string> texts{""};
  for (std::size_t i = 0; i < options.size(); ++i) {
    for (const std::string& one : options[i]) {
      texts.insert(one);
      for (std::size_t j = i + 1; j < among; ++j) {
        for (const std::string& other : options[j]) {
          texts.insert(one + " " + other);
        }
      }
    }
  }
  return texts;
}

/// Every option of each list, with its values, or where they are many with those at its limits.
Values limits_of(std::string_view fs) {
  if (fs == "ext4") {
    return {{"-b 1024", "-b 2048", "-b 4096"},
            {"-i 1024", "-i 4095", "-i 67108864"},
            {"-I 256", "-I 512", "-I 1024"},
            {"-N 16", "-N 17", "-N 2048", "-N 8192", "-N 1000000", "-N 2000000", "-N 3000000", "-N 4294967295"},
            {"-T default", "-T small", "-T news", "-T largefile", "-T largefile4", "-T huge"},
            {"-J size=1", "-J size=2", "-J size=4", "-J size=100", "-J size=400", "-J size=40000", "-J size=999999"},
            {"-m 0", "-m 50"},
            {"-L abcdefghijklmnop"},
            {"-E stride=1", "-E stride=999999"},
            {"-E stripe_width=1", "-E stripe_width=999999"},
            {"-E packed_meta_blocks=0", "-E packed_meta_blocks=1"}};
  }
  if (fs == "xfs") {
    return {{"-d agcount=1", "-d agcount=2", "-d agcount=4", "-d agcount=8", "-d agcount=13", "-d agcount=999999", "-d su=512,sw=1",
             "-d su=4k,sw=1", "-d su=4k,sw=9999", "-d su=8m,sw=255", "-d su=8m,sw=256", "-d su=999999m,sw=1", "-d su=1m,sw=8,agcount=2",
             "-d su=8m,sw=16,agcount=8", "-d su=4k", "-d sw=4"},
            {"-l size=1k", "-l size=64m", "-l size=65537k", "-l size=111m", "-l size=224m", "-l size=448m", "-l size=999999m"},
            {"-b size=1024", "-b size=2048", "-b size=4096"},
            {"-i size=512", "-i size=1024", "-i size=2048"},
            {"-i maxpct=0", "-i maxpct=100"},
            {"-n size=4096", "-n size=65536"},
            {"-m reflink=0", "-m reflink=1"},
            {"-m bigtime=0", "-m bigtime=1"},
            {"-m rmapbt=0", "-m rmapbt=1"},
            {"-m finobt=0", "-m finobt=1", "-m reflink=0,rmapbt=1,finobt=0,bigtime=0", "-m reflink=1,rmapbt=1,finobt=1,bigtime=1"},
            {"-L abcdefghijkl"}};
  }
  return {{"-n 4096", "-n 8192", "-n 16384", "-n 32768", "-n 65536", "-n 16k", "-n 32k", "-n 64k"},
          {"-d single", "-d dup"},
          {"-m single", "-m dup"},
          {"--csum crc32c", "--csum xxhash", "--csum sha256", "--csum blake2"},
          {"-L " + std::string(64, 'a')}};
}

}  // namespace

TEST_CASE("mkfs options that can't go together or with the size are refused") {
  using Catch::Contains;
  for (const std::string_view fs : {"ext4", "xfs", "btrfs"}) {
    CHECK(misfit(fs, "", find_filesystem(fs)->minimum_size()).empty());
  }
  CHECK_THAT(misfit("ext4", "-i 1023"), Contains("-i 1023") && Contains("1024 to 67108864"));
  CHECK_THAT(misfit("ext4", "-i 67108865"), Contains("-i 67108865"));
  CHECK(misfit("ext4", "-i 1024").empty());  // e2fsprogs 1.47 takes a ratio below the block
  CHECK_THAT(misfit("ext4", "-i 1024 -I 1024"), Contains("1048576 inodes") && Contains("of 1024 bytes"));
  CHECK_THAT(misfit("ext4", "-N 15"), Contains("15 inodes"));
  CHECK_THAT(misfit("ext4", "-T largefile4", 32 * mib), Contains("8 inodes"));
  CHECK_THAT(misfit("ext4", "-N 4294967296", 1024 * 1024 * gib), Contains("-N 4294967296"));
  CHECK_THAT(misfit("ext4", "-N 4000000"), Contains("4000000 inodes"));
  CHECK_THAT(misfit("ext4", "-J size=3"), Contains("-J size=3") && Contains("4 to"));
  CHECK_THAT(misfit("ext4", "-J size=600"), Contains("volume of 1073741824"));
  CHECK(misfit("ext4", "-J size=1 -b 1024", gib, 512).empty());
  CHECK(misfit("ext4", "-J size=4000", 100 * gib).empty());
  CHECK_THAT(misfit("xfs", "-d su=64k"), Contains("go together"));
  CHECK_THAT(misfit("xfs", "-d agcount=1"), Contains("agcount"));
  CHECK_THAT(misfit("xfs", "-d agcount=2", 2048 * gib), Contains("1 TiB"));
  CHECK(misfit("xfs", "-d agcount=400", 1024 * gib).empty());
  CHECK_THAT(misfit("xfs", "-l size=1g"), Contains("not allowed"));
  CHECK_THAT(misfit("xfs", "-l size=32m"), Contains("33554432"));
  CHECK(misfit("xfs", "-l size=512m", 4 * gib).empty());
  CHECK_THAT(misfit("btrfs", "-d dup", 255 * mib), Contains("-d dup"));
  CHECK(misfit("btrfs", "-d dup", 256 * mib).empty());
}

TEST_CASE("mkfs takes all options that pass, at their limits, two by two", "[root]") {
  const std::string fs = GENERATE(as<std::string>{}, "ext4", "xfs", "btrfs");
  const std::uint32_t block_size = GENERATE(512U, 4096U);
  const Filesystem& filesystem = *find_filesystem(fs);
  const TempDir directory("mkfs");
  REQUIRE(::mount("tmpfs", directory.path().c_str(), "tmpfs", 0, "size=2g") == 0);  // whose fsync costs nothing
  // The rest of each list has to do neither with each other nor with these.
  const std::size_t among = fs == "ext4" ? 6 : 3;
  std::size_t made = 0;
  std::size_t refused = 0;
  for (const std::uint64_t size : {filesystem.minimum_size(), gib}) {
    Device device = loop_on(directory.path() / std::to_string(size), size, block_size);
    device.size = size;
    for (const std::string& text : pairs(limits_of(fs), among)) {
      const auto arguments = filesystem.mkfs_options(text, block_size);
      if (!arguments || !filesystem.mkfs_fits(arguments.value(), size, block_size)) {
        ++refused;
        continue;
      }
      ++made;
      const std::string failure = make(filesystem, device, arguments.value());
      INFO(size << " bytes in blocks of " << block_size << ": " << failure);
      CHECK(failure.empty());
    }
  }
  CHECK(made > refused / 4);  // a list that refuses all would pass, too
  std::printf("COUNT: mkfs options: %s in blocks of %u: %zu made, %zu refused\n", fs.c_str(), block_size, made, refused);
}
