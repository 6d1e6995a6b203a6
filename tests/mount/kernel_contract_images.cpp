// The contract's cases about images and pools.
#include <algorithm>

#include "tests/mount/contract_steps.hpp"

namespace ordinald::testing::contract {

using mount::ErrorCode;
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

}  // namespace ordinald::testing::contract
