#include "mount/filesystem.hpp"

#include <catch2/catch.hpp>

#include "mount/mount_flags.hpp"

using namespace ordinald::mount;

TEST_CASE("fsck's status is a bit mask: 0 and 1 mount, all else refuses and says what it means") {
  const Filesystem& ext4 = *find_filesystem("ext4");
  for (int status = 0; status < 256; ++status) {
    const auto verdict = judge_check(ext4, "/dev/loop9", "/pool/v.img", {.exit_status = status, .output = "clean\n"});
    CHECK(verdict.has_value() == (status == 0 || status == 1));
  }
  const auto refused =
      judge_check(ext4, "/dev/loop9", "/pool/v.img", {.exit_status = 12, .output = "UNEXPECTED INCONSISTENCY;\nRUN fsck MANUALLY.\n"});
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == ErrorCode::failed_precondition);
  CHECK_THAT(refused.error().message, Catch::Contains("errors left uncorrected") && Catch::Contains("operational error") &&
                                          Catch::Contains("RUN fsck MANUALLY") && Catch::Contains("e2fsck -f /pool/v.img") &&
                                          Catch::Contains("/dev/loop9") && !Catch::Contains("\n"));
  const auto killed = judge_check(ext4, "/dev/loop9", "/pool/v.img", {.exit_status = -1, .signal = 9});
  REQUIRE_FALSE(killed);
  CHECK_THAT(killed.error().message, Catch::Contains("signal 9"));
  const auto slow =
      judge_check(ext4, "/dev/loop9", "/pool/v.img", {.exit_status = -1, .signal = 9, .timed_out = true, .took = std::chrono::seconds{7}});
  REQUIRE_FALSE(slow);
  CHECK_THAT(slow.error().message, Catch::Contains("deadline") && Catch::Contains("7 s"));
}

TEST_CASE("a tool's words are one line of printable ASCII, and not too many") {
  const auto refused =
      judge_tool("mkfs", {.exit_status = 1, .output = "\033[31m\377\001 one\r\n\ttwo\n" + std::string(20'000, 'x') + "\n"});
  REQUIRE_FALSE(refused);
  const std::string& message = refused.error().message;
  CHECK(message.size() < 800);
  const auto mangled = judge_tool("mkfs", {.exit_status = 1, .output = "\033[31m\377\001 one\r\n\ttwo\n"});
  REQUIRE_FALSE(mangled);
  CHECK_THAT(mangled.error().message, Catch::EndsWith("it said: ?[31m?? one   two"));
}

TEST_CASE("a tool is well only with status 0") {
  CHECK(judge_tool("mkfs", {.exit_status = 0}));
  CHECK_FALSE(judge_tool("mkfs", {.exit_status = 1}));
  CHECK_FALSE(judge_tool("mkfs", {.exit_status = -1, .signal = 15}));
  CHECK_FALSE(judge_tool("mkfs", {.exit_status = 0, .timed_out = true}));
}

TEST_CASE("mkfs options come from a list, never as free text") {
  const auto words = [](std::string_view fs, std::string_view text, std::uint32_t block_size = 4096) {
    const auto parsed = find_filesystem(fs)->mkfs_options(text, block_size);
    return parsed ? parsed.value() : std::vector<std::string>{"refused"};
  };
  using Words = std::vector<std::string>;
  CHECK(words("ext4", "") == Words{});
  CHECK(words("ext4", "-i 8192  -m 0") == Words{"-i", "8192", "-m", "0"});
  CHECK(words("xfs", "-m reflink=0,bigtime=1 -L data") == Words{"-m", "reflink=0,bigtime=1", "-L", "data"});
  CHECK(words("btrfs", "--csum xxhash -m dup") == Words{"--csum", "xxhash", "-m", "dup"});
  for (const std::string_view bad :
       {"-F", "-F -F", "-E discard", "-m 51", "-m 5;reboot", "-i", "/dev/sda", "-b 4096 /dev/sda", "-d /etc", "-U 1-2",
        "-E stride=8,discard", "-O ^has_journal", "-b 4096 -b 1024", "-E stride=8,stride=9", "-E stride=8 -E stride=8", "-b 2048"}) {
    CAPTURE(bad);
    CHECK(words("ext4", bad) == Words{"refused"});
  }
  CHECK(words("ext4", "-b 1024", 512) == Words{"-b", "1024"});
  CHECK(words("ext4", "-E stride=8 -E stripe_width=8") == Words{"-E", "stride=8", "-E", "stripe_width=8"});
  CHECK(words("xfs", "-b size=1024") == Words{"refused"});
  CHECK(words("xfs", "-b size=1024 -i size=512", 512) == Words{"-b", "size=1024", "-i", "size=512"});
  CHECK(words("xfs", "-i maxpct=5,size=1024 -b size=1024", 512) == Words{"refused"});
  CHECK(words("xfs", "-i size=2048") == Words{"-i", "size=2048"});
  CHECK(words("xfs", "-m reflink=1 -m reflink=0") == Words{"refused"});
  CHECK(words("btrfs", "-n 4096 -n 8192") == Words{"refused"});
  CHECK_THAT(find_filesystem("ext4")->mkfs_options("-b 1024", 4096).error().message, Catch::Contains("1024") && Catch::Contains("4096"));
  CHECK(words("xfs", "-f -f") == Words{"refused"});
  CHECK(words("xfs", "-m uuid=x") == Words{"refused"});
  CHECK(words("btrfs", "-f -f") == Words{"refused"});
  const auto refused = find_filesystem("ext4")->mkfs_options("-O x", 4096);
  CHECK(refused.error().code == ErrorCode::invalid_argument);
  CHECK_THAT(refused.error().message, Catch::Contains("-O x") && Catch::Contains("-i bytes per inode"));
}

TEST_CASE("a tool's extended options are given once, since it heeds the last only") {
  const Filesystem& ext4 = *find_filesystem("ext4");
  const auto argv = ext4.make_argv({.device = "/dev/loop9", .uuid = "u", .options = {"-E", "stride=8", "-m", "0"}});
  CHECK(argv == std::vector<std::string>{"/usr/sbin/mkfs.ext4", "-q", "-U", "u", "-m", "0", "-E",
                                         "nodiscard,assume_storage_prezeroed=1,stride=8", "/dev/loop9"});
  for (const char* name : {"ext4", "xfs", "btrfs"}) {
    for (const std::string& word : find_filesystem(name)->make_argv({.device = "/dev/loop9", .uuid = "u", .options = {}})) {
      CHECK(word != "-f");
      CHECK(word != "-F");
    }
  }
  CHECK(find_filesystem("zfs") == nullptr);
  CHECK(find_filesystem("") == nullptr);
}

TEST_CASE("mount flags: the mount point's and the filesystem's own, each with its place") {
  const MountFlags flags = split_mount_flags({"noatime", "data=journal,nosuid", "ro", "rw", "discard", "defaults"});
  CHECK(flags.attributes.no_suid);
  CHECK_FALSE(flags.attributes.read_only);
  CHECK(flags.attributes.atime == AccessTime::noatime);
  CHECK(flags.options == std::vector<std::string>{"data=journal", "discard"});
  CHECK(flags.places == std::vector<std::uint32_t>{1, 4});
  CHECK(has_option(flags, "data"));
  CHECK(has_option(flags, "discard"));
  CHECK_FALSE(has_option(flags, "dat"));
  CHECK_FALSE(has_option(flags, "nodiscard"));
}
