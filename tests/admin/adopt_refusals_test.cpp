// What can't become a volume, each with what to do; and what has to be copied first.
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <memory>

#include "tests/admin/adopt_rig.hpp"

namespace ordinald::testing {
namespace {

/// Bytes in the middle of a file.
void overwrite(const fs::path& path, std::int64_t offset, const std::string& bytes) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  REQUIRE(::pwrite(fd, bytes.data(), bytes.size(), offset) == static_cast<ssize_t>(bytes.size()));
  ::close(fd);
}

/// A block device that is no loop device, with a node of its own: /dev may not follow the kernel here.
class MemoryDisk {
 public:
  /// Nothing: the kernel makes none.
  static std::unique_ptr<MemoryDisk> make(const fs::path& node, std::int64_t size) {
    std::ifstream add{"/sys/class/zram-control/hot_add"};
    int number = -1;
    if (!(add >> number)) {
      return nullptr;
    }
    std::unique_ptr<MemoryDisk> disk{new MemoryDisk{number, node}};
    const fs::path sysfs = "/sys/block/zram" + std::to_string(number);
    std::ofstream{sysfs / "disksize"} << size;
    unsigned major_number = 0;
    unsigned minor_number = 0;
    REQUIRE(std::sscanf(read_file(sysfs / "dev").c_str(), "%u:%u", &major_number, &minor_number) == 2);
    REQUIRE(::mknod(node.c_str(), S_IFBLK | 0600, makedev(major_number, minor_number)) == 0);
    return disk;
  }
  MemoryDisk(const MemoryDisk&) = delete;
  MemoryDisk& operator=(const MemoryDisk&) = delete;
  ~MemoryDisk() { std::ofstream{"/sys/class/zram-control/hot_remove"} << number_; }
  [[nodiscard]] const fs::path& node() const { return node_; }

 private:
  MemoryDisk(int number, fs::path node) : number_(number), node_(std::move(node)) {}
  int number_;
  fs::path node_;
};

}  // namespace

TEST_CASE("admin: what can't be adopted is shown, with each reason and what to do, and left as it is", "[admin][root]") {
  AdoptRig rig;
  const fs::path file = rig.root() / "a.img";
  CHECK(rig.post({{"path", file.string()}}).status == 404);
  for (const json& body : {json{{"path", "a.img"}}, json{{"path", (rig.root() / "x/../a.img").string()}},
                           json{{"path", file.string()}, {"namespace", "host"}}, json{{"path", file.string()}, {"identity", "ordinal"}},
                           json{{"path", file.string()}, {"identity", "all"}}, json{{"path", file.string()}, {"dryRun", "no"}},
                           json{{"path", file.string()}, {"force", true}}, json{{"path", file.string()}, {"name", std::string(200, 'x')}}})
    CHECK(rig.post(body).status == 400);
  make_image(file, "ext4");
  CHECK(rig.post({{"path", file.string()}, {"pool", "fast"}}).status == 400);
  const fs::path before = copy_of(file);

  SECTION("another kind of file") {
    fs::create_symlink(file, rig.root() / "link");
    CHECK_THAT(rig.refusals(rig.root() / "link"), Contains("symlink") && Contains("readlink -f"));
    CHECK_THAT(rig.refusals(rig.root() / "tree"), Contains("neither a file nor a block device"));
  }
  SECTION("a file with another name") {
    fs::create_hard_link(file, rig.root() / "b.img");
    const std::string why = rig.refusals(file);
    CHECK_THAT(why, Contains("2 names"));
    const fs::path names = rig.root() / "names";
    const auto begin = why.find("find \"");
    REQUIRE(begin != std::string::npos);
    REQUIRE(run_shell(why.substr(begin, why.find(")\n", begin) - begin) + " > " + names.string()) == 0);
    CHECK_THAT(read_file(names), Contains(file.string() + "\n") && Contains((rig.root() / "b.img").string() + "\n"));
    fs::remove(rig.root() / "b.img");
  }
  SECTION("a file that somebody has open") {
    const int fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
    CHECK_THAT(rig.refusals(file), Contains("in use") && Contains("fuser"));
    ::close(fd);
    CHECK(rig.plan({{"path", file.string()}})["refusals"] == json::array());
  }
  SECTION("a file that is attached and mounted, and its loop device") {
    fs::create_directory(rig.root() / "m");
    REQUIRE(run_tool({"mount", "-o", "loop", file, rig.root() / "m"}) == 0);
    const std::string why = rig.refusals(file);
    CHECK_THAT(why, Contains("attached as /dev/loop") && Contains("umount " + (rig.root() / "m").string()));
    const std::string loop = why.substr(why.find("/dev/loop"), why.find_first_of(",:", why.find("/dev/loop")) - why.find("/dev/loop"));
    CHECK_THAT(rig.refusals(loop), Contains("in use: it is mounted: umount " + (rig.root() / "m").string()));
    REQUIRE(run_tool({"umount", rig.root() / "m"}) == 0);
    return;
  }
  SECTION("what is no filesystem of ours") {
    const fs::path odd = rig.root() / "odd.img";
    write_file(odd, "");
    CHECK_THAT(rig.refusals(odd), Contains("empty"));
    fs::resize_file(odd, 16 * mebi);
    CHECK_THAT(rig.refusals(odd), Contains("no filesystem that is known"));
    overwrite(odd, 0, std::string("LUKS\xba\xbe\0\1", 8) + std::string(200, '\0'));
    CHECK_THAT(rig.refusals(odd), Contains("crypto_LUKS"));
    fs::remove(odd);
    REQUIRE(run_shell("truncate -s 16M " + odd.string() + " && mke2fs -q -t ext2 " + odd.string()) == 0);
    CHECK_THAT(rig.refusals(odd), Contains("ext2"));
    std::string entry(66, '\0');
    entry[4] = '\x83';
    entry[8] = 1;
    entry[13] = 1;
    entry[64] = '\x55';
    entry[65] = '\xaa';
    fs::remove(odd);
    write_file(odd, std::string(16 * mebi, '\0'));
    overwrite(odd, 446, entry);
    CHECK_THAT(rig.refusals(odd), Contains("(losetup --find --show --partscan --read-only " + odd.string() + ")"));
    // A partition table in the first sector, which ext4 leaves alone.
    make_image(odd, "ext4", "22222222-3c5d-4f0e-9a53-0b7f2f6c1d11");
    overwrite(odd, 446, entry);
    CHECK_THAT(rig.refusals(odd), Contains("contradict") && Contains("dos (partition-table") && Contains("ext4 (filesystem"));
  }
  SECTION("a damaged one, and one that was cut short") {
    const fs::path damaged = rig.root() / "damaged.img";
    make_image(damaged, "ext4", "22222222-3c5d-4f0e-9a53-0b7f2f6c1d11");
    overwrite(damaged, 4096, std::string(4096, '\xee'));  // the group descriptors
    overwrite(damaged, 2048, std::string(2048, '\xee'));
    CHECK_THAT(rig.refusals(damaged), Contains("can't be read as it is") && Contains("e2fsck"));
    const fs::path cut = rig.root() / "cut.img";
    make_image(cut, "ext4", "33333333-3c5d-4f0e-9a53-0b7f2f6c1d11");
    fs::resize_file(cut, static_cast<std::uintmax_t>(size_for("ext4") / 2));
    CHECK_THAT(rig.refusals(cut), Contains("cut short"));
    make_image(cut, "ext4", "33333333-3c5d-4f0e-9a53-0b7f2f6c1d11");
    fs::resize_file(cut, static_cast<std::uintmax_t>(size_for("ext4") + 100));
    CHECK_THAT(rig.refusals(cut), Contains("truncate --size=%4096 " + cut.string()));
    REQUIRE(run_shell("truncate --size=%4096 " + cut.string()) == 0);
    CHECK(rig.plan({{"path", cut.string()}})["refusals"] == json::array());
  }
  SECTION("one whose journal is elsewhere") {
    const fs::path journal = rig.root() / "journal";
    const fs::path odd = rig.root() / "odd.img";
    write_file(journal, "");
    fs::resize_file(journal, 16 * mebi);
    write_file(odd, "");
    fs::resize_file(odd, 64 * mebi);
    REQUIRE(run_shell("mke2fs -q -O journal_dev -b 4096 " + journal.string() + " && j=$(losetup --find --show " + journal.string() +
                      ") && blockdev --setrw $j && mkfs.ext4 -q -b 4096 -J device=$j " + odd.string() +
                      "; made=$?; losetup -d $j; exit $made") == 0);
    CHECK_THAT(rig.refusals(odd), Contains("journal of its ext4 is on another device") && Contains("tune2fs -O ^has_journal"));
    // Without any journal it is whole.
    fs::resize_file(odd, 0);
    fs::resize_file(odd, 64 * mebi);
    REQUIRE(run_shell("mkfs.ext4 -q -O ^has_journal " + odd.string()) == 0);
    CHECK(rig.plan({{"path", odd.string()}})["refusals"] == json::array());
    fs::resize_file(odd, 0);
    fs::resize_file(odd, 320 * mebi);
    fs::resize_file(journal, 64 * mebi);
    REQUIRE(run_shell("mkfs.xfs -q -l logdev=" + journal.string() + ",size=64m " + odd.string()) == 0);
    CHECK_THAT(rig.refusals(odd), Contains("journal of its xfs is on another device"));
  }
  SECTION("more than the pool can promise") {
    fs::resize_file(file, std::uintmax_t{1} << 42U);
    CHECK_THAT(rig.refusals(file), Contains("can't promise"));
    fs::resize_file(file, static_cast<std::uintmax_t>(size_for("ext4")));
  }
  SECTION("names that others have") {
    const auto capability = mount_capability(single_node_single_writer, "ext4");
    const std::string other = rig.create("pg", capability, 16 * mebi,
                                         {{"csi.storage.k8s.io/pvc/namespace", "prod"}, {"csi.storage.k8s.io/pvc/name", "data-db-0"}});
    CHECK_THAT(rig.refusals(file, {{"name", "pg"}}), Contains(other) && Contains("--name"));
    CHECK_THAT(rig.refusals(file, {{"namespace", "prod"}, {"claim", "data-db-0"}}), Contains(other) && Contains("rebind"));
  }
  SECTION("the agent's own files, and copies of them") {
    const std::string id = rig.create("v", mount_capability(single_node_single_writer, "ext4"), 16 * mebi);
    CHECK(rig.refusals(rig.image_of(id)) ==
          "it is the image of volume " + id + ": a volume already, in its place (ordinalctl show " + id + ")\n");
    CHECK_THAT(rig.refusals(rig.record_of(id)), Contains("agent's own"));
    const fs::path marked = rig.root() / "marked.img";
    make_image(marked, "ext4", "22222222-3c5d-4f0e-9a53-0b7f2f6c1d11");
    REQUIRE(::setxattr(marked.c_str(), "trusted.ordinald.volume", id.data(), id.size(), 0) == 0);
    CHECK_THAT(rig.refusals(marked), Contains("setfattr -x trusted.ordinald.volume " + marked.string()));
    // Of a volume that nobody knows here any more, the mark counts for nothing.
    REQUIRE(::setxattr(marked.c_str(), "trusted.ordinald.volume", "gone-01234567", 13, 0) == 0);
    CHECK(rig.plan({{"path", marked.string()}})["refusals"] == json::array());
  }
  SECTION("a copy of what was adopted before") {
    const fs::path copy = rig.root() / "copy.img";
    REQUIRE(run_tool({"cp", "--sparse=always", file, copy}) == 0);
    const std::string id = rig.adopt(file)["volume"]["id"];
    CHECK_THAT(rig.refusals(copy), Contains(id) && Contains("same UUID") && Contains("tune2fs -U random"));
    REQUIRE(run_shell("e2fsck -f -p " + copy.string() + " >/dev/null && tune2fs -U random " + copy.string()) == 0);
    CHECK(rig.adopt(copy)["volume"]["id"] != id);
    return;
  }
  CHECK(same(file, before));
  CHECK(rig.adopt(file, {{"name", "at last"}})["volume"]["name"] == "at last");
}

TEST_CASE("admin: an image that has no room for its label is told of", "[admin][root]") {
  AdoptRig rig;
  const fs::path disk = rig.root() / "disk";
  const fs::path place = rig.root() / "ext4";
  write_file(disk, "");
  fs::resize_file(disk, 256 * mebi);
  fs::create_directory(place);
  // A loop's number may bear the read-only flag of an owner that was killed.
  REQUIRE(run_shell("mkfs.ext4 -q -b 4096 " + disk.string() + " && d=$(losetup --find --show " + disk.string() +
                    ") && { blockdev --setrw $d && mount $d " + place.string() + "; made=$?; losetup -d $d; exit $made; }") == 0);
  rig.agent().configuration()["pools"] = {{{"name", "ext4"}, {"directory", place}}};
  rig.agent().stop();
  rig.agent().start();
  const std::string attributes(3800, 'x');  // of the 4 KiB that an ext4 has for all of a file's

  const std::string id = rig.create("v", mount_capability(single_node_single_writer, "ext4"), 16 * mebi);
  const fs::path image = place / (id + ".img");
  const std::string rebind = "/v1/volumes/" + id + "/rebind";
  const fs::path socket = rig.root() / "run/admin.sock";
  CHECK(admin_post(socket, rebind, {{"namespace", "prod"}, {"claim", "data-db-0"}}).body["note"] == "");
  REQUIRE(::removexattr(image.c_str(), "trusted.ordinald.label") == 0);
  REQUIRE(::setxattr(image.c_str(), "user.mine", attributes.data(), attributes.size(), 0) == 0);
  const AdminReply rebound = admin_post(socket, rebind, {{"namespace", "prod"}, {"claim", "data-db-1"}});
  CHECK(rebound.status == 200);
  CHECK(rebound.body["claim"] == "prod/data-db-1");
  CHECK_THAT(rebound.body["note"].get<std::string>(), Contains("has no label, for want of room") && Contains(image.string()));
  CHECK_THAT(rig.agent().log(), Contains("volume " + id + ": its image has no label, for want of room"));
  CHECK(rig.record(id)["labelStale"] == false);

  // A file that is to be adopted needs it at once: it is refused.
  const fs::path file = place / "mine.img";
  make_image(file, "ext4");
  REQUIRE(::setxattr(file.c_str(), "user.mine", attributes.data(), attributes.size(), 0) == 0);
  const AdminReply refused = rig.post({{"path", file.string()}});
  CHECK(refused.status == 409);
  CHECK_THAT(refused.message(), Contains("no room for it"));
  REQUIRE(::removexattr(file.c_str(), "user.mine") == 0);
  CHECK(rig.adopt(file)["note"] == "");
}

TEST_CASE("admin: what has to be copied first: by a command that is shown, or, a block device, by ordinalctl", "[admin][root]") {
  AdoptRig rig;
  const fs::path elsewhere = rig.root() / "elsewhere";
  fs::create_directory(elsewhere);
  REQUIRE(::mount("none", elsewhere.c_str(), "tmpfs", 0, "size=64m") == 0);
  const fs::path file = elsewhere / "it's old.img";
  make_image(file, "ext4");
  const auto command_in = [](const std::string& text, const std::string& begins) {
    const auto at = text.find(begins);
    REQUIRE(at != std::string::npos);
    const auto end = text.find(" && ordinalctl adopt ", at);
    REQUIRE(end != std::string::npos);
    return text.substr(at, end - at);
  };

  SECTION("a file") {
    const std::string why = rig.refusals(file, {{"namespace", "prod"}, {"claim", "data-db-0"}, {"identity", "claim"}, {"pool", "default"}});
    CHECK_THAT(why,
               Contains("not on the file system of pool default") && Contains(" --claim prod/data-db-0 --identity claim --pool default"));
    const std::string copy = command_in(why, "[ ! -e ");
    REQUIRE(run_shell(copy) == 0);
    CHECK(fs::exists(file));
    CHECK(run_shell(copy) != 0);  // what is there already may be another's
    const json adopted = rig.adopt(rig.pool() / "it's old.img", {{"namespace", "prod"}, {"claim", "data-db-0"}});
    CHECK(adopted["volume"]["claim"] == "prod/data-db-0");
    CHECK(adopted["volume"]["identity"] == "none");
    CHECK(adopted["volume"]["name"] == "prod.data-db-0");
  }
  SECTION("a block device") {
    const auto disk = MemoryDisk::make(rig.root() / "disk1", size_for("ext4"));
    if (!disk) {
      std::printf("SKIPPED: no block device can be made here (zram)\n");
      return;
    }
    const fs::path& node = disk->node();
    // Made there: such a disk has blocks of 4096 bytes, and the filesystem can't have smaller ones.
    REQUIRE(run_tool({"mkfs.ext4", "-q", "-F", "-U", uuid, "-d", elsewhere / "tree", node}) == 0);
    const json planned = rig.plan({{"path", node.string()}});
    CHECK(planned["holds"]["kind"] == "block device");
    CHECK(planned["holds"]["type"] == "ext4");
    CHECK(planned["holds"]["uuid"] == uuid);
    CHECK(std::ranges::find(planned["holds"]["names"], json("db")) != planned["holds"]["names"].end());
    fs::create_directory(rig.root() / "m");
    REQUIRE(::mount(node.c_str(), (rig.root() / "m").c_str(), "ext4", MS_RDONLY, nullptr) == 0);
    CHECK_THAT(rig.refusals(node), Contains("in use: it is mounted: umount " + (rig.root() / "m").string()));
    REQUIRE(::umount2((rig.root() / "m").c_str(), 0) == 0);
    const json copy = rig.plan({{"path", node.string()}})["copy"];
    CHECK(copy["file"] == (rig.pool() / ".disk1+copy.img.new").string());
    CHECK(copy["keepFree"] > 0);
    const AdminReply direct = rig.post({{"path", node.string()}});
    CHECK(direct.status == 409);
    CHECK_THAT(direct.message(), Contains("block device") && Contains("ordinalctl adopt " + node.string() + " --yes"));
    const fs::path copied = copy["file"].get<std::string>();
    REQUIRE(run_tool({"cp", "--sparse=always", node, copied}) == 0);
    // By its own name alone it is not taken, nor as another device's, nor with another filesystem than was seen.
    CHECK_THAT(rig.refusals(copied), Contains("perhaps not all of it"));
    CHECK_THAT(rig.refusals(copied, {{"copyOf", "/dev/other"}}), Contains("not what a copy of /dev/other is called"));
    CHECK_THAT(rig.refusals(copied, {{"copyOf", node.string()}, {"uuid", "22222222-3c5d-4f0e-9a53-0b7f2f6c1d11"}}),
               Contains(std::string{uuid} + ", and 22222222"));
    CHECK_THAT(rig.refusals(node, {{"copyOf", node.string()}}), Contains("no copy of one"));
    const json how{{"copyOf", node.string()}, {"uuid", uuid}, {"namespace", "host"}, {"claim", "data-db-0"}};
    const std::string id = rig.adopt(copied, how)["volume"]["id"];
    CHECK_FALSE(fs::exists(copied));
    CHECK(rig.record(id)["adoptedFrom"] == node.string());
    // The device is still there, and known to be a volume.
    CHECK(rig.plan({{"path", node.string()}, {"namespace", "host"}, {"claim", "data-db-0"}})["volume"]["id"] == id);
    CHECK_THAT(rig.refusals(node, {{"name", "other"}}), Contains("same UUID"));
    CHECK(data_in(rig, id, "ext4") == "precious");
  }
}

}  // namespace ordinald::testing
