// The contract's cases about images and pools.
#include <algorithm>
#include <cerrno>

#include "tests/mount/contract_steps.hpp"

namespace ordinald::testing::contract {

using mount::ErrorCode;
using mount::Expected;
using mount::ImageInfo;
using mount::ImageRef;
using mount::Kernel;
using mount::PoolImage;
using mount::PoolUsage;

void create_image_makes_it_marked_and_of_its_size(ContractNode& node) {
  const ImageRef image = image_of(node, "v");
  const ImageInfo made = value(node.kernel().create_image({.image = image, .size = 64 * mib, .thick = false}));
  CHECK(made.size == 64 * mib);
  CHECK(made.allocated < 1 * mib);
  CHECK(made.volume_id == "v");
  CHECK(made.inode != 0);
  const std::optional<ImageInfo> found = value(node.kernel().inspect_image(image));
  REQUIRE(found);
  CHECK(found->size == made.size);
  CHECK(found->device == made.device);
  CHECK(found->inode == made.inode);
  CHECK(found->volume_id == "v");
  // Nothing of a temporary name is left.
  CHECK(value(node.kernel().inspect_pool(node.pool())).images.size() == 1);
}

void create_image_keeps_the_label_it_was_made_with(ContractNode& node) {
  Kernel& kernel = node.kernel();
  const ImageRef image = image_of(node, "v");
  const std::string label = R"({"made": "so"})";
  value(kernel.create_image({.image = image, .size = 4 * mib, .thick = false, .label = label}));
  CHECK(value(kernel.inspect_image(image))->label == label);
  value(kernel.create_image({.image = image, .size = 8 * mib, .thick = false, .label = "another"}));
  CHECK(value(kernel.inspect_image(image))->label == label);

  // One that is too long for any file system is left out, and the image is made.
  const ImageRef large = image_of(node, "w");
  value(kernel.create_image({.image = large, .size = 4 * mib, .thick = false, .label = std::string(70'000, 'x')}));
  CHECK(value(kernel.inspect_image(large))->label.empty());
}

void create_image_allocates_a_thick_one(ContractNode& node) {
  const ImageRef image = image_of(node, "v");
  CHECK(value(node.kernel().create_image({.image = image, .size = small_size, .thick = true})).allocated >= small_size);
  CHECK(value(node.kernel().inspect_image(image))->allocated >= small_size);
}

void create_image_again_grows_and_never_shrinks(ContractNode& node) {
  const ImageRef image = image_of(node, "v");
  const ImageInfo made = value(node.kernel().create_image({.image = image, .size = 8 * mib, .thick = false}));
  const ImageInfo same = value(node.kernel().create_image({.image = image, .size = 8 * mib, .thick = false}));
  CHECK(same.inode == made.inode);
  CHECK(same.size == 8 * mib);
  const ImageInfo larger = value(node.kernel().create_image({.image = image, .size = 12 * mib, .thick = false}));
  CHECK(larger.inode == made.inode);
  CHECK(larger.size == 12 * mib);
  CHECK(value(node.kernel().create_image({.image = image, .size = 4 * mib, .thick = false})).size == 12 * mib);
}

void create_image_refuses_what_is_not_this_volumes(ContractNode& node) {
  Kernel& kernel = node.kernel();
  const ImageRef image = image_of(node, "v");
  const std::string path = image.directory + "/" + image.file;

  SECTION("a file without a mark") {
    REQUIRE(node.write_file(path, "somebody's") == 0);
    refused(kernel.create_image({.image = image, .size = 8 * mib, .thick = false}), ErrorCode::already_exists);
    CHECK(value(kernel.inspect_image(image))->size == 10);
    CHECK(value(kernel.inspect_image(image))->volume_id.empty());
  }
  SECTION("another volume's") {
    value(kernel.create_image({.image = image, .size = 8 * mib, .thick = false}));
    ImageRef other = image;
    other.volume_id = "w";
    refused(kernel.create_image({.image = other, .size = 16 * mib, .thick = false}), ErrorCode::already_exists);
    CHECK(value(kernel.inspect_image(image))->size == 8 * mib);
    CHECK(value(kernel.inspect_image(image))->volume_id == "v");
  }
  SECTION("a directory") {
    node.make_directory(path);
    refused(kernel.create_image({.image = image, .size = 8 * mib, .thick = false}), ErrorCode::failed_precondition);
  }
  SECTION("a symlink") {
    node.make_symlink(path, node.work() + "/elsewhere");
    refused(kernel.create_image({.image = image, .size = 8 * mib, .thick = false}), ErrorCode::failed_precondition);
    CHECK(value(kernel.inspect_path(node.work() + "/elsewhere")).kind == mount::FileKind::none);
  }
}

void create_image_without_room_leaves_nothing(ContractNode& node) {
  Kernel& kernel = node.kernel();
  const ImageRef image{.directory = node.small_pool(), .file = "v.img", .volume_id = "v"};
  refused(kernel.create_image({.image = image, .size = 128 * mib, .thick = true}), ErrorCode::resource_exhausted);
  CHECK_FALSE(value(kernel.inspect_image(image)));
  const PoolUsage usage = value(kernel.inspect_pool(node.small_pool()));
  CHECK(usage.images.empty());
  CHECK(usage.free > usage.total / 2);

  const ImageRef nowhere{.directory = node.pool() + "/missing", .file = "v.img", .volume_id = "v"};
  CHECK_FALSE(kernel.create_image({.image = nowhere, .size = 8 * mib, .thick = false}));
}

void inspect_image_tells_what_is_there(ContractNode& node) {
  Kernel& kernel = node.kernel();
  const ImageRef image = image_of(node, "v");
  const std::string path = image.directory + "/" + image.file;
  CHECK_FALSE(value(kernel.inspect_image(image)));
  refused(kernel.inspect_image({.directory = node.pool() + "/missing", .file = "v.img", .volume_id = "v"}), ErrorCode::not_found);
  SECTION("a directory") {
    node.make_directory(path);
    refused(kernel.inspect_image(image), ErrorCode::failed_precondition);
  }
  SECTION("a symlink, not followed") {
    REQUIRE(node.write_file(node.work() + "/elsewhere", "text") == 0);
    node.make_symlink(path, node.work() + "/elsewhere");
    refused(kernel.inspect_image(image), ErrorCode::failed_precondition);
  }
}

void resize_image_grows_and_never_shrinks(ContractNode& node) {
  Kernel& kernel = node.kernel();
  const ImageRef image = image_of(node, "v");
  refused(kernel.resize_image({.image = image, .size = 8 * mib, .thick = false}), ErrorCode::not_found);
  value(kernel.create_image({.image = image, .size = 8 * mib, .thick = false}));
  const ImageInfo grown = value(kernel.resize_image({.image = image, .size = 12 * mib, .thick = false}));
  CHECK(grown.size == 12 * mib);
  CHECK(grown.allocated < 1 * mib);
  CHECK(value(kernel.resize_image({.image = image, .size = 4 * mib, .thick = false})).size == 12 * mib);
  // Thick: every hole, also of what was there before.
  CHECK(value(kernel.resize_image({.image = image, .size = 12 * mib, .thick = true})).allocated >= 12 * mib);

  ImageRef other = image;
  other.volume_id = "w";
  refused(kernel.resize_image({.image = other, .size = 16 * mib, .thick = false}), ErrorCode::failed_precondition);
  CHECK(value(kernel.inspect_image(image))->size == 12 * mib);
}

void remove_image_takes_this_volumes_only(ContractNode& node) {
  Kernel& kernel = node.kernel();
  const ImageRef image = image_of(node, "v");
  value(kernel.remove_image(image));
  value(kernel.create_image({.image = image, .size = 8 * mib, .thick = false}));
  ImageRef other = image;
  other.volume_id = "w";
  refused(kernel.remove_image(other), ErrorCode::failed_precondition);
  CHECK(value(kernel.inspect_image(image)));
  value(kernel.remove_image(image));
  CHECK_FALSE(value(kernel.inspect_image(image)));
  value(kernel.remove_image(image));

  const ImageRef foreign = image_of(node, "foreign");
  REQUIRE(node.write_file(foreign.directory + "/" + foreign.file, "somebody's") == 0);
  refused(kernel.remove_image(foreign), ErrorCode::failed_precondition);
  CHECK(value(kernel.inspect_image(foreign)));
}

void open_pool_gives_what_one_can_lock(ContractNode& node) {
  Kernel& kernel = node.kernel();
  mount::PoolDirectory first = value(kernel.open_pool(node.pool()));
  const mount::PoolDirectory second = value(kernel.open_pool(node.pool()));
  CHECK(first.device == value(kernel.inspect_pool(node.pool())).device);
  REQUIRE(mount::lock_pool_directory(first, node.pool()));
  REQUIRE(mount::lock_pool_directory(first, node.pool()));
  refused(mount::lock_pool_directory(second, node.pool()), ErrorCode::failed_precondition);
  first = {};
  CHECK(mount::lock_pool_directory(second, node.pool()));
  refused(kernel.open_pool(node.pool() + "/missing"), ErrorCode::not_found);
}

void mark_pool_marks_it_once(ContractNode& node) {
  Kernel& kernel = node.kernel();
  CHECK(value(kernel.open_pool(node.pool())).mark.empty());
  CHECK(value(kernel.inspect_pool(node.pool())).mark.empty());
  CHECK(value(kernel.mark_pool(node.pool(), "first")) == "first");
  CHECK(value(kernel.mark_pool(node.pool(), "second")) == "first");
  CHECK(value(kernel.open_pool(node.pool())).mark == "first");
  CHECK(value(kernel.inspect_pool(node.pool())).mark == "first");
  CHECK(value(kernel.inspect_pool(node.small_pool())).mark.empty());
  refused(kernel.mark_pool(node.pool() + "/missing", "third"), ErrorCode::not_found);
}

void inspect_pool_lists_images(ContractNode& node) {
  Kernel& kernel = node.kernel();
  CHECK(value(kernel.inspect_pool(node.pool())).images.empty());
  const ImageInfo thick = value(kernel.create_image({.image = image_of(node, "a"), .size = 8 * mib, .thick = true}));
  value(kernel.create_image({.image = image_of(node, "b"), .size = 4 * mib, .thick = false}));
  REQUIRE(node.write_file(node.pool() + "/foreign.img", "somebody's") == 0);
  REQUIRE(node.write_file(node.pool() + "/.half.img.new", "cut short") == 0);
  REQUIRE(node.write_file(node.pool() + "/notes.txt", "of a person") == 0);

  PoolUsage usage = value(kernel.inspect_pool(node.pool()));
  CHECK(usage.total >= usage.free);
  CHECK(usage.free > 0);
  CHECK(usage.device == thick.device);
  CHECK_FALSE(usage.filesystem.empty());
  CHECK(usage.filesystem != value(kernel.inspect_pool(node.small_pool())).filesystem);
  CHECK_FALSE(usage.read_only);
  std::ranges::sort(usage.images, {}, &PoolImage::file);
  REQUIRE(usage.images.size() == 4);
  CHECK(usage.images[0].file == ".half.img.new");
  CHECK(usage.images[1].file == "a.img");
  CHECK(usage.images[1].size == 8 * mib);
  CHECK(usage.images[1].allocated >= 8 * mib);
  CHECK(usage.images[1].volume_id == "a");
  CHECK(usage.images[2].file == "b.img");
  CHECK(usage.images[2].volume_id == "b");
  CHECK(usage.images[3].file == "foreign.img");
  CHECK(usage.images[3].volume_id.empty());
  refused(kernel.inspect_pool(node.pool() + "/missing"), ErrorCode::not_found);

  // What a thick image takes is no longer free.
  const std::uint64_t before = value(kernel.inspect_pool(node.small_pool())).free;
  const ImageRef image{.directory = node.small_pool(), .file = "c.img", .volume_id = "c"};
  value(kernel.create_image({.image = image, .size = 8 * mib, .thick = true}));
  CHECK(before - value(kernel.inspect_pool(node.small_pool())).free >= 8 * mib);
}

void relabel_image_replaces_the_label(ContractNode& node) {
  Kernel& kernel = node.kernel();
  const ImageRef image = image_of(node, "v");
  refused(kernel.relabel_image({.image = image, .label = "new"}), ErrorCode::not_found);
  value(kernel.create_image({.image = image, .size = 4 * mib, .label = "old"}));
  value(kernel.relabel_image({.image = image, .label = "another, and a longer one"}));
  value(kernel.relabel_image({.image = image, .label = "new"}));
  const ImageInfo found = *value(kernel.inspect_image(image));
  CHECK(found.label == "new");
  CHECK(found.volume_id == "v");
  CHECK(found.size == 4 * mib);

  ImageRef other = image;
  other.volume_id = "w";
  refused(kernel.relabel_image({.image = other, .label = "another's"}), ErrorCode::failed_precondition);
  CHECK(value(kernel.inspect_image(image))->label == "new");

  // One without room is left out, and what it replaces is gone all the same: it is not true any more.
  value(kernel.relabel_image({.image = image, .label = std::string(70'000, 'x')}));
  CHECK(value(kernel.inspect_image(image))->label.empty());
  value(kernel.relabel_image({.image = image, .label = "once more"}));
  value(kernel.relabel_image({.image = image, .label = ""}));
  CHECK(value(kernel.inspect_image(image))->label.empty());

  // Also while a device stands on it.
  value(kernel.attach(image, block_size));
  value(kernel.relabel_image({.image = image, .label = "in use"}));
  CHECK(value(kernel.inspect_image(image))->label == "in use");
}

namespace {

/// A filesystem with `db/data` in an image that nothing is attached to.
Expected leave_filesystem(ContractNode& node, const std::string& volume, const std::string& type, std::uint64_t size) {
  const Mounted mounted = mounted_volume(node, volume, type, size);
  node.make_directory(mounted.path + "/db");
  REQUIRE(node.write_file(mounted.path + "/db/data", "precious") == 0);
  value(node.kernel().unmount({.path = mounted.path, .expected = mounted.expected, .remove = true}));
  value(node.kernel().detach(mounted.device));
  return mounted.expected;
}

std::string path_in(const ImageRef& image) { return image.directory + "/" + image.file; }

mount::AdoptRequest adoption(ContractNode& node, const ImageRef& from, const ImageRef& to) {
  const mount::Survey found = value(node.kernel().survey(path_in(from)));
  return {.source = path_in(from), .device = found.device, .inode = found.inode, .size = found.size, .image = to, .label = "adopted"};
}

}  // namespace

void adopt_image_moves_a_file_as_it_is(ContractNode& node) {
  Kernel& kernel = node.kernel();
  const ImageRef from = image_of(node, "v");
  const ImageRef to = image_of(node, "w");
  leave_filesystem(node, "v", "ext4", small_size);
  const mount::AdoptRequest request = adoption(node, from, to);
  const ImageInfo adopted = value(kernel.adopt_image(request));
  CHECK(adopted.inode == request.inode);
  CHECK(adopted.size == small_size);
  CHECK(adopted.volume_id == "w");
  CHECK(value(kernel.inspect_image(to))->label == "adopted");
  CHECK_FALSE(value(kernel.inspect_image(from)));
  // Again: done already, also where the directory that it came from is gone.
  CHECK(value(kernel.adopt_image(request)).inode == request.inode);
  mount::AdoptRequest from_nowhere = request;
  from_nowhere.source = node.work() + "/gone/v.img";
  CHECK(value(kernel.adopt_image(from_nowhere)).inode == request.inode);

  const mount::Device device = value(kernel.attach(to, block_size));
  const mount::PathInfo mounted = value(kernel.mount_filesystem(mount_request(device, "ext4", uuid_a, node.work() + "/w")));
  CHECK(mounted.mount_root);
  CHECK(node.read_file(node.work() + "/w/db/data") == "precious");
}

void adopt_image_refuses_what_it_may_not_take(ContractNode& node) {
  Kernel& kernel = node.kernel();
  const ImageRef from = image_of(node, "v");
  const ImageRef to = image_of(node, "w");
  value(kernel.create_image({.image = from, .size = small_size, .label = "of v"}));
  mount::AdoptRequest request = adoption(node, from, to);
  const auto is_left_alone = [&, inode = request.inode] { CHECK(value(kernel.inspect_image(from))->inode == inode); };

  SECTION("nothing there") {
    request.source = node.pool() + "/missing.img";
    refused(kernel.adopt_image(request), ErrorCode::not_found);
  }
  SECTION("another file than the one that was looked at") {
    request.inode += 1000;
    refused(kernel.adopt_image(request), ErrorCode::failed_precondition);
  }
  SECTION("another size") {
    request.size += block_size;
    refused(kernel.adopt_image(request), ErrorCode::failed_precondition);
  }
  SECTION("attached") {
    value(kernel.attach(from, block_size));
    refused(kernel.adopt_image(request), ErrorCode::failed_precondition);
    CHECK(value(kernel.inspect_image(from))->label == "of v");
  }
  SECTION("the name of an image that is another volume's") {
    ImageRef other = to;
    other.volume_id = "x";
    value(kernel.create_image({.image = other, .size = 4 * mib}));
    refused(kernel.adopt_image(request), ErrorCode::already_exists);
    CHECK(value(kernel.inspect_image(other))->volume_id == "x");
  }
  SECTION("a pool on another file system") {
    request.image.directory = node.small_pool();
    CHECK(refused(kernel.adopt_image(request), ErrorCode::failed_precondition).sys_errno == EXDEV);
  }
  is_left_alone();
}

void survey_tells_what_a_file_holds_and_changes_nothing(ContractNode& node) {
  Kernel& kernel = node.kernel();
  const std::string type = GENERATE(as<std::string>{}, "ext4", "xfs", "btrfs");
  const std::uint64_t size = type == "ext4" ? small_size : type == "xfs" ? 300 * mib : 112 * mib;
  const ImageRef image = image_of(node, "v");
  leave_filesystem(node, "v", type, size);
  const ImageInfo before = *value(kernel.inspect_image(image));
  const mount::Survey found = value(kernel.survey(path_in(image)));
  CHECK(found.kind == mount::FileKind::regular);
  CHECK(found.size == size);
  CHECK(found.inode == before.inode);
  CHECK(found.device == before.device);
  CHECK(found.links == 1);
  CHECK(found.volume_id == "v");
  CHECK(found.in_use.empty());
  REQUIRE(found.signatures.size() == 1);
  CHECK(found.signatures[0].type == type);
  CHECK(found.signatures[0].uuid == uuid_a);
  CHECK(found.filesystem_size == size);
  CHECK((found.block_size == 512 || found.block_size == 4096));
  CHECK(found.problem.empty());
  CHECK(found.total > 0);
  CHECK(std::ranges::find(found.names, "db") != found.names.end());
  CHECK(found.name_count == found.names.size());

  const auto loops = value(kernel.loops());  // the node's, others' too
  CHECK(std::ranges::find(loops, path_in(image), &mount::LoopEntry::backing) == loops.end());
  CHECK(value(kernel.inspect_image(image))->allocated == before.allocated);
  const mount::Device device = value(kernel.attach(image, block_size));
  CHECK_FALSE(value(kernel.survey(path_in(image))).in_use.empty());
  value(kernel.mount_filesystem(mount_request(device, type, uuid_a, node.work() + "/again")));
  CHECK(node.read_file(node.work() + "/again/db/data") == "precious");
  const mount::Survey used = value(kernel.survey(path_in(image)));
  CHECK_FALSE(used.in_use.empty());
  CHECK(used.names.empty());
  REQUIRE(used.signatures.size() == 1);
  CHECK(used.signatures[0].uuid == uuid_a);
}

void survey_tells_what_it_can_of_others(ContractNode& node) {
  Kernel& kernel = node.kernel();
  refused(kernel.survey(node.pool() + "/missing"), ErrorCode::not_found);
  CHECK(value(kernel.survey(node.work())).kind == mount::FileKind::directory);
  REQUIRE(node.write_file(node.work() + "/file", "text") == 0);
  node.make_symlink(node.work() + "/link", node.work() + "/file");
  CHECK(value(kernel.survey(node.work() + "/link")).kind == mount::FileKind::symlink);

  const ImageRef image = image_of(node, "v");
  value(kernel.create_image({.image = image, .size = 4 * mib}));
  CHECK(value(kernel.survey(path_in(image))).signatures.empty());
  node.write_luks(image);
  const mount::Survey luks = value(kernel.survey(path_in(image)));
  REQUIRE(luks.signatures.size() == 1);
  CHECK(luks.signatures[0].type == "crypto_LUKS");
  CHECK(luks.total == 0);
  CHECK(luks.problem.empty());
}

}  // namespace ordinald::testing::contract
