#include "tests/faults/corpus.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <random>
#include <stdexcept>
#include <system_error>

namespace ordinald::testing {
namespace {

using namespace std::string_literals;

constexpr std::uint64_t size = static_cast<std::uint64_t>(corpus_size);

/// Numbers as they lie on a disk.
std::string little(std::uint64_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i) text += static_cast<char>(value >> (8 * i));
  return text;
}
std::string big(std::uint64_t value, int bytes) {
  std::string text = little(value, bytes);
  std::reverse(text.begin(), text.end());
  return text;
}

std::string random_bytes(std::size_t count) {
  std::mt19937_64 generator(20261125);
  std::string text;
  while (text.size() < count) text += little(generator(), 8);
  text.resize(count);
  return text;
}

/// CRC-32 of IEEE 802.3, as GPT has it, or with another polynomial (bits reversed).
std::uint32_t crc32(std::string_view bytes, std::uint32_t polynomial = 0xEDB88320U) {
  std::uint32_t crc = ~0U;
  for (const char byte : bytes) {
    crc ^= static_cast<std::uint8_t>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1U) != 0 ? polynomial : 0U);
  }
  return ~crc;
}

void over(std::string& text, std::size_t at, const std::string& bytes) { text.replace(at, bytes.size(), bytes); }

struct Bytes {
  std::int64_t offset;  ///< from the end where negative
  std::string bytes;
};

Kind signature(const std::string& name, const std::string& says, const std::vector<Bytes>& parts) {
  return {name, says, [parts](const fs::path& image) {
            for (const Bytes& part : parts) poke(image, part.offset, part.bytes);
          }};
}

void run(std::vector<std::string> argv) {
  if (const int status = run_tool(argv); status != 0)
    throw std::runtime_error(argv[0] + " ended with status " + std::to_string(status) + " (is it installed? see packaging/dependencies)");
}

/// A tool that works on the image in place; its path is put last.
Kind tool(const std::string& name, const std::string& says, const std::vector<std::string>& argv) {
  return {name, says, [argv](const fs::path& image) {
            std::vector<std::string> words = argv;
            words.push_back(image);
            run(words);
          }};
}

/// A tool that writes a file of its own, whose bytes are copied to the image's beginning. `@out` and `@tree` stand for it and for a
/// directory with some files.
Kind archive(const std::string& name, const std::string& says, const std::vector<std::string>& argv) {
  return {name, says, [argv](const fs::path& image) {
            const TempDir temp("corpus");
            const fs::path tree = temp.path() / "tree";
            fs::create_directories(tree / "base/1");
            write_file(tree / "PG_VERSION", "15\n");
            write_file(tree / "base/1/1259", random_bytes(8192));
            std::vector<std::string> words = argv;
            for (std::string& word : words) {
              if (word == "@out") word = temp.path() / "out";
              if (word == "@tree") word = tree;
            }
            run(words);
            poke(image, 0, read_file(temp.path() / "out"));
          }};
}

/// What `kind` leaves when a part of it is then overwritten with zeros.
Kind damaged(const std::string& name, const std::string& says, const Kind& kind, std::int64_t offset, std::size_t count) {
  return {name, says, [put = kind.put, offset, count](const fs::path& image) {
            put(image);
            poke(image, offset, std::string(count, '\0'));
          }};
}

/// UEFI 2.10, 5.3: header and entries at the beginning, and their copy at the end.
void put_gpt(const fs::path& image) {
  std::string entries(128 * 128, '\0');
  over(entries, 0, random_bytes(32));                                 // type and unique GUID
  over(entries, 32, little(2048, 8) + little(size / 512 - 2049, 8));  // first and last LBA
  const std::uint64_t last = size / 512 - 1;
  const auto header = [&](std::uint64_t own, std::uint64_t other, std::uint64_t table) {
    std::string text = "EFI PART"s + little(0x10000, 4) + little(92, 4) + little(0, 8) + little(own, 8) + little(other, 8) + little(34, 8) +
                       little(last - 33, 8) + random_bytes(16) + little(table, 8) + little(128, 4) + little(128, 4) +
                       little(crc32(entries), 4);
    over(text, 16, little(crc32(text), 4));
    return text;
  };
  std::string mbr(512, '\0');
  over(mbr, 446 + 4, "\xee");
  over(mbr, 446 + 8, little(1, 4) + little(last, 4));
  over(mbr, 510, "\x55\xaa");
  poke(image, 0, mbr);
  poke(image, 512, header(1, last, 2));
  poke(image, 1024, entries);
  poke(image, static_cast<std::int64_t>(512 * (last - 32)), entries);
  poke(image, static_cast<std::int64_t>(512 * last), header(last, 1, last - 32));
}

std::string mbr_table() {
  std::string mbr(512, '\0');
  over(mbr, 446 + 4, "\x83");
  over(mbr, 446 + 8, little(2048, 4) + little(size / 512 - 2048, 4));
  over(mbr, 510, "\x55\xaa");
  return mbr;
}

/// md(4): version 1's superblock, which says where it lies.
std::string md_superblock(std::uint64_t offset) {
  std::string text(256, '\0');
  over(text, 0, little(0xa92b4efc, 4) + little(1, 4));
  over(text, 16, random_bytes(16));
  over(text, 32, "node-1:0");
  over(text, 144, little(offset / 512, 8));
  return text;
}

std::string lvm2_label() {
  std::string text(512, '\0');
  over(text, 0, "LABELONE"s + little(1, 8) + little(0, 4) + little(32, 4) + "LVM2 001");
  over(text, 32, "aB3dEf6hIj9lMn2pQr5tUv8xYz1bCd4f");
  return text;
}

std::string stratis_header() {
  std::string text(512, '\0');
  over(text, 4, "!Stra0tis\x86\xff\x02^\x41rh");
  over(text, 20, little(size / 512, 8) + std::string(4, '\1'));
  over(text, 32, "0a1b2c3d4e5f4a6b8c7d9e0f1a2b3c4d" + std::string("1a1b2c3d4e5f4a6b8c7d9e0f1a2b3c4d"));
  over(text, 0, little(crc32(text.substr(4), 0x82F63B78U), 4));
  return text;
}

std::string luks_header(int version, const std::string& magic, std::uint64_t offset) {
  std::string text(512, '\0');
  over(text, 0, magic + big(static_cast<std::uint64_t>(version), 2));
  if (version == 2) {
    over(text, 8, big(16384, 8) + big(1, 8));
    over(text, 168, "0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d");
    over(text, 256, big(offset, 8));
  } else {
    over(text, 8, "aes");
    over(text, 168, "0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d");
  }
  return text;
}

/// A ring of uberblocks in ZFS's first label.
std::vector<Bytes> zfs_label() {
  std::vector<Bytes> parts;
  for (std::int64_t i = 0; i < 32; ++i) {
    const auto n = static_cast<std::uint64_t>(i);
    parts.push_back({128 * 1024 + 1024 * i, little(0x00bab10c, 8) + little(5000, 8) + little(100 + n, 8) + little(7, 8) + little(9, 8)});
  }
  return parts;
}

std::string bitlocker_boot() {
  std::string text(512, '\0');
  over(text, 0, "\xeb\x58\x90-FVE-FS-"s + little(512, 2) + little(8, 1));
  over(text, 160, "\x3b\xd6\x67\x49\x29\x2e\xd8\x4a\x83\x99\xf6\xa3\x39\xe3\xd0\x01"s + little(mebi, 8));
  over(text, 510, "\x55\xaa");
  return text;
}

std::string iso_descriptor() {
  std::string text(2048, '\0');
  over(text, 0, "\x01"s + "CD001" + "\x01");
  over(text, 8, std::string(32, ' ') + "BACKUPS" + std::string(25, ' '));
  return text;
}

std::string befs() {
  std::string text(512, '\0');
  over(text, 0, "data");
  over(text, 32, "1SFB"s + "EGIB" + little(2048, 4) + little(11, 4));
  over(text, 68, little(0xdd121031, 4));
  over(text, 112, little(0x15b6830e, 4));
  return text;
}

/// A page of a PostgreSQL table: header, line pointers at its beginning, tuples at its end.
std::string postgres_pages() {
  std::string text;
  for (std::uint64_t page = 0; page < 64; ++page) {
    std::string bytes(8192, '\0');
    over(bytes, 0, little(0x1a2b3c00 + page, 8) + little(0, 4) + little(40, 2) + little(8000, 2) + little(8192, 2) + little(0x2004, 2));
    over(bytes, 8000, random_bytes(192));
    text += bytes;
  }
  return text;
}

std::string prose() {
  std::string text;
  while (text.size() < 100'000) text += "2026-11-25 02:00:00 UTC [4711] LOG:  checkpoint complete: wrote 42 buffers\n";
  return text;
}

const std::string no_word = "holds data";

std::vector<Kind> filesystems() {
  const Kind ext4 = tool("ext4", "ext4", {"mkfs.ext4", "-q", "-F"});
  const Kind xfs = tool("xfs", "xfs", {"mkfs.xfs", "-q", "-f"});
  const Kind btrfs = tool("btrfs", "btrfs", {"mkfs.btrfs", "-q", "-f"});
  const Kind vfat = tool("vfat", "vfat", {"mkfs.vfat", "-F", "32"});
  const Kind ntfs = tool("ntfs", "ntfs", {"mkfs.ntfs", "-q", "-F", "-Q"});
  const Kind f2fs = tool("f2fs", "f2fs", {"mkfs.f2fs", "-q"});
  const Kind nilfs2 = tool("nilfs2", "nilfs2", {"mkfs.nilfs2", "-q"});
  return {
      ext4,
      xfs,
      btrfs,
      vfat,
      ntfs,
      f2fs,
      nilfs2,
      tool("ext2", "ext2", {"mkfs.ext2", "-q", "-F"}),
      tool("ext3", "ext3", {"mkfs.ext3", "-q", "-F"}),
      tool("an ext4 journal device", "jbd", {"mke2fs", "-q", "-F", "-O", "journal_dev"}),
      tool("exfat", "exfat", {"mkfs.exfat"}),
      tool("jfs", "jfs", {"mkfs.jfs", "-q"}),
      tool("reiserfs", "reiserfs", {"mkfs.reiserfs", "-q", "-f", "-f"}),
      tool("udf", "udf", {"mkfs.udf"}),
      tool("minix", "minix", {"mkfs.minix"}),
      tool("bfs", "bfs", {"mkfs.bfs"}),
      archive("cramfs", "cramfs", {"mkfs.cramfs", "@tree", "@out"}),
      archive("squashfs", "squashfs", {"mksquashfs", "@tree", "@out", "-quiet", "-no-progress"}),
      archive("erofs", "erofs", {"mkfs.erofs", "@out", "@tree"}),
      archive("romfs", "romfs", {"genromfs", "-f", "@out", "-d", "@tree"}),
      damaged("ext4, its first superblock damaged", no_word, ext4, 1024, 1024),
      damaged("ext4, its first block group damaged", no_word, ext4, 0, 512 * 1024),
      damaged("xfs, its first superblock damaged", no_word, xfs, 0, 512),
      damaged("btrfs, its first superblock damaged", no_word, btrfs, 64 * 1024, 4096),
      damaged("vfat, its boot sector damaged", no_word, vfat, 0, 512),
      damaged("ntfs, its boot sector damaged", no_word, ntfs, 0, 512),
      damaged("f2fs, its first superblock damaged", no_word, f2fs, 0, 4096),
      damaged("nilfs2, its first superblock damaged", "nilfs2", nilfs2, 0, 4096),
      signature("hfs", "hfs", {{1024, "BD"s + std::string(18, '\0') + little(4096, 4)}}),
      signature("hfsplus", "hfsplus", {{1024, "H+"s + big(4, 2)}, {1024 + 40, big(4096, 4) + big(size / 4096, 4)}}),
      signature(
          "apfs", "apfs",
          {{0, std::string(8, '\1') + little(1, 8) + little(1, 8) + little(0x80000001, 4) + little(0, 4) + "NXSB" + little(4096, 4)}}),
      signature("ufs", "ufs", {{8192 + 1372, little(0x00011954, 4)}}),
      signature("befs", no_word, {{512, befs()}}),
      signature("vxfs", "vxfs", {{1024, little(0xa501fcf5, 4) + little(4, 4)}}),
      signature("iso9660", "iso9660", {{32768, iso_descriptor()}}),
      signature("gfs2", "gfs2",
                {{65536, big(0x01161970, 4) + big(1, 4) + std::string(8, '\0') + big(100, 4) + big(0, 4) + big(1801, 4) + big(1900, 4)}}),
      signature("ocfs2", "ocfs2", {{8192, "OCFSV2"}}),
      signature("reiser4", "reiser4", {{65536, "ReIsEr4"}}),
      signature("nss", "nss", {{4096, "SPB5"}}),
      signature("zonefs", "zonefs", {{0, "SFOZ"}}),
      signature("a VMFS volume", "VMFS", {{mebi, little(0xc001d00d, 4)}}),
      signature("VMFS", "VMFS", {{2 * mebi, little(0x2fabf15e, 4)}}),
  };
}

std::vector<Kind> layers() {
  const Kind gpt{"gpt", "gpt", put_gpt};
  const auto at = [](std::uint64_t offset) { return static_cast<std::int64_t>(offset); };
  const std::uint64_t md_end = (size / 512 - 16) & ~std::uint64_t{7};  // 1.0: at least 8 KiB from the end, in steps of 4 KiB
  return {
      signature("a partition table", "dos", {{0, mbr_table()}}),
      gpt,
      damaged("gpt, its first header damaged", "gpt", gpt, 512, 512),
      damaged("gpt, its backup only", "gpt", gpt, 0, std::size_t{512} * 34),
      signature("bsd disklabel", no_word, {{512, little(0x82564557, 4)}}),
      signature("sun disklabel", no_word, {{508, big(0xdabe, 2)}}),
      signature("mac partition map", "mac", {{0, "ER"s + big(512, 2)}, {512, "PM"s + big(0, 2) + big(1, 4)}}),
      tool("swap", "swap", {"mkswap"}),
      signature("a suspended system", "swsuspend", {{4086, "S1SUSPEND"}}),
      signature("RAID 0.90", "linux_raid_member",
                {{at((size & ~std::uint64_t{65535}) - 65536), little(0xa92b4efc, 4) + little(0, 4) + little(90, 4)}}),
      signature("RAID 1.0", "linux_raid_member", {{at(512 * md_end), md_superblock(512 * md_end)}}),
      signature("RAID 1.1", "linux_raid_member", {{0, md_superblock(0)}}),
      signature("RAID 1.2", "linux_raid_member", {{4096, md_superblock(4096)}}),
      signature("DDF RAID", "ddf_raid_member",
                {{-512, big(0xde11de11, 4) + std::string(4, '\0') + "Linux-MD0123456789abcdef" + "02.00.00"}}),
      signature("Intel RAID", "isw_raid_member", {{-1024, "Intel Raid ISM Cfg Sig. 1.2.00"}}),
      signature("LSI RAID", "lsi_mega_raid_member", {{-512, "$XIDE$"}}),
      signature("NVIDIA RAID", "nvidia_raid_member", {{-1024, "NVIDIA  "s + little(30, 4) + little(0, 4) + little(100, 2)}}),
      signature("Promise RAID", "promise_fasttrack_raid_member", {{-63 * 512, "Promise Technology, Inc."}}),
      signature("HighPoint RAID", "hpt37x_raid_member", {{4608, std::string(32, '\0') + little(0x5a7816f0, 4)}}),
      signature("LVM2", "LVM2_member", {{512, lvm2_label()}}),
      signature("LVM1", "LVM1_member", {{0, "HM"s + little(1, 2)}}),
      signature("an LVM snapshot", "DM_snapshot_cow", {{0, "SnAp"s + little(1, 4) + little(1, 4) + little(16, 4)}}),
      signature("dm-verity", "DM_verity_hash", {{0, "verity\0\0"s + little(1, 4) + little(1, 4)}}),
      signature("VDO", "vdo", {{0, "dmvdo001"}}),
      signature("Stratis", "stratis", {{512, stratis_header()}}),
      signature("LUKS 1", "crypto_LUKS", {{0, luks_header(1, "LUKS\xba\xbe", 0)}}),
      signature("LUKS 2", "crypto_LUKS", {{0, luks_header(2, "LUKS\xba\xbe", 0)}}),
      signature("LUKS 2, its second header only", "crypto_LUKS", {{16384, luks_header(2, "SKUL\xba\xbe", 16384)}}),
      signature("BitLocker", "BitLocker", {{0, bitlocker_boot()}, {mebi, "-FVE-FS-"s + little(64, 2) + little(2, 2)}}),
      signature("bcache", "bcache",
                {{4096, little(0, 8) + little(8, 8) + little(1, 8) + "\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"}}),
      signature("ZFS", "zfs_member", zfs_label()),
      signature("Ceph BlueStore", "ceph_bluestore", {{0, "bluestore block device\n0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d\n"}}),
      signature("Oracle ASM", "oracleasm", {{32, "ORCLDISKDATA0001"}}),
      signature("DRBD", "drbd",
                {{-4096, big(size / 512 - 8, 8) + random_bytes(40) + std::string(8, '\0') + big(0, 4) + big(0x8374026b, 4) + big(8, 4)}}),
  };
}

std::vector<Kind> plain_data() {
  return {
      signature("random bytes in the first MiB", no_word, {{0, random_bytes(mebi)}}),
      signature("random bytes in the last MiB", no_word, {{-mebi, random_bytes(mebi)}}),
      signature("one byte in the middle", no_word, {{corpus_size / 2 + 123, "x"}}),
      signature("the last byte", no_word, {{-1, "x"}}),
      signature("one bit behind zeros", no_word, {{0, std::string(mebi, '\0')}, {mebi, "\x01"}}),
      signature("pages of a database", no_word, {{0, postgres_pages()}}),
      signature("text", no_word, {{0, prose()}}),
      signature("a SQLite file", no_word, {{0, "SQLite format 3\0\x10\0\1\1\0"s + random_bytes(4000)}}),
      archive("a tar archive", no_word, {"tar", "-cf", "@out", "-C", "/", "etc/passwd", "etc/hosts"}),
      archive("a gzip file", no_word, {"tar", "-czf", "@out", "-C", "/", "etc/passwd"}),
  };
}

}  // namespace

const std::vector<Kind>& corpus() {
  static const std::vector<Kind> kinds = [] {
    std::vector<Kind> all = filesystems();
    for (auto&& more : {layers(), plain_data()}) all.insert(all.end(), more.begin(), more.end());
    return all;
  }();
  return kinds;
}

void poke(const fs::path& file, std::int64_t offset, std::string_view bytes) {
  const int fd = ::open(file.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) throw std::system_error(errno, std::generic_category(), "open " + file.string());
  struct stat info{};
  bool good = ::fstat(fd, &info) == 0;
  const off_t begin = offset < 0 ? info.st_size + offset : offset;
  good = good && ::pwrite(fd, bytes.data(), bytes.size(), begin) == static_cast<ssize_t>(bytes.size()) && ::fsync(fd) == 0;
  ::close(fd);
  if (!good) throw std::runtime_error("can't write into " + file.string());
}

std::uint64_t digest_of(const fs::path& file) {
  const int fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw std::system_error(errno, std::generic_category(), "open " + file.string());
  std::uint64_t digest = fs::file_size(file);
  const auto mix = [&](std::uint64_t value) { digest = (digest ^ value) * 0x9E3779B97F4A7C15U + (digest >> 29); };
  std::vector<std::uint64_t> words(131072);
  for (off_t at = 0; (at = ::lseek(fd, at, SEEK_DATA)) >= 0;) {
    const off_t end = ::lseek(fd, at, SEEK_HOLE);
    while (at < end) {
      const auto wanted = std::min(static_cast<std::size_t>(end - at), words.size() * 8);
      const ssize_t got = ::pread(fd, words.data(), wanted, at);
      if (got <= 0) throw std::runtime_error("can't read " + file.string());
      const auto count = static_cast<std::size_t>(got) / 8;
      for (std::size_t i = 0; i < count; ++i)
        if (words[i] != 0) {
          mix(static_cast<std::uint64_t>(at) + 8 * i);
          mix(words[i]);
        }
      at += got;
    }
  }
  ::close(fd);
  return digest;
}

}  // namespace ordinald::testing
