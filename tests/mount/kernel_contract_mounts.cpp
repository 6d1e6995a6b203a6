// The contract's cases about mounting, binding and unmounting.
#include <cerrno>

#include "tests/mount/contract_steps.hpp"

namespace ordinald::testing::contract {

using mount::AccessTime;
using mount::BindRequest;
using mount::Device;
using mount::Error;
using mount::ErrorCode;
using mount::Expected;
using mount::FileKind;
using mount::Kernel;
using mount::MountAttributes;
using mount::MountEntry;
using mount::MountRequest;
using mount::PathInfo;
using mount::TargetKind;

namespace {

BindRequest bind_request(const Mounted& source, const std::string& target, const MountAttributes& attributes = {}) {
  return {.source = source.path, .expected = source.expected, .target = target, .kind = TargetKind::directory, .attributes = attributes};
}

BindRequest block_request(const Device& device, const std::string& target) {
  return {.source = device.path, .expected = expected_of(device, "", ""), .target = target, .kind = TargetKind::file, .attributes = {}};
}

/// Tries to use every target that is not free; `attempt` answers the code of its refusal.
template <class Attempt>
void expect_free_targets_only(ContractNode& node, Attempt attempt) {
  const std::string target = node.work() + "/target";
  SECTION("a symlink") {
    node.make_directory(node.work() + "/elsewhere");
    node.make_symlink(target, node.work() + "/elsewhere");
    CHECK(attempt(target) == ErrorCode::failed_precondition);
    CHECK(mounts_at(node, node.work() + "/elsewhere").empty());
  }
  SECTION("a symlink that leads nowhere") {
    node.make_symlink(target, node.work() + "/elsewhere");
    CHECK(attempt(target) == ErrorCode::failed_precondition);
    CHECK(value(node.kernel().inspect_path(node.work() + "/elsewhere")).kind == FileKind::none);
  }
  SECTION("somebody's mount") {
    node.make_directory(target);
    node.mount_foreign(target);
    CHECK(attempt(target) == ErrorCode::failed_precondition);
    CHECK(mounts_at(node, target).size() == 1);
  }
  SECTION("a mount of another volume") {
    const Mounted other = mounted_volume(node, "other", "ext4", small_size, uuid_b);
    CHECK(attempt(other.path) == ErrorCode::failed_precondition);
    CHECK(mounts_at(node, other.path).size() == 1);
  }
  SECTION("the parent is missing") {
    CHECK(attempt(node.work() + "/no/parent") == ErrorCode::failed_precondition);
    CHECK(value(node.kernel().inspect_path(node.work() + "/no")).kind == FileKind::none);
  }
}

}  // namespace

void mount_makes_the_target_and_data_survives(ContractNode& node) {
  Kernel& kernel = node.kernel();
  const Mounted at = mounted_volume(node, "v");
  CHECK(at.info.kind == FileKind::directory);
  CHECK(at.info.mount_root);
  CHECK(at.info.device == at.device.number);
  CHECK_FALSE(at.info.read_only);
  CHECK_FALSE(at.info.broken);
  CHECK(node.write_file(at.path + "/data", "text") == 0);
  value(kernel.unmount({.path = at.path, .expected = at.expected, .remove = false}));
  CHECK_FALSE(node.read_file(at.path + "/data"));
  // The directory is there this time.
  CHECK(node.mode_of(at.path).mode == 0750);
  value(kernel.mount_filesystem(mount_request(at.device, "ext4", uuid_a, at.path)));
  CHECK(node.read_file(at.path + "/data") == "text");

  CHECK_FALSE(kernel.mount_filesystem(mount_request(at.device, "ext4", uuid_a, node.work() + "/no/parent")));
}

void mount_again_is_one_mount(ContractNode& node) {
  std::string type = "ext4";
  std::uint64_t size = small_size;
  SECTION("ext4") {}
  SECTION("btrfs") {
    type = "btrfs";
    size = 112 * mib;
  }
  const Mounted at = mounted_volume(node, "v", type, size);
  const PathInfo again = value(node.kernel().mount_filesystem(mount_request(at.device, type, uuid_a, at.path)));
  CHECK(again.mount_id == at.info.mount_id);
  CHECK(mounts_at(node, at.path).size() == 1);

  MountRequest other = mount_request(at.device, type, uuid_a, at.path);
  other.attributes.no_exec = true;
  refused(node.kernel().mount_filesystem(other), ErrorCode::failed_precondition);
  CHECK_FALSE(has_word(mounts_at(node, at.path).at(0).options, "noexec"));
}

void mount_at_a_second_path_is_the_same_filesystem(ContractNode& node) {
  const Mounted at = mounted_volume(node, "v");
  const std::string second = node.work() + "/second";
  const PathInfo info = value(node.kernel().mount_filesystem(mount_request(at.device, "ext4", uuid_a, second)));
  CHECK(info.device == at.info.device);
  CHECK(info.mount_id != at.info.mount_id);
  REQUIRE(node.write_file(second + "/data", "text") == 0);
  CHECK(node.read_file(at.path + "/data") == "text");
  value(node.kernel().unmount({.path = at.path, .expected = at.expected, .remove = true}));
  CHECK(node.read_file(second + "/data") == "text");
}

void mount_refuses_targets_that_are_not_free(ContractNode& node) {
  const Device device = make_volume(node, "v");
  make_filesystem(node, device, "ext4", uuid_a);
  expect_free_targets_only(node, [&](const std::string& target) {
    const auto mounted = node.kernel().mount_filesystem(mount_request(device, "ext4", uuid_a, target));
    REQUIRE_FALSE(mounted);
    return mounted.error().code;
  });
}

void mount_names_a_refused_option_by_its_place(ContractNode& node) {
  std::string type;
  std::uint64_t size = small_size;
  std::string good = "discard";
  SECTION("ext4") { type = "ext4"; }
  SECTION("xfs") {
    type = "xfs";
    size = 300 * mib;
  }
  SECTION("btrfs") {
    type = "btrfs";
    size = 112 * mib;
  }
  const Device device = make_volume(node, "v", size);
  make_filesystem(node, device, type, uuid_a);
  MountRequest request = mount_request(device, type, uuid_a, node.work() + "/target");
  request.options = {good, "sesame=open"};
  request.option_places = {0, 7};
  const Error error = refused(node.kernel().mount_filesystem(request), ErrorCode::invalid_argument);
  CHECK(error.message.find("mount_flags[7]") != std::string::npos);
  CHECK(error.message.find("sesame") == std::string::npos);
  CHECK(error.message.find("open=") == std::string::npos);
  CHECK(mounts_at(node, request.target).empty());

  request.options = {good};
  request.option_places = {0};
  value(node.kernel().mount_filesystem(request));
  REQUIRE(mounts_at(node, request.target).size() == 1);
}

void mount_refuses_what_is_not_that_filesystem(ContractNode& node) {
  const Device device = make_volume(node, "v");
  const std::string target = node.work() + "/target";
  refused(node.kernel().mount_filesystem(mount_request(device, "ext4", uuid_a, target)), ErrorCode::failed_precondition);
  make_filesystem(node, device, "ext4", uuid_a);
  refused(node.kernel().mount_filesystem(mount_request(device, "xfs", uuid_a, target)), ErrorCode::failed_precondition);
  CHECK(mounts_at(node, target).empty());
  value(node.kernel().mount_filesystem(mount_request(device, "ext4", uuid_a, target)));
}

void mount_refuses_a_second_xfs_of_one_uuid(ContractNode& node) {
  mounted_volume(node, "v", "xfs", 300 * mib);
  const Device twin = make_volume(node, "twin", 300 * mib);
  make_filesystem(node, twin, "xfs", uuid_a);
  refused(node.kernel().mount_filesystem(mount_request(twin, "xfs", uuid_a, node.work() + "/twin")), ErrorCode::failed_precondition);
}

void mount_attributes_are_the_mount_points(ContractNode& node) {
  const Mounted at = mounted_volume(node, "v");
  MountRequest request = mount_request(at.device, "ext4", uuid_a, node.work() + "/second");
  request.attributes = {
      .read_only = true, .no_suid = true, .no_dev = true, .no_exec = true, .no_dir_atime = true, .atime = AccessTime::noatime};
  CHECK(value(node.kernel().mount_filesystem(request)).read_only);
  const std::vector<MountEntry> entries = mounts_at(node, request.target);
  REQUIRE(entries.size() == 1);
  for (const char* const word : {"ro", "nosuid", "nodev", "noexec", "nodiratime", "noatime"}) {
    INFO(word << " in " << entries[0].options);
    CHECK(has_word(entries[0].options, word));
  }
  // The filesystem itself is writable, and so is the other mount of it.
  CHECK(has_word(entries[0].super_options, "rw"));
  CHECK(node.write_file(request.target + "/data", "text") == EROFS);
  CHECK(node.write_file(at.path + "/data", "text") == 0);
  CHECK(has_word(mounts_at(node, at.path).at(0).options, "relatime"));
}

void bind_shows_the_directory_with_its_attributes(ContractNode& node) {
  std::string type = "ext4";
  std::uint64_t size = small_size;
  SECTION("ext4") {}
  SECTION("btrfs") {
    type = "btrfs";
    size = 112 * mib;
  }
  const Mounted at = mounted_volume(node, "v", type, size);
  REQUIRE(node.write_file(at.path + "/data", "text") == 0);
  const std::string target = node.work() + "/target";
  const PathInfo bound = value(node.kernel().bind(bind_request(at, target, {.read_only = true, .no_exec = true})));
  CHECK(bound.kind == FileKind::directory);
  CHECK(bound.mount_root);
  CHECK(bound.read_only);
  CHECK(bound.device == at.info.device);
  CHECK(node.read_file(target + "/data") == "text");
  CHECK(node.write_file(target + "/data", "other") == EROFS);
  CHECK(node.write_file(at.path + "/data", "other") == 0);
  const MountEntry entry = mounts_at(node, target).at(0);
  CHECK(has_word(entry.options, "ro"));
  CHECK(has_word(entry.options, "noexec"));
  CHECK_FALSE(has_word(entry.options, "nosuid"));

  const std::string writable = node.work() + "/writable";
  CHECK_FALSE(value(node.kernel().bind(bind_request(at, writable))).read_only);
  CHECK(node.write_file(writable + "/data", "third") == 0);
  CHECK(node.read_file(target + "/data") == "third");
  // The source can go; what is bound stays.
  value(node.kernel().unmount({.path = at.path, .expected = at.expected, .remove = true}));
  CHECK(node.read_file(target + "/data") == "third");
}

void bind_shows_the_device(ContractNode& node) {
  Kernel& kernel = node.kernel();
  const Device device = make_volume(node, "v");
  const std::string target = node.work() + "/target";
  const PathInfo bound = value(kernel.bind(block_request(device, target)));
  CHECK(bound.kind == FileKind::block_device);
  CHECK(bound.mount_root);
  CHECK(bound.rdev == device.number);
  CHECK(mount::matches(bound, expected_of(device, "", "")));
  CHECK(node.write_device(target) == 0);
  value(kernel.set_device_read_only(device, true));
  CHECK(node.write_device(target) == EPERM);
  value(kernel.unmount({.path = target, .expected = expected_of(device, "", ""), .remove = true}));
  CHECK(value(kernel.inspect_path(target)).kind == FileKind::none);
}

void bind_again_is_one_mount(ContractNode& node) {
  const Mounted at = mounted_volume(node, "v");
  const std::string target = node.work() + "/target";
  const PathInfo first = value(node.kernel().bind(bind_request(at, target)));
  CHECK(value(node.kernel().bind(bind_request(at, target))).mount_id == first.mount_id);
  CHECK(mounts_at(node, target).size() == 1);
  refused(node.kernel().bind(bind_request(at, target, {.read_only = true})), ErrorCode::failed_precondition);
  CHECK_FALSE(value(node.kernel().inspect_path(target)).read_only);

  const Device raw = make_volume(node, "raw");
  const std::string block = node.work() + "/block";
  const PathInfo first_block = value(node.kernel().bind(block_request(raw, block)));
  CHECK(value(node.kernel().bind(block_request(raw, block))).mount_id == first_block.mount_id);
  CHECK(mounts_at(node, block).size() == 1);
}

void bind_refuses_a_source_that_is_not_expected(ContractNode& node) {
  Kernel& kernel = node.kernel();
  const Mounted at = mounted_volume(node, "v");
  const Mounted other = mounted_volume(node, "other", "ext4", small_size, uuid_b);
  const std::string target = node.work() + "/target";

  BindRequest request = bind_request(at, target);
  request.source = other.path;
  refused(kernel.bind(request), ErrorCode::failed_precondition);
  request.source = node.work();
  refused(kernel.bind(request), ErrorCode::failed_precondition);
  request.source = node.work() + "/missing";
  refused(kernel.bind(request), ErrorCode::failed_precondition);
  CHECK(mounts_at(node, target).empty());

  BindRequest block = block_request(at.device, node.work() + "/block");
  block.source = other.device.path;
  refused(kernel.bind(block), ErrorCode::failed_precondition);
  CHECK(mounts_at(node, block.target).empty());
}

void bind_refuses_targets_that_are_not_free(ContractNode& node) {
  Kernel& kernel = node.kernel();
  const Mounted at = mounted_volume(node, "v");
  expect_free_targets_only(node, [&](const std::string& target) {
    const auto bound = kernel.bind(bind_request(at, target));
    REQUIRE_FALSE(bound);
    return bound.error().code;
  });
  SECTION("the parent of a block target is missing") {
    refused(kernel.bind(block_request(at.device, node.work() + "/no/parent")), ErrorCode::failed_precondition);
    CHECK(value(kernel.inspect_path(node.work() + "/no")).kind == FileKind::none);
  }
  SECTION("of the other kind") {
    REQUIRE(node.write_file(node.work() + "/file", "") == 0);
    node.make_directory(node.work() + "/directory");
    refused(kernel.bind(bind_request(at, node.work() + "/file")), ErrorCode::failed_precondition);
    refused(kernel.bind(block_request(at.device, node.work() + "/directory")), ErrorCode::failed_precondition);
  }
}

void unmount_repeats_and_removes_as_asked(ContractNode& node) {
  Kernel& kernel = node.kernel();
  const Mounted at = mounted_volume(node, "v");
  value(kernel.unmount({.path = at.path, .expected = at.expected, .remove = false}));
  CHECK(value(kernel.inspect_path(at.path)).kind == FileKind::directory);
  CHECK_FALSE(value(kernel.inspect_path(at.path)).mount_root);
  value(kernel.unmount({.path = at.path, .expected = at.expected, .remove = false}));
  value(kernel.unmount({.path = at.path, .expected = at.expected, .remove = true}));
  CHECK(value(kernel.inspect_path(at.path)).kind == FileKind::none);
  value(kernel.unmount({.path = at.path, .expected = at.expected, .remove = true}));
  value(kernel.unmount({.path = node.work() + "/no/parent", .expected = at.expected, .remove = true}));

  // A block target that was made, and whose bind is gone.
  REQUIRE(node.write_file(node.work() + "/file", "") == 0);
  value(kernel.unmount({.path = node.work() + "/file", .expected = expected_of(at.device, "", ""), .remove = true}));
  CHECK(value(kernel.inspect_path(node.work() + "/file")).kind == FileKind::none);
}

void unmount_never_removes_content(ContractNode& node) {
  Kernel& kernel = node.kernel();
  const Expected expected{.number = 1, .fs_type = "ext4", .uuid = uuid_a};
  const std::string directory = node.work() + "/directory";
  node.make_directory(directory);
  REQUIRE(node.write_file(directory + "/data", "text") == 0);
  value(kernel.unmount({.path = directory, .expected = expected, .remove = false}));
  refused(kernel.unmount({.path = directory, .expected = expected, .remove = true}), ErrorCode::failed_precondition);
  CHECK(node.read_file(directory + "/data") == "text");
  refused(kernel.unmount({.path = directory + "/data", .expected = expected_of({}, "", ""), .remove = true}),
          ErrorCode::failed_precondition);
  CHECK(node.read_file(directory + "/data") == "text");
}

void unmount_leaves_what_is_not_expected(ContractNode& node) {
  Kernel& kernel = node.kernel();
  const Mounted at = mounted_volume(node, "v");
  const Mounted other = mounted_volume(node, "other", "ext4", small_size, uuid_b);
  refused(kernel.unmount({.path = at.path, .expected = other.expected, .remove = true}), ErrorCode::failed_precondition);
  CHECK(mounts_at(node, at.path).size() == 1);

  const std::string foreign = node.work() + "/foreign";
  node.make_directory(foreign);
  node.mount_foreign(foreign);
  refused(kernel.unmount({.path = foreign, .expected = at.expected, .remove = true}), ErrorCode::failed_precondition);
  refused(kernel.unmount({.path = foreign, .expected = expected_of(at.device, "", ""), .remove = true}), ErrorCode::failed_precondition);
  CHECK(mounts_at(node, foreign).size() == 1);
}

void unmount_is_refused_while_busy(ContractNode& node) {
  Kernel& kernel = node.kernel();
  const Mounted at = mounted_volume(node, "v");
  REQUIRE(node.write_file(at.path + "/data", "text") == 0);
  Hold open_file = node.hold_open(at.path + "/data");
  CHECK(refused(kernel.unmount({.path = at.path, .expected = at.expected, .remove = true}), ErrorCode::failed_precondition).sys_errno ==
        EBUSY);
  CHECK(node.read_file(at.path + "/data") == "text");
  open_file.reset();
  value(kernel.unmount({.path = at.path, .expected = at.expected, .remove = true}));
  CHECK(value(kernel.inspect_path(at.path)).kind == FileKind::none);
}

void unmount_takes_all_that_is_stacked(ContractNode& node) {
  Kernel& kernel = node.kernel();
  const Mounted at = mounted_volume(node, "v");
  node.stack(at.path);
  node.stack(at.path);
  REQUIRE(mounts_at(node, at.path).size() == 3);
  value(kernel.unmount({.path = at.path, .expected = at.expected, .remove = true}));
  CHECK(mounts_at(node, at.path).empty());
  CHECK(value(kernel.inspect_path(at.path)).kind == FileKind::none);
  value(kernel.detach(at.device));
}

void unmount_never_follows_a_symlink(ContractNode& node) {
  Kernel& kernel = node.kernel();
  const Mounted at = mounted_volume(node, "v");
  const std::string link = node.work() + "/link";
  node.make_symlink(link, at.path);
  for (const bool remove : {false, true}) {
    // Whether this is refused is the implementation's; what it touches is not.
    std::ignore = kernel.unmount({.path = link, .expected = at.expected, .remove = remove});
    CHECK(mounts_at(node, at.path).size() == 1);
    CHECK(value(kernel.inspect_path(link)).kind == FileKind::symlink);
  }
}

}  // namespace ordinald::testing::contract
