// The contract's cases about devices: attaching them, probing them, emptying them.
#include <cerrno>

#include "tests/mount/contract_steps.hpp"

namespace ordinald::testing::contract {

using mount::BlankProof;
using mount::Device;
using mount::ErrorCode;
using mount::ImageInfo;
using mount::ImageRef;
using mount::Kernel;
using mount::Probe;

namespace {

Probe probe(ContractNode& node, const Device& device, const std::string& volume_id, BlankProof proof = BlankProof::all_zero) {
  return value(node.kernel().probe({.device = device, .proof = proof, .image = image_of(node, volume_id)}));
}

void expect_blank(ContractNode& node, const Device& device, const std::string& volume_id) {
  for (const BlankProof proof : {BlankProof::none, BlankProof::edges_zero, BlankProof::all_zero}) {
    const Probe found = probe(node, device, volume_id, proof);
    INFO("proof " << static_cast<int>(proof) << ": " << found.not_blank_reason);
    CHECK(found.blank);
    CHECK_FALSE(found.busy);
    CHECK(found.signatures.empty());
    CHECK(found.filesystem_size == 0);
  }
}

void expect_filesystem(ContractNode& node, const std::string& type, std::uint64_t size) {
  const Device device = make_volume(node, "v", size);
  make_filesystem(node, device, type, uuid_a);
  const Probe found = probe(node, device, "v");
  REQUIRE(found.signatures.size() == 1);
  CHECK(found.signatures[0].usage == "filesystem");
  CHECK(found.signatures[0].type == type);
  CHECK(found.signatures[0].uuid == uuid_a);
  CHECK(found.filesystem_size == size);
  CHECK_FALSE(found.blank);
  CHECK_FALSE(found.busy);
  CHECK_FALSE(found.not_blank_reason.empty());
  CHECK_FALSE(probe(node, device, "v", BlankProof::none).blank);
}

/// Every verb that opens the device refuses this one.
void expect_refused(ContractNode& node, const Device& device, const std::string& volume_id) {
  Kernel& kernel = node.kernel();
  INFO("number " << device.number << " diskseq " << device.diskseq << " inode " << device.backing_inode);
  refused(kernel.inspect_device(device), ErrorCode::not_found);
  refused(kernel.set_device_read_only(device, true), ErrorCode::failed_precondition);
  refused(kernel.refuse_discard(device), ErrorCode::failed_precondition);
  refused(kernel.refresh_device_size(device), ErrorCode::failed_precondition);
  refused(kernel.probe({.device = device, .proof = BlankProof::none, .image = {}}), ErrorCode::failed_precondition);
  refused(kernel.probe({.device = device, .proof = BlankProof::all_zero, .image = image_of(node, volume_id)}),
          ErrorCode::failed_precondition);
  refused(kernel.erase(device, false), ErrorCode::failed_precondition);
  refused(kernel.mount_filesystem(mount_request(device, "ext4", uuid_a, node.work() + "/refused")), ErrorCode::failed_precondition);
  refused(kernel.run_tool({.argv = {"/usr/sbin/mkfs.ext4", "-q", device.path}, .device = device, .deadline = std::chrono::minutes{1}}),
          ErrorCode::failed_precondition);
}

}  // namespace

void attach_gives_one_device_for_one_image(ContractNode& node) {
  Kernel& kernel = node.kernel();
  const ImageRef image = image_of(node, "v");
  const ImageInfo info = value(kernel.create_image({.image = image, .size = small_size, .thick = false}));
  const Device device = value(kernel.attach(image, block_size));
  CHECK(device.path.starts_with("/dev/loop"));
  CHECK(device.number != 0);
  CHECK(device.diskseq != 0);
  CHECK(device.backing_device == info.device);
  CHECK(device.backing_inode == info.inode);
  CHECK(device.size == small_size);
  CHECK(device.block_size == block_size);
  CHECK_FALSE(device.read_only);

  const Device again = value(kernel.attach(image, block_size));
  CHECK(again.path == device.path);
  CHECK(again.diskseq == device.diskseq);
  const Device other = make_volume(node, "w");
  CHECK(other.number != device.number);
  CHECK(other.diskseq != device.diskseq);

  const Device now = value(kernel.inspect_device(device));
  CHECK(now.path == device.path);
  CHECK(now.size == small_size);
  CHECK(now.block_size == block_size);

  value(kernel.create_image({.image = image_of(node, "old"), .size = small_size, .thick = false}));
  CHECK(value(kernel.attach(image_of(node, "old"), 512)).block_size == 512);
}

void attach_refuses_what_is_not_this_volumes(ContractNode& node) {
  Kernel& kernel = node.kernel();
  const ImageRef image = image_of(node, "v");
  refused(kernel.attach(image, block_size), ErrorCode::not_found);
  value(kernel.create_image({.image = image, .size = small_size, .thick = false}));
  ImageRef other = image;
  other.volume_id = "w";
  refused(kernel.attach(other, block_size), ErrorCode::failed_precondition);
  CHECK_FALSE(value(kernel.find_attached(image)));

  value(kernel.attach(image, block_size));
  refused(kernel.attach(image, 512), ErrorCode::failed_precondition);
  refused(kernel.attach(other, block_size), ErrorCode::failed_precondition);
}

void find_attached_finds_also_of_a_removed_image(ContractNode& node) {
  Kernel& kernel = node.kernel();
  const ImageRef image = image_of(node, "v");
  CHECK_FALSE(value(kernel.find_attached(image)));
  value(kernel.create_image({.image = image, .size = small_size, .thick = false}));
  CHECK_FALSE(value(kernel.find_attached(image)));
  const Device device = value(kernel.attach(image, block_size));
  make_volume(node, "w");
  REQUIRE(value(kernel.find_attached(image)));
  CHECK(value(kernel.find_attached(image))->diskseq == device.diskseq);

  value(kernel.remove_image(image));
  const std::optional<Device> of_removed = value(kernel.find_attached(image));
  REQUIRE(of_removed);
  CHECK(of_removed->diskseq == device.diskseq);
  value(kernel.detach(*of_removed));
  CHECK_FALSE(value(kernel.find_attached(image)));
}

void loops_lists_what_is_attached(ContractNode& node) {
  Kernel& kernel = node.kernel();
  const auto entry_of = [&](const Device& device) {
    const auto loops = value(kernel.loops());
    const auto found = std::ranges::find(loops, device.number, &mount::LoopEntry::number);
    return found == loops.end() ? std::optional<mount::LoopEntry>{} : std::optional{*found};
  };
  const Device device = make_volume(node, "v");
  CHECK(device.by_agent);
  CHECK(value(kernel.find_attached(image_of(node, "v")))->by_agent);
  const auto entry = entry_of(device);
  REQUIRE(entry);
  CHECK(entry->path == device.path);
  CHECK(entry->backing.ends_with("/" + image_of(node, "v").file));
  CHECK_FALSE(entry->deleted);

  value(kernel.remove_image(image_of(node, "v")));
  REQUIRE(entry_of(device));
  CHECK(entry_of(device)->deleted);
  CHECK(entry_of(device)->backing == entry->backing);
  value(kernel.detach(device));
  CHECK_FALSE(entry_of(device));
}

void detach_takes_the_device_away_once(ContractNode& node) {
  Kernel& kernel = node.kernel();
  const Device device = make_volume(node, "v");
  value(kernel.detach(device));
  CHECK_FALSE(value(kernel.find_attached(image_of(node, "v"))));
  refused(kernel.inspect_device(device), ErrorCode::not_found);
  value(kernel.detach(device));
}

void detach_is_refused_while_mounted(ContractNode& node) {
  Kernel& kernel = node.kernel();
  const Mounted at = mounted_volume(node, "v");
  REQUIRE(node.write_file(at.path + "/data", "text") == 0);
  refused(kernel.detach(at.device), ErrorCode::failed_precondition);
  CHECK(node.read_file(at.path + "/data") == "text");
  value(kernel.unmount({.path = at.path, .expected = at.expected, .remove = true}));
  value(kernel.detach(at.device));
  CHECK_FALSE(value(kernel.find_attached(image_of(node, "v"))));
}

void a_device_of_another_identity_is_refused(ContractNode& node) {
  const Device device = make_volume(node, "v");
  make_filesystem(node, device, "ext4", uuid_a);
  Device other = device;
  ++other.diskseq;
  expect_refused(node, other, "v");
  other = device;
  ++other.backing_inode;
  expect_refused(node, other, "v");
  other = device;
  ++other.backing_device;
  expect_refused(node, other, "v");
  other = device;
  ++other.number;
  expect_refused(node, other, "v");
  // What was refused has done nothing.
  CHECK_FALSE(value(node.kernel().inspect_device(device)).read_only);
  CHECK(probe(node, device, "v").signatures.at(0).uuid == uuid_a);
}

void a_device_number_used_again_is_another_device(ContractNode& node) {
  Kernel& kernel = node.kernel();
  const Device old = make_volume(node, "v");
  value(kernel.detach(old));
  const Device now = make_volume(node, "w");
  expect_refused(node, old, "v");
  value(kernel.detach(old));
  CHECK(value(kernel.inspect_device(now)).diskseq == now.diskseq);
}

void the_read_only_flag_is_the_devices(ContractNode& node) {
  Kernel& kernel = node.kernel();
  const Device device = make_volume(node, "v");
  value(kernel.set_device_read_only(device, true));
  value(kernel.set_device_read_only(device, true));
  CHECK(value(kernel.inspect_device(device)).read_only);
  CHECK(value(kernel.attach(image_of(node, "v"), block_size)).read_only);
  CHECK(node.write_device(device.path) == EPERM);
  value(kernel.set_device_read_only(device, false));
  CHECK_FALSE(value(kernel.inspect_device(device)).read_only);
  CHECK(node.write_device(device.path) == 0);
}

void refuse_discard_keeps_every_block(ContractNode& node) {
  Kernel& kernel = node.kernel();
  const auto allocated = [&] { return value(kernel.inspect_image(image_of(node, "v")))->allocated; };
  value(kernel.create_image({.image = image_of(node, "v"), .size = small_size, .thick = true}));
  const Device device = value(kernel.attach(image_of(node, "v"), block_size));
  value(kernel.refuse_discard(device));
  value(kernel.refuse_discard(device));
  value(kernel.erase(device, false));
  CHECK(allocated() >= small_size);
  value(kernel.detach(device));
  // It is likely to get the same number.
  const Device again = value(kernel.attach(image_of(node, "v"), block_size));
  value(kernel.erase(again, false));
  CHECK(allocated() < small_size / 2);
}

void a_new_device_is_writable(ContractNode& node) {
  Kernel& kernel = node.kernel();
  const Device old = make_volume(node, "v");
  value(kernel.set_device_read_only(old, true));
  value(kernel.detach(old));
  // It is likely to get the same number.
  const Device device = value(kernel.attach(image_of(node, "v"), block_size));
  CHECK_FALSE(device.read_only);
  CHECK(node.write_device(device.path) == 0);
}

void refresh_device_size_follows_the_image(ContractNode& node) {
  Kernel& kernel = node.kernel();
  const Device device = make_volume(node, "v");
  value(kernel.resize_image({.image = image_of(node, "v"), .size = 2 * small_size, .thick = false}));
  CHECK(value(kernel.inspect_device(device)).size == small_size);
  CHECK(value(kernel.refresh_device_size(device)).size == 2 * small_size);
  CHECK(value(kernel.refresh_device_size(device)).size == 2 * small_size);
  CHECK(value(kernel.inspect_device(device)).size == 2 * small_size);
}

void probe_proves_a_blank_device(ContractNode& node) {
  const Device device = make_volume(node, "v");
  expect_blank(node, device, "v");
}

void probe_proves_a_thick_image_blank_again_and_again(ContractNode& node) {
  const Device device = make_volume(node, "v", small_size, true);
  expect_blank(node, device, "v");
  expect_blank(node, device, "v");
  value(node.kernel().detach(device));
  expect_blank(node, value(node.kernel().attach(image_of(node, "v"), block_size)), "v");
}

void probe_finds_ext4(ContractNode& node) { expect_filesystem(node, "ext4", small_size); }
void probe_finds_xfs(ContractNode& node) { expect_filesystem(node, "xfs", 300 * mib); }
void probe_finds_btrfs(ContractNode& node) { expect_filesystem(node, "btrfs", 112 * mib); }

void probe_finds_what_is_no_filesystem(ContractNode& node) {
  const ImageRef image = image_of(node, "v");
  value(node.kernel().create_image({.image = image, .size = small_size, .thick = false}));
  node.write_luks(image);
  const Device device = value(node.kernel().attach(image, block_size));
  for (const BlankProof proof : {BlankProof::none, BlankProof::edges_zero, BlankProof::all_zero}) {
    const Probe found = probe(node, device, "v", proof);
    REQUIRE(found.signatures.size() == 1);
    CHECK(found.signatures[0].usage == "crypto");
    CHECK(found.signatures[0].type == "crypto_LUKS");
    CHECK_FALSE(found.blank);
    CHECK(found.not_blank_reason.find("LUKS") != std::string::npos);
  }
}

void probe_finds_data_without_a_signature(ContractNode& node) {
  const ImageRef image = image_of(node, "v");
  value(node.kernel().create_image({.image = image, .size = small_size, .thick = false}));
  bool at_edge = false;
  SECTION("in the middle") { node.write_byte(image, small_size / 2 + 5); }
  SECTION("in the first MiB") {
    node.write_byte(image, 1 * mib - 1);
    at_edge = true;
  }
  SECTION("at the very end") {
    node.write_byte(image, small_size - 1);
    at_edge = true;
  }
  const Device device = value(node.kernel().attach(image, block_size));
  const Probe found = probe(node, device, "v");
  CHECK_FALSE(found.blank);
  CHECK_FALSE(found.not_blank_reason.empty());
  CHECK(found.signatures.empty());
  CHECK(probe(node, device, "v", BlankProof::edges_zero).blank == !at_edge);
  CHECK(probe(node, device, "v", BlankProof::none).blank);
}

void probe_calls_nothing_blank_that_is_busy(ContractNode& node) {
  const Device blank = make_volume(node, "blank");
  const Hold hold = node.hold_device(blank.path);
  const Probe held = probe(node, blank, "blank");
  CHECK(held.busy);
  CHECK_FALSE(held.blank);
  CHECK(held.signatures.empty());

  const Mounted at = mounted_volume(node, "v");
  for (const BlankProof proof : {BlankProof::none, BlankProof::edges_zero, BlankProof::all_zero}) {
    const Probe mounted = probe(node, at.device, "v", proof);
    CHECK(mounted.busy);
    CHECK_FALSE(mounted.blank);
    REQUIRE(mounted.signatures.size() == 1);
    CHECK(mounted.signatures[0].uuid == uuid_a);
  }
}

void probe_refuses_anothers_image(ContractNode& node) {
  const Device device = make_volume(node, "v");
  make_volume(node, "w");
  refused(node.kernel().probe({.device = device, .proof = BlankProof::all_zero, .image = image_of(node, "w")}),
          ErrorCode::failed_precondition);
}

void erase_empties_the_device(ContractNode& node) {
  bool thick = false;
  SECTION("thin") {}
  SECTION("thick") { thick = true; }
  const Device device = make_volume(node, "v", small_size, thick);
  make_filesystem(node, device, "ext4", uuid_a);
  value(node.kernel().erase(device, thick));
  expect_blank(node, device, "v");
  const std::uint64_t allocated = value(node.kernel().inspect_image(image_of(node, "v")))->allocated;
  CHECK((thick ? allocated >= small_size : allocated < 1 * mib));
  value(node.kernel().erase(device, thick));
}

void erase_is_refused_while_mounted(ContractNode& node) {
  const Mounted at = mounted_volume(node, "v");
  REQUIRE(node.write_file(at.path + "/data", "text") == 0);
  refused(node.kernel().erase(at.device, false), ErrorCode::failed_precondition);
  value(node.kernel().unmount({.path = at.path, .expected = at.expected, .remove = true}));
  value(node.kernel().mount_filesystem(mount_request(at.device, "ext4", uuid_a, at.path)));
  CHECK(node.read_file(at.path + "/data") == "text");
}

}  // namespace ordinald::testing::contract
