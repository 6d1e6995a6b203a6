// What is special to the real kernel's images, loop devices and probes; the contract that all kernels share is in kernel_contract_*.
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <fstream>
#include <set>
#include <vector>

#include "mount/unique_fd.hpp"
#include "tests/mount/linux_node.hpp"
#include "tests/support/mount_namespace.hpp"

using namespace ordinald::mount;
using namespace ordinald::testing;

namespace {

constexpr std::uint64_t mib = LinuxNode::mib;

UniqueFd open_file(const std::string& path, int flags) {
  UniqueFd fd{::open(path.c_str(), flags | O_CLOEXEC)};
  INFO(path);
  REQUIRE(fd);
  return fd;
}

void write_at(const std::string& path, std::uint64_t offset, std::string_view bytes) {
  const UniqueFd fd = open_file(path, O_WRONLY);
  REQUIRE(::pwrite(fd.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset)) == static_cast<ssize_t>(bytes.size()));
}

loop_info64 status_of(const std::string& path) {
  const UniqueFd fd = open_file(path, O_RDONLY);
  loop_info64 info{};
  REQUIRE(::ioctl(fd.get(), LOOP_GET_STATUS64, &info) == 0);
  return info;
}

/// A loop on the image that somebody else has made; answers its path. The caller holds its descriptor.
std::string foreign_loop(const ImageRef& image, std::uint32_t flags, std::uint64_t offset, UniqueFd& held) {
  const UniqueFd control = open_file("/dev/loop-control", O_RDWR);
  const UniqueFd file = open_file(LinuxNode::path_of(image), O_RDWR);
  for (int tries = 0; tries < 100; ++tries) {
    const std::string path = "/dev/loop" + std::to_string(::ioctl(control.get(), LOOP_CTL_GET_FREE, 0));
    held = open_file(path, O_RDWR);
    loop_config config{};
    config.fd = static_cast<__u32>(file.get());
    config.block_size = 4096;
    config.info.lo_flags = flags;
    config.info.lo_offset = offset;
    if (::ioctl(held.get(), LOOP_CONFIGURE, &config) == 0) {
      return path;
    }
  }
  FAIL("no free loop");
  return {};
}

void read_through(const std::string& path) {
  const UniqueFd fd = open_file(path, O_RDONLY);
  std::vector<char> buffer(mib);
  while (::read(fd.get(), buffer.data(), buffer.size()) > 0) {
  }
}

}  // namespace

TEST_CASE("an image that can't be looked at costs its pool nothing but itself", "[root]") {
  LinuxNode node;
  must(node.kernel().create_image({.image = node.image("v"), .size = mib}));
  const std::string bad = node.pool() + "/bad.img";
  std::ofstream{bad} << "x";
  const std::string too_long(2000, 'x');
  REQUIRE(::setxattr(bad.c_str(), "trusted.ordinald.volume", too_long.data(), too_long.size(), 0) == 0);
  const PoolUsage usage = must(node.kernel().inspect_pool(node.pool()));
  REQUIRE(usage.images.size() == 2);
  for (const PoolImage& image : usage.images) {
    CHECK(image.trouble.empty() == (image.file == "v.img"));
    CHECK(image.volume_id == (image.file == "v.img" ? "v" : ""));
  }
}

TEST_CASE("processes that attach different images at once all get a device of their own", "[root]") {
  LinuxNode node;
  constexpr std::size_t processes = 8;
  constexpr std::size_t images = 5;
  for (std::size_t i = 0; i < processes * images; ++i) {
    must(node.kernel().create_image({.image = node.image("v" + std::to_string(i)), .size = mib, .thick = false}));
  }
  std::vector<pid_t> children;
  for (std::size_t process = 0; process < processes; ++process) {
    const pid_t pid = ::fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
      bool well = true;
      for (std::size_t i = 0; i < images; ++i) {
        well = well && node.kernel().attach(node.image("v" + std::to_string(process * images + i)), 4096).has_value();
      }
      ::_exit(well ? 0 : 1);
    }
    children.push_back(pid);
  }
  for (const pid_t pid : children) {
    int status = 0;
    REQUIRE(::waitpid(pid, &status, 0) == pid);
    CHECK(status == 0);
  }
  std::set<std::uint64_t> numbers;
  for (std::size_t i = 0; i < processes * images; ++i) {
    const auto device = must(node.kernel().find_attached(node.image("v" + std::to_string(i))));
    REQUIRE(device);
    numbers.insert(device->number);
    must(node.kernel().detach(*device));
  }
  CHECK(numbers.size() == processes * images);
}

TEST_CASE("an image that somebody merely has open is attached all the same, and only once", "[root]") {
  LinuxNode node;
  const auto image = node.image("open");
  must(node.kernel().create_image({.image = image, .size = mib, .thick = false}));
  const UniqueFd open_elsewhere = open_file(LinuxNode::path_of(image), O_RDWR);
  CHECK_FALSE(must(node.kernel().find_attached(image)));
  const auto device = must(node.kernel().attach(image, 4096));
  CHECK(must(node.kernel().attach(image, 4096)).number == device.number);
}

TEST_CASE("a loop that was made on another name of the image is used", "[root]") {
  LinuxNode node;
  const auto image = node.image("linked");
  must(node.kernel().create_image({.image = image, .size = mib, .thick = false}));
  const auto rescue = node.image("rescue");
  REQUIRE(::link(LinuxNode::path_of(image).c_str(), LinuxNode::path_of(rescue).c_str()) == 0);
  UniqueFd held;
  const std::string path = foreign_loop(rescue, 0, 0, held);
  held.reset();
  CHECK(must(node.kernel().attach(image, 4096)).path == path);
}

TEST_CASE("a loop that somebody else made on the image is used, and no longer goes away by itself", "[root]") {
  LinuxNode node;
  const auto image = node.image("auto");
  must(node.kernel().create_image({.image = image, .size = mib, .thick = false}));
  UniqueFd held;
  SECTION("autoclear") {
    const std::string path = foreign_loop(image, LO_FLAGS_AUTOCLEAR, 0, held);
    const auto device = must(node.kernel().attach(image, 4096));
    CHECK(device.path == path);
    held.reset();
    CHECK(must(node.kernel().inspect_device(device)).size == mib);
    CHECK((status_of(path).lo_flags & LO_FLAGS_AUTOCLEAR) == 0);
  }
  SECTION("another block size") {
    foreign_loop(image, LO_FLAGS_AUTOCLEAR, 0, held);
    CHECK(refused(node.kernel().attach(image, 512), ErrorCode::failed_precondition).find("4096") != std::string::npos);
  }
  SECTION("a part of the image") {
    foreign_loop(image, LO_FLAGS_AUTOCLEAR, 4096, held);
    refused(node.kernel().attach(image, 4096), ErrorCode::failed_precondition);
  }
  SECTION("read-only") {
    foreign_loop(image, LO_FLAGS_AUTOCLEAR | LO_FLAGS_READ_ONLY, 0, held);
    refused(node.kernel().attach(image, 4096), ErrorCode::failed_precondition);
  }
}

TEST_CASE("images work on tmpfs, overlay, ext4, xfs and btrfs, thin and thick, with both block sizes", "[root]") {
  const std::string kind = GENERATE("tmpfs", "overlay", "ext4", "xfs", "btrfs");
  const std::uint32_t block_size = GENERATE(512U, 4096U);
  const bool thick = GENERATE(false, true);
  CAPTURE(kind, block_size, thick);
  LinuxNode node;
  const std::string pool = node.work("inner");
  std::filesystem::create_directories(pool);
  if (kind == "tmpfs") {
    REQUIRE(::mount("none", pool.c_str(), "tmpfs", 0, "size=64m") == 0);
  } else if (kind == "overlay") {
    // tmpfs below: the machine's own /tmp may be an overlay already, which can't be a layer.
    const std::string layers = node.work("layers");
    std::filesystem::create_directories(layers);
    REQUIRE(::mount("none", layers.c_str(), "tmpfs", 0, "size=64m") == 0);
    for (const char* name : {"/lower", "/upper", "/worker"}) {
      std::filesystem::create_directories(layers + name);
    }
    const std::string options = "lowerdir=" + layers + "/lower,upperdir=" + layers + "/upper,workdir=" + layers + "/worker";
    REQUIRE(::mount("none", pool.c_str(), "overlay", 0, options.c_str()) == 0);
  } else {
    must(node.mount(node.volume("outer", kind), "inner"));
  }
  const auto image = LinuxNode::image_in(pool, "v");
  const auto device = node.attached(image, 20 * mib, thick, block_size);
  CHECK(device.size == 20 * mib);
  CHECK(device.block_size == block_size);
  if (kind != "tmpfs" && kind != "overlay" && block_size == 4096) {  // the blocks of what lies below
    CHECK(read_file("/sys/block/" + device.path.substr(5) + "/loop/dio") == "1\n");
  }
  CHECK(must(node.kernel().attach(image, block_size)).diskseq == device.diskseq);
  const auto info = must(node.kernel().inspect_image(image));
  REQUIRE(info);
  CHECK(info->device == device.backing_device);
  CHECK(info->inode == device.backing_inode);
  if (thick) {
    CHECK(info->allocated >= 20 * mib);
  }
  const ProbeRequest probe{.device = device, .proof = BlankProof::all_zero, .image = image};
  CHECK(must(node.kernel().probe(probe)).blank);
  write_at(device.path, 10 * mib, "data");
  CHECK_FALSE(must(node.kernel().probe(probe)).blank);
  must(node.kernel().erase(device, thick));
  CHECK(must(node.kernel().probe(probe)).blank);
  if (thick) {
    CHECK(must(node.kernel().inspect_image(image))->allocated >= 20 * mib);
  }
  must(node.kernel().detach(device));
  must(node.kernel().remove_image(image));
}

TEST_CASE("pools on subvolumes of one btrfs are told to be on one file system", "[root]") {
  LinuxNode node;
  const std::string top = node.work("top");
  std::filesystem::create_directories(top);
  must(node.mount(node.volume("outer", "btrfs"), "top"));
  LinuxNode::run("btrfs subvolume create " + top + "/one");
  LinuxNode::run("btrfs subvolume create " + top + "/two");
  const PoolUsage one = must(node.kernel().inspect_pool(top + "/one"));
  const PoolUsage two = must(node.kernel().inspect_pool(top + "/two"));
  CHECK(one.device != two.device);
  CHECK(one.filesystem == two.filesystem);
  CHECK(must(node.kernel().inspect_pool(node.pool())).filesystem != one.filesystem);
}

TEST_CASE("a thick image that finds no room leaves nothing, and one that can't grow keeps its size", "[root]") {
  LinuxNode node;
  const std::string pool = node.work("small");
  std::filesystem::create_directories(pool);
  must(node.mount(node.volume("outer", "ext4", '1', 64 * mib), "small"));
  const auto image = LinuxNode::image_in(pool, "v");
  refused(node.kernel().create_image({.image = image, .size = 100 * mib, .thick = true}), ErrorCode::resource_exhausted);
  CHECK(must(node.kernel().inspect_pool(pool)).images.empty());
  CHECK_FALSE(std::filesystem::exists(pool + "/.v.img.new"));
  must(node.kernel().create_image({.image = image, .size = 8 * mib, .thick = true}));
  const auto free = must(node.kernel().inspect_pool(pool)).free;
  refused(node.kernel().resize_image({.image = image, .size = 100 * mib, .thick = true}), ErrorCode::resource_exhausted);
  CHECK(must(node.kernel().inspect_image(image))->size == 8 * mib);
  CHECK(must(node.kernel().inspect_pool(pool)).free + mib > free);
}

TEST_CASE("what a crash leaves of a creation is replaced", "[root]") {
  LinuxNode node;
  const auto image = node.image("v");
  write_file(node.pool() + "/.v.img.new", "half");
  must(node.kernel().create_image({.image = image, .size = mib, .thick = false}));
  CHECK_FALSE(std::filesystem::exists(node.pool() + "/.v.img.new"));
  CHECK(must(node.kernel().inspect_image(image))->volume_id == "v");
}

TEST_CASE("an image is never reached through a symlink", "[root]") {
  LinuxNode node;
  must(node.kernel().create_image({.image = node.image("real"), .size = mib, .thick = false}));
  std::filesystem::create_symlink("real.img", node.pool() + "/link.img");
  refused(node.kernel().attach(node.image("link"), 4096), ErrorCode::failed_precondition);
  refused(node.kernel().remove_image(node.image("link")), ErrorCode::failed_precondition);
  refused(node.kernel().attach({.directory = node.pool(), .file = "../pool/real.img", .volume_id = "real"}, 4096),
          ErrorCode::invalid_argument);
}

TEST_CASE("a device number that was given to another image is not the old device", "[root]") {
  LinuxNode node;
  const auto first = node.attached(node.image("first"), mib);
  must(node.kernel().detach(first));
  auto second = node.attached(node.image("second"), mib);
  Device stale = second;
  SECTION("another diskseq") { stale.diskseq = first.diskseq; }
  SECTION("another backing file") { stale.backing_inode = first.backing_inode; }
  SECTION("another number") { stale.number += 1; }
  const auto message = refused(node.kernel().set_device_read_only(stale, true), ErrorCode::failed_precondition);
  CHECK(message.find(std::to_string(second.diskseq)) != std::string::npos);
  refused(node.kernel().inspect_device(stale), ErrorCode::not_found);
  refused(node.kernel().probe({.device = stale, .proof = BlankProof::none, .image = {}}), ErrorCode::failed_precondition);
  refused(node.kernel().erase(stale, false), ErrorCode::failed_precondition);
  ToolRequest tool;
  tool.argv = {"/bin/true"};
  tool.device = stale;
  refused(node.kernel().run_tool(tool), ErrorCode::failed_precondition);
  CHECK(must(node.kernel().inspect_device(second)).size == mib);
}

TEST_CASE("a read-only flag doesn't stay with the device's number", "[root]") {
  LinuxNode node;
  const auto image = node.image("v");
  const auto first = node.attached(image, mib);
  must(node.kernel().set_device_read_only(first, true));
  must(node.kernel().detach(first));
  {
    int read_only = -1;
    REQUIRE(::ioctl(open_file(first.path, O_RDONLY).get(), BLKROGET, &read_only) == 0);
    CHECK(read_only == 0);
  }
  CHECK_FALSE(must(node.kernel().attach(image, 4096)).read_only);
}

TEST_CASE("what a device's cache still has is in the image before the device is let go of", "[root]") {
  LinuxNode node;
  const auto image = node.image("v");
  const auto device = node.attached(image, mib);
  const std::string text(4096, 'x');
  const UniqueFd other = open_file(device.path, O_RDONLY);  // so that the writer's close is not the last
  write_at(device.path, 65536, text);
  CHECK_FALSE(node.kernel().detach(device));
  std::string found(text.size(), ' ');
  const UniqueFd file = open_file(LinuxNode::path_of(image), O_RDONLY);
  REQUIRE(::pread(file.get(), found.data(), found.size(), 65536) == static_cast<ssize_t>(found.size()));
  CHECK(found == text);
}

TEST_CASE("a loop whose filesystem lives on in another mount namespace is detached only once that is gone", "[root]") {
  LinuxNode node;
  const auto volume = node.volume("v", GENERATE("ext4", "btrfs"));
  must(node.mount(volume, "stage"));
  {
    const NamespaceHolder holder;
    // Not removed as well: that would take the copy in the other namespace away too (rmdir(2) of what is a mount point elsewhere).
    must(node.kernel().unmount({.path = node.work("stage"), .expected = volume.expected(), .remove = false}));
    const auto pins = must(node.kernel().pins(volume.device));
    REQUIRE(pins.size() == 1);
    CHECK(pins[0].pid == holder.pid());
    CHECK(pins[0].mount_point == node.work("stage"));
    const auto message = refused(node.kernel().detach(volume.device), ErrorCode::failed_precondition);
    CHECK(message.find(volume.device.path) != std::string::npos);
    // Stage again: the same loop, though it is marked to go away by now, and the same live filesystem.
    CHECK(must(node.kernel().attach(volume.image, 4096)).diskseq == volume.device.diskseq);
    CHECK(must(node.kernel().probe({.device = volume.device, .proof = BlankProof::none, .image = {}})).busy);
    must(node.mount(volume, "stage"));
    must(node.kernel().unmount({.path = node.work("stage"), .expected = volume.expected(), .remove = false}));
  }
  CHECK(must(node.kernel().pins(volume.device)).empty());
  must(node.kernel().detach(volume.device));
  CHECK_FALSE(must(node.kernel().find_attached(volume.image)));
}

TEST_CASE("a probe finds every kind of signature, damaged ones too", "[root]") {
  LinuxNode node;
  const auto image = node.image("v");
  const auto device = node.attached(image, 64 * mib);
  std::string type;
  SECTION("LUKS") {
    type = "crypto_LUKS";
    write_at(device.path, 0, std::string_view("LUKS\xba\xbe\0\1", 8));
  }
  SECTION("LVM") {
    type = "LVM2_member";
    std::string label(512, '\0');
    label.replace(0, 8, "LABELONE");
    label[8] = 1;    // sector
    label[20] = 32;  // where the header is
    label.replace(24, 8, "LVM2 001");
    write_at(device.path, 512, label);  // its checksum is wrong
  }
  SECTION("swap") {
    type = "swap";
    LinuxNode::run("mkswap " + device.path);
  }
  SECTION("a partition table") {
    type = "dos";
    std::string sector(512, '\0');
    sector[446 + 4] = '\x83';  // Linux
    sector[446 + 9] = 8;       // from sector 2048
    sector[446 + 13] = 8;      // 2048 sectors
    sector[510] = '\x55';
    sector[511] = '\xaa';
    write_at(device.path, 0, sector);
  }
  SECTION("ext4 with a wrong checksum") {
    type = "ext4";
    LinuxNode::make_filesystem(device, "ext4", LinuxNode::uuid_for('1'));
    write_at(device.path, 1024 + 0x78, "renamed");
  }
  const auto probe = must(node.kernel().probe({.device = device, .proof = BlankProof::all_zero, .image = image}));
  CHECK_FALSE(probe.blank);
  CHECK(std::ranges::any_of(probe.signatures, [&](const Signature& signature) { return signature.type == type; }));
  CHECK(probe.not_blank_reason.find(type) != std::string::npos);
}

TEST_CASE("a device that can't be read is an error, never blank", "[root]") {
  LinuxNode node;
  const auto image = node.image("v");
  const auto device = node.attached(image, 64 * mib);
  const auto proof = GENERATE(BlankProof::none, BlankProof::all_zero, BlankProof::edges_zero);
  REQUIRE(::truncate(LinuxNode::path_of(image).c_str(), 0) == 0);
  const auto probe = node.kernel().probe({.device = device, .proof = proof, .image = image});
  CHECK(probe.has_error());
}

TEST_CASE("a blank image stays provably blank when somebody has read it, and data is never missed", "[root]") {
  LinuxNode node;
  const auto image = node.image("v");
  const bool thick = GENERATE(true, false);
  const auto device = node.attached(image, 64 * mib, thick);
  const ProbeRequest request{.device = device, .proof = BlankProof::all_zero, .image = image};
  read_through(LinuxNode::path_of(image));
  read_through(device.path);
  CHECK(must(node.kernel().probe(request)).blank);
  SECTION("a byte that is only in the loop's cache") { write_at(device.path, 33 * mib + 7, "x"); }
  SECTION("the last byte") { write_at(device.path, 64 * mib - 1, "x"); }
  const auto probe = must(node.kernel().probe(request));
  CHECK_FALSE(probe.blank);
  CHECK_FALSE(probe.not_blank_reason.empty());
}

TEST_CASE("the filesystem's size is its superblock's, and a tail that it can't use counts as used", "[root]") {
  LinuxNode node;
  const auto image = node.image("v");
  const auto size_of = [&](const Device& device) {
    return must(node.kernel().probe({.device = device, .proof = BlankProof::none, .image = {}})).filesystem_size;
  };
  const auto grow_device = [&](const Device& device, std::uint64_t size) {
    must(node.kernel().resize_image({.image = image, .size = size, .thick = false}));
    return must(node.kernel().refresh_device_size(device));
  };
  SECTION("each kind") {
    const std::string type = GENERATE("ext4", "xfs", "btrfs");
    auto device = node.attached(image, 512 * mib);
    LinuxNode::make_filesystem(device, type, LinuxNode::uuid_for('1'));
    CHECK(size_of(device) == 512 * mib);
    device = grow_device(device, 640 * mib);
    CHECK(device.size == 640 * mib);
    CHECK(size_of(device) == 512 * mib);
  }
  SECTION("ext4 made on a device with a short last group") {
    const auto device = node.attached(image, 513 * mib);
    LinuxNode::run("mkfs.ext4 -q -b 4096 " + device.path);
    CHECK(size_of(device) == 513 * mib);
  }
}
