#pragma once

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <numeric>
#include <string>
#include <vector>

#include "mount/linux_kernel.hpp"
#include "tests/support/temp.hpp"

/// What the tests of the real kernel share: a LinuxKernel, a temporary pool, and volumes in it. All of it is gone with the object.
/// test_mount is in a private mount namespace already.
namespace ordinald::testing {

/// Requires success, and says why there is none.
template <class T>
T must(mount::Result<T> result) {
  INFO((result.has_error() ? result.error().message : std::string{}));
  REQUIRE(result.has_value());
  if constexpr (!std::is_void_v<T>) {
    return std::move(result).value();
  }
}

/// Requires an error of this code; answers its message.
template <class T>
std::string refused(const mount::Result<T>& result, mount::ErrorCode code) {
  REQUIRE(result.has_error());
  INFO(result.error().message);
  REQUIRE(mount::to_string(result.error().code) == mount::to_string(code));
  REQUIRE_FALSE(result.error().message.empty());
  return result.error().message;
}

class LinuxNode {
 public:
  static constexpr std::uint64_t mib = 1 << 20;

  LinuxNode()
      : dir_("linux"), kernel_([](const mount::ToolRequest&) -> mount::Result<mount::ToolOutcome> {
          mount::ToolOutcome outcome;
          outcome.exit_status = 0;
          return outcome;
        }) {
    std::filesystem::create_directories(dir_.path() / "pool");
    std::filesystem::create_directories(dir_.path() / "work");
  }

  mount::LinuxKernel& kernel() { return kernel_; }
  std::string pool() const { return dir_.path() / "pool"; }
  std::string work(const std::string& name) const { return dir_.path() / "work" / name; }
  mount::ImageRef image(const std::string& name) const { return image_in(pool(), name); }
  static mount::ImageRef image_in(const std::string& directory, const std::string& name) {
    return {.directory = directory, .file = name + ".img", .volume_id = name};
  }
  static std::string path_of(const mount::ImageRef& image) { return image.directory + "/" + image.file; }

  /// An image of the size, attached.
  mount::Device attached(const mount::ImageRef& image, std::uint64_t size, bool thick = false, std::uint32_t block_size = 4096) {
    must(kernel_.create_image({.image = image, .size = size, .thick = thick}));
    return must(kernel_.attach(image, block_size));
  }

  static void run(const std::string& command) {
    INFO(command);
    REQUIRE(std::system((command + " >/dev/null 2>&1").c_str()) == 0);
  }

  static std::string uuid_for(char digit) { return "00000000-0000-4000-8000-00000000000" + std::string(1, digit); }

  static void make_filesystem(const mount::Device& device, const std::string& type, const std::string& uuid) {
    if (type == "xfs") {
      run("mkfs.xfs -q -f -m uuid=" + uuid + " " + device.path);
    } else if (type == "btrfs") {
      run("mkfs.btrfs -q -f -U " + uuid + " " + device.path);
    } else {
      run("mkfs.ext4 -q -F -U " + uuid + " " + device.path);
    }
  }

  /// A volume with a filesystem, not mounted.
  struct Volume {
    mount::ImageRef image;
    mount::Device device;
    std::string type;
    std::string uuid;
    mount::Expected expected() const { return {.number = device.number, .fs_type = type, .uuid = uuid}; }
  };
  Volume volume(const std::string& name, const std::string& type, char digit = '1', std::uint64_t size = 400 * mib) {
    Volume made{.image = image(name), .device = {}, .type = type, .uuid = uuid_for(digit)};
    made.device = attached(made.image, size);
    make_filesystem(made.device, type, made.uuid);
    return made;
  }

  mount::Result<mount::PathInfo> mount(const Volume& volume, const std::string& name, std::vector<std::string> options = {},
                                       mount::MountAttributes attributes = {}) {
    std::vector<std::uint32_t> places(options.size());
    std::iota(places.begin(), places.end(), 3U);
    return kernel_.mount_filesystem({.device = volume.device,
                                     .fs_type = volume.type,
                                     .uuid = volume.uuid,
                                     .options = std::move(options),
                                     .option_places = std::move(places),
                                     .attributes = attributes,
                                     .target = work(name)});
  }
  mount::Result<void> unmount(const Volume& volume, const std::string& name) {
    return kernel_.unmount({.path = work(name), .expected = volume.expected(), .remove = true});
  }

 private:
  TempDir dir_;
  mount::LinuxKernel kernel_;
};

}  // namespace ordinald::testing
