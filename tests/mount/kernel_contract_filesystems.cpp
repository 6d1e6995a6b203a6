// The contract's cases about what is mounted (size, growth, group, who else has it), about paths, and about tools.
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>

#include "mount/tool_namespace.hpp"
#include "tests/mount/contract_steps.hpp"

namespace ordinald::testing::contract {

using mount::BindRequest;
using mount::Device;
using mount::Error;
using mount::ErrorCode;
using mount::Expected;
using mount::FileKind;
using mount::FilesystemUsage;
using mount::Kernel;
using mount::PathInfo;
using mount::Pin;
using mount::ToolOutcome;

namespace {

constexpr std::uint32_t group = 4242;

/// The volume's image and device, larger.
Device enlarge(ContractNode& node, const Device& device, const std::string& volume_id, std::uint64_t size) {
  value(node.kernel().resize_image({.image = image_of(node, volume_id), .size = size, .thick = false}));
  return value(node.kernel().refresh_device_size(device));
}

void expect_growth(ContractNode& node, const std::string& type, std::uint64_t size, std::uint64_t larger) {
  Kernel& kernel = node.kernel();
  const Mounted at = mounted_volume(node, "v", type, size);
  REQUIRE(node.write_file(at.path + "/data", "text") == 0);
  CHECK(value(kernel.grow_filesystem({.device = at.device, .fs_type = type, .path = at.path})) == size);
  const std::uint64_t before = value(kernel.usage(at.path, at.expected)).total;
  const Device device = enlarge(node, at.device, "v", larger);
  const std::string for_reading = node.work() + "/for-reading";
  value(kernel.bind({.source = at.path,
                     .expected = at.expected,
                     .target = for_reading,
                     .kind = mount::TargetKind::directory,
                     .attributes = {.read_only = true}}));
  refused(kernel.grow_filesystem({.device = device, .fs_type = type, .path = for_reading}), ErrorCode::failed_precondition);
  CHECK(value(kernel.grow_filesystem({.device = device, .fs_type = type, .path = at.path})) == larger);
  CHECK(value(kernel.grow_filesystem({.device = device, .fs_type = type, .path = at.path})) == larger);
  CHECK(value(kernel.usage(at.path, at.expected)).total > before);
  CHECK(node.read_file(at.path + "/data") == "text");
  // Of another mount of it, too.
  const std::string bound = node.work() + "/bound";
  value(kernel.bind({.source = at.path, .expected = at.expected, .target = bound, .kind = mount::TargetKind::directory, .attributes = {}}));
  CHECK(value(kernel.grow_filesystem({.device = device, .fs_type = type, .path = bound})) == larger);
}

ToolOutcome check_ext4(ContractNode& node, const Device& device) { return run(node, device, {"/usr/sbin/e2fsck", "-p", device.path}); }

}  // namespace

void inspect_path_tells_what_is_there(ContractNode& node) {
  Kernel& kernel = node.kernel();
  const std::string work = node.work();
  CHECK(value(kernel.inspect_path(work + "/missing")).kind == FileKind::none);
  CHECK(value(kernel.inspect_path(work + "/no/parent")).kind == FileKind::none);
  const PathInfo directory = value(kernel.inspect_path(work));
  CHECK(directory.kind == FileKind::directory);
  CHECK_FALSE(directory.mount_root);
  CHECK(directory.device != 0);
  REQUIRE(node.write_file(work + "/file", "text") == 0);
  CHECK(value(kernel.inspect_path(work + "/file")).kind == FileKind::regular);
  node.make_symlink(work + "/link", work + "/file");
  CHECK(value(kernel.inspect_path(work + "/link")).kind == FileKind::symlink);

  const Mounted ext4 = mounted_volume(node, "v");
  const PathInfo mounted = value(kernel.inspect_path(ext4.path));
  CHECK(mounted.kind == FileKind::directory);
  CHECK(mounted.mount_root);
  CHECK(mounted.device == ext4.device.number);
  CHECK(mounted.mount_id == ext4.info.mount_id);
  CHECK(mounted.fs_uuid.empty());
  CHECK(mount::matches(mounted, ext4.expected));
  CHECK_FALSE(mount::matches(mounted, expected_of(ext4.device, "", "")));
  REQUIRE(node.write_file(ext4.path + "/file", "text") == 0);
  const PathInfo inside = value(kernel.inspect_path(ext4.path + "/file"));
  CHECK(inside.kind == FileKind::regular);
  CHECK_FALSE(inside.mount_root);
  CHECK(inside.device == ext4.device.number);
  const PathInfo block = value(kernel.inspect_path(ext4.device.path));
  CHECK(block.kind == FileKind::block_device);
  CHECK(block.rdev == ext4.device.number);

  const Mounted btrfs = mounted_volume(node, "b", "btrfs", 112 * mib, uuid_b);
  const PathInfo anonymous = value(kernel.inspect_path(btrfs.path));
  CHECK(anonymous.fs_uuid == uuid_b);
  CHECK(anonymous.device != btrfs.device.number);
  CHECK(mount::matches(anonymous, btrfs.expected));
  CHECK_FALSE(mount::matches(anonymous, expected_of(btrfs.device, "btrfs", uuid_a)));
}

void staging_places_are_told_by_their_files(ContractNode& node) {
  const std::string top = node.work() + "/csi";
  CHECK(value(node.kernel().staging_places(top)).empty());
  node.make_directory(top);
  const auto make = [&](const std::string& name, const std::string& data) {
    node.make_directory(top + "/" + name);
    node.make_directory(top + "/" + name + "/globalmount");
    REQUIRE(node.write_file(top + "/" + name + "/vol_data.json", data) == 0);
  };
  make("b", R"({"volumeHandle":"v"})");
  make("a", "");
  node.mount_foreign(top + "/a/globalmount");
  make("long", std::string(4097, 'x'));
  node.make_directory(top + "/no file");
  node.make_directory(top + "/no file/globalmount");
  node.make_directory(top + "/no mount point");
  REQUIRE(node.write_file(top + "/no mount point/vol_data.json", "{}") == 0);
  node.make_directory(top + "/link");
  node.make_directory(top + "/link/globalmount");
  node.make_symlink(top + "/link/vol_data.json", top + "/b/vol_data.json");
  node.make_symlink(top + "/link to b", top + "/b");
  REQUIRE(node.write_file(top + "/a file", "") == 0);
  const auto places = value(node.kernel().staging_places(top));
  REQUIRE(places.size() == 2);
  CHECK(places[0].name == "a");
  CHECK(places[0].data.empty());
  CHECK(places[1].name == "b");
  CHECK(places[1].data == R"({"volumeHandle":"v"})");
  CHECK(places[1].age >= 0);
}

void mount_table_is_unescaped(ContractNode& node) {
  Kernel& kernel = node.kernel();
  const Device device = make_volume(node, "v");
  make_filesystem(node, device, "ext4", uuid_a);
  const std::string target = node.work() + "/a b\tc\\d\ne";
  const PathInfo info = value(kernel.mount_filesystem(mount_request(device, "ext4", uuid_a, target)));
  const std::vector<mount::MountEntry> found = mounts_at(node, target);
  REQUIRE(found.size() == 1);
  CHECK(found[0].id == info.mount_id);
  CHECK(found[0].device == device.number);
  CHECK(found[0].root == "/");
  CHECK(found[0].fs_type == "ext4");
  CHECK(found[0].source == device.path);
  CHECK(has_word(found[0].options, "rw"));
  value(kernel.unmount({.path = target, .expected = expected_of(device, "ext4", uuid_a), .remove = true}));
  CHECK(mounts_at(node, target).empty());
}

void usage_is_of_what_is_mounted(ContractNode& node) {
  Kernel& kernel = node.kernel();
  const Mounted at = mounted_volume(node, "v");
  const FilesystemUsage before = value(kernel.usage(at.path, at.expected));
  CHECK(before.total > small_size / 2);
  CHECK(before.total <= small_size);
  CHECK(before.available <= before.total);
  CHECK(before.used < before.total);
  CHECK(before.inodes > 0);
  CHECK(before.inodes == before.inodes_free + before.inodes_used);
  REQUIRE(node.write_file(at.path + "/data", std::string(1 * mib, 'x')) == 0);
  const FilesystemUsage after = value(kernel.usage(at.path, at.expected));
  CHECK(after.total == before.total);
  CHECK(after.used >= before.used + 1 * mib);
  CHECK(after.available < before.available);
  CHECK(after.inodes_used == before.inodes_used + 1);

  refused(kernel.usage(node.work(), at.expected), ErrorCode::failed_precondition);
  refused(kernel.usage(node.work() + "/missing", at.expected), ErrorCode::failed_precondition);
  const Mounted other = mounted_volume(node, "other", "ext4", small_size, uuid_b);
  refused(kernel.usage(other.path, at.expected), ErrorCode::failed_precondition);
}

void grow_filesystem_grows_xfs(ContractNode& node) { expect_growth(node, "xfs", 300 * mib, 450 * mib); }
void grow_filesystem_grows_btrfs(ContractNode& node) { expect_growth(node, "btrfs", 112 * mib, 256 * mib); }

void grow_filesystem_grows_ext4_or_says_why_not(ContractNode& node) {
  const Mounted at = mounted_volume(node, "v");
  const mount::GrowRequest request{.device = at.device, .fs_type = "ext4", .path = at.path};
  CHECK(value(node.kernel().grow_filesystem(request)) == small_size);
  enlarge(node, at.device, "v", 2 * small_size);
  const auto grown = node.kernel().grow_filesystem(request);
  if (grown) {
    CHECK(grown.value() == 2 * small_size);
  } else {
    INFO(grown.error().message);
    CHECK(grown.error().code == ErrorCode::failed_precondition);
    CHECK(grown.error().sys_errno == EPERM);
  }
}

void grow_filesystem_refuses_another_path(ContractNode& node) {
  const Mounted at = mounted_volume(node, "v", "xfs", 300 * mib);
  const Mounted other = mounted_volume(node, "other", "ext4", small_size, uuid_b);
  refused(node.kernel().grow_filesystem({.device = at.device, .fs_type = "xfs", .path = node.work()}), ErrorCode::failed_precondition);
  refused(node.kernel().grow_filesystem({.device = at.device, .fs_type = "xfs", .path = other.path}), ErrorCode::failed_precondition);
}

void apply_group_gives_all_beneath_to_the_group(ContractNode& node) {
  Kernel& kernel = node.kernel();
  const Mounted at = mounted_volume(node, "v");
  const std::string outside = node.work() + "/outside";
  REQUIRE(node.write_file(outside, "text") == 0);
  node.set_mode(outside, {.gid = 0, .mode = 0600});
  node.make_directory(at.path + "/inner");
  node.set_mode(at.path + "/inner", {.gid = 0, .mode = 0700});
  REQUIRE(node.write_file(at.path + "/inner/data", "text") == 0);
  node.set_mode(at.path + "/inner/data", {.gid = 0, .mode = 0600});
  REQUIRE(node.write_file(at.path + "/program", "text") == 0);
  node.set_mode(at.path + "/program", {.gid = 0, .mode = 04700});
  node.make_symlink(at.path + "/link", outside);
  // Another filesystem beneath is somebody else's.
  node.make_directory(at.path + "/beneath");
  node.mount_foreign(at.path + "/beneath");
  const FileMode beneath = node.mode_of(at.path + "/beneath");

  value(kernel.apply_group(at.path, at.expected, group));
  CHECK(node.mode_of(at.path).gid == group);
  CHECK((node.mode_of(at.path).mode & 02070U) == 02070U);
  CHECK(node.mode_of(at.path + "/inner") == FileMode{.gid = group, .mode = 02770});
  CHECK(node.mode_of(at.path + "/inner/data") == FileMode{.gid = group, .mode = 0660});
  CHECK(node.mode_of(at.path + "/program") == FileMode{.gid = group, .mode = 04770});
  CHECK(node.mode_of(outside) == FileMode{.gid = 0, .mode = 0600});
  CHECK(node.mode_of(at.path + "/beneath") == beneath);
  value(kernel.apply_group(at.path, at.expected, group));
}

void apply_group_looks_at_the_root_only_when_it_is_done(ContractNode& node) {
  Kernel& kernel = node.kernel();
  const Mounted at = mounted_volume(node, "v");
  value(kernel.apply_group(at.path, at.expected, group));
  REQUIRE(node.write_file(at.path + "/later", "text") == 0);
  node.set_mode(at.path + "/later", {.gid = 7, .mode = 0600});
  value(kernel.apply_group(at.path, at.expected, group));
  CHECK(node.mode_of(at.path + "/later") == FileMode{.gid = 7, .mode = 0600});
  value(kernel.apply_group(at.path, at.expected, group + 1));
  CHECK(node.mode_of(at.path + "/later") == FileMode{.gid = group + 1, .mode = 0660});

  const FileMode before = node.mode_of(node.work());
  CHECK_FALSE(kernel.apply_group(node.work(), at.expected, group));
  CHECK(node.mode_of(node.work()) == before);
}

void pins_are_the_other_namespaces(ContractNode& node) {
  Kernel& kernel = node.kernel();
  const Mounted at = mounted_volume(node, "v");
  const Mounted other = mounted_volume(node, "other", "btrfs", 112 * mib, uuid_b);
  CHECK(value(kernel.pins(at.device)).empty());
  CHECK(value(kernel.pins(other.device)).empty());
  Hold pinned = node.pin(at.path);
  const std::vector<Pin> found = value(kernel.pins(at.device));
  REQUIRE(found.size() == 1);
  CHECK(found[0].pid > 0);
  CHECK_FALSE(found[0].command.empty());
  CHECK(found[0].mount_point == at.path);
  CHECK(found[0].mount_namespace != 0);
  pinned.reset();
  CHECK(value(kernel.pins(at.device)).empty());

  // btrfs, whose st_dev does not name the device.
  pinned = node.pin(other.path);
  REQUIRE(value(kernel.pins(other.device)).size() == 1);
  CHECK(value(kernel.pins(other.device))[0].mount_point == other.path);
}

void cgroup_users_are_those_that_have_the_volume(ContractNode& node) {
  if (!node.has_cgroups()) {
    std::printf("SKIPPED: control groups can't be made here\n");
    return;
  }
  Kernel& kernel = node.kernel();
  const std::string fs_type = GENERATE(as<std::string>{}, "ext4", "btrfs");
  const Mounted at = mounted_volume(node, "v", fs_type, 112 * mib, uuid_b);
  const Mounted other = mounted_volume(node, "other");
  const std::string uid = "6ba7b810-9dad-11d1-80b4-" + std::to_string(::getpid());
  std::string with_underscores = uid;
  std::ranges::replace(with_underscores, '-', '_');
  const mount::CgroupQuery query{.names = {"pod" + uid, "*-pod" + with_underscores + ".slice"}, .device = at.device};
  const auto ask = [&] { return value(kernel.cgroup_users(query)); };
  CHECK(ask().visible);
  CHECK_FALSE(ask().found);
  CHECK(value(kernel.cgroup_users({})).visible);

  for (const std::string& name : {"pod" + uid, "kubepods-burstable-pod" + with_underscores + ".slice"}) {
    INFO(name);
    Hold process = node.run_in_cgroup(name, at.path);
    const mount::CgroupUsers found = ask();
    CHECK(found.found);
    CHECK(found.unseen == 0);
    REQUIRE(found.users.size() == 1);
    CHECK(found.users[0].pid > 0);
    CHECK_FALSE(found.users[0].command.empty());
    CHECK(found.users[0].mount_point == at.path);
    CHECK(found.users[0].mount_namespace != 0);
    // Where a copy of the mount table has it, that alone is nothing.
    mount::CgroupQuery all{.names = {"/"}, .device = at.device, .usual = {"/elsewhere"}};
    REQUIRE(value(kernel.cgroup_users(all)).users.size() == 1);
    CHECK(value(kernel.cgroup_users(all)).users[0].pid == found.users[0].pid);
    all.usual.push_back(at.path);
    CHECK(value(kernel.cgroup_users(all)).users.empty());
    // Of this device nobody has anything; it counts where each of them does.
    mount::CgroupQuery any{.names = query.names, .device = {.path = "/dev/none", .number = std::uint64_t{1} << 40}};
    CHECK(value(kernel.cgroup_users(any)).users.empty());
    any.any = true;
    REQUIRE(value(kernel.cgroup_users(any)).users.size() == 1);
    CHECK(value(kernel.cgroup_users(any)).users[0].pid == found.users[0].pid);
    CHECK(value(kernel.cgroup_users(any)).users[0].mount_point.empty());
    CHECK_FALSE(value(kernel.cgroup_users(any)).users[0].command.empty());
    process.reset();
    CHECK_FALSE(ask().found);
  }
  // Another workload's processes are nobody's business here.
  const Hold bystander = node.run_in_cgroup("pod-of-somebody-else-" + uid, at.path);
  CHECK_FALSE(ask().found);
}

/// rmdir(2) of a mount point takes what other namespaces have mounted there away from them.
void removing_the_target_lets_go_of_it_elsewhere(ContractNode& node) {
  Kernel& kernel = node.kernel();
  const Mounted at = mounted_volume(node, "v");
  const Hold pinned = node.pin(at.path);
  value(kernel.unmount({.path = at.path, .expected = at.expected, .remove = true}));
  CHECK(value(kernel.pins(at.device)).empty());
  CHECK_FALSE(value(kernel.probe({.device = at.device, .proof = mount::BlankProof::none, .image = {}})).busy);
  value(kernel.detach(at.device));
}

void a_pinned_filesystem_is_mounted_again_with_its_data(ContractNode& node) {
  Kernel& kernel = node.kernel();
  const Mounted at = mounted_volume(node, "v");
  REQUIRE(node.write_file(at.path + "/data", "text") == 0);
  Hold pinned = node.pin(at.path);
  value(kernel.unmount({.path = at.path, .expected = at.expected, .remove = false}));
  CHECK(value(kernel.pins(at.device)).size() == 1);
  CHECK(value(kernel.probe({.device = at.device, .proof = mount::BlankProof::none, .image = {}})).busy);
  refused(kernel.erase(at.device, false), ErrorCode::failed_precondition);
  refused(kernel.detach(at.device), ErrorCode::failed_precondition);

  const Device again = value(kernel.attach(image_of(node, "v"), block_size));
  CHECK(again.diskseq == at.device.diskseq);
  value(kernel.mount_filesystem(mount_request(again, "ext4", uuid_a, at.path)));
  CHECK(node.read_file(at.path + "/data") == "text");
  pinned.reset();
  CHECK(node.read_file(at.path + "/data") == "text");
  value(kernel.unmount({.path = at.path, .expected = at.expected, .remove = true}));
  value(kernel.detach(again));
  CHECK_FALSE(value(kernel.find_attached(image_of(node, "v"))));
}

void run_tool_answers_status_and_output(ContractNode& node) {
  const Device device = make_volume(node, "v");
  const ToolOutcome said = run(node, device, {"/usr/bin/echo", "hello", "there"});
  CHECK(said.exit_status == 0);
  CHECK(said.signal == 0);
  CHECK_FALSE(said.timed_out);
  CHECK(said.output == "hello there\n");
  CHECK(run(node, device, {"/usr/bin/false"}).exit_status == 1);
}

void run_tool_needs_no_device(ContractNode& node) {
  const mount::ToolOutcome outcome = value(node.kernel().run_tool(
      {.argv = {"/usr/sbin/mkfs.xfs", "-V"}, .device = {}, .deadline = std::chrono::minutes{1}, .memory = 0, .scratch = {}}));
  CHECK(outcome.exit_status == 0);
  CHECK_THAT(outcome.output, Catch::Contains("mkfs.xfs"));
}

void run_tool_says_what_it_could_not_start(ContractNode& node) {
  const Device device = make_volume(node, "v");
  refused(node.kernel().run_tool({.argv = {"/usr/sbin/no-such-tool"}, .device = device, .deadline = std::chrono::seconds{10}}),
          ErrorCode::internal);
}

void run_tool_ends_at_its_deadline(ContractNode& node) {
  const Device device = make_volume(node, "v");
  const ToolOutcome outcome =
      value(node.kernel().run_tool({.argv = {"/usr/bin/sleep", "600"}, .device = device, .deadline = std::chrono::milliseconds{20}}));
  CHECK(outcome.timed_out);
  CHECK(outcome.exit_status == -1);
  CHECK(outcome.signal == SIGKILL);
  CHECK(outcome.took < std::chrono::minutes{1});
}

void tools_refuse_a_device_in_use(ContractNode& node) {
  const Mounted at = mounted_volume(node, "v");
  REQUIRE(node.write_file(at.path + "/data", "text") == 0);
  const auto expect_refusals = [&] {
    CHECK(check_ext4(node, at.device).exit_status == 8);
    for (const char* const type : {"ext4", "xfs", "btrfs"}) {
      INFO(type);
      const std::vector<std::string> argv =
          mount::find_filesystem(type)->make_argv({.device = at.device.path, .uuid = uuid_b, .options = {}});
      CHECK(run(node, at.device, argv).exit_status != 0);
    }
  };
  expect_refusals();
  Hold pinned = node.pin(at.path);
  value(node.kernel().unmount({.path = at.path, .expected = at.expected, .remove = false}));
  expect_refusals();
  pinned.reset();
  CHECK(check_ext4(node, at.device).exit_status == 0);
  value(node.kernel().mount_filesystem(mount_request(at.device, "ext4", uuid_a, at.path)));
  CHECK(node.read_file(at.path + "/data") == "text");
}

void ext4_grows_offline_after_a_whole_check(ContractNode& node) {
  Kernel& kernel = node.kernel();
  const Mounted at = mounted_volume(node, "v");
  REQUIRE(node.write_file(at.path + "/data", "text") == 0);
  value(kernel.unmount({.path = at.path, .expected = at.expected, .remove = true}));
  const Device device = enlarge(node, at.device, "v", 2 * small_size);
  const mount::Filesystem& ext4 = *mount::find_filesystem("ext4");
  CHECK(run(node, device, ext4.check_argv(device.path, {})).exit_status == 0);
  // Now resize2fs would refuse, but for one that was mounted in the very second in which it was checked last. Afterwards it never does.
  CHECK(run(node, device, ext4.whole_check_argv(device.path, {})).exit_status == 0);
  const auto past = [&] {
    const mount::Ext4Past told = value(kernel.probe({.device = device, .proof = mount::BlankProof::none, .image = {}})).ext4;
    CHECK_FALSE(told.unclean);
    CHECK_FALSE(told.torn);
    CHECK_FALSE(told.mounted.empty());
    return told.mounted + " " + told.checked;
  };
  const std::string before = past();
  const auto grown = value(kernel.run_tool({.argv = ext4.grow_argv(device.path, std::string{mount::scratch_in_tool} + "/undo"),
                                            .device = device,
                                            .deadline = std::chrono::minutes{1},
                                            .memory = 0,
                                            .scratch = node.work()}));
  CHECK(grown.exit_status == 0);
  CHECK(value(kernel.probe({.device = device, .proof = mount::BlankProof::none, .image = {}})).filesystem_size == 2 * small_size);
  CHECK(past() == before);  // a growth leaves it as it is; a mount does not
  value(kernel.mount_filesystem(mount_request(device, "ext4", uuid_a, at.path)));
  CHECK(node.read_file(at.path + "/data") == "text");
  value(kernel.unmount({.path = at.path, .expected = at.expected, .remove = true}));
  CHECK(past() != before);
}

void mkfs_of_xfs_and_btrfs_refuse_an_existing_filesystem(ContractNode& node) {
  const Device device = make_volume(node, "v", 300 * mib);
  make_filesystem(node, device, "ext4", uuid_a);
  for (const char* const type : {"xfs", "btrfs"}) {
    INFO(type);
    const std::vector<std::string> argv = mount::find_filesystem(type)->make_argv({.device = device.path, .uuid = uuid_b, .options = {}});
    CHECK(run(node, device, argv).exit_status != 0);
  }
  CHECK(value(node.kernel().probe({.device = device, .proof = mount::BlankProof::none, .image = {}})).signatures.at(0).uuid == uuid_a);
}

}  // namespace ordinald::testing::contract
