#pragma once

#include <catch2/catch.hpp>
#include <string>

#include "mount/filesystem.hpp"
#include "tests/mount/kernel_contract.hpp"

/// Steps that the contract's cases share. Each fails the case that runs it, with the kernel's own words.
namespace ordinald::testing::contract {

constexpr std::uint64_t kib = 1024;
constexpr std::uint64_t mib = 1024 * kib;
constexpr std::uint64_t small_size = 16 * mib;  ///< enough for an ext4
constexpr std::uint32_t block_size = 4096;
inline const std::string uuid_a = "11111111-2222-4333-8444-555555555555";
inline const std::string uuid_b = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee";

/// The value of what must have gone well.
template <class T>
T value(mount::Result<T> result) {
  if (!result) {
    FAIL(to_string(result.error().code) << ": " << result.error().message);
  }
  if constexpr (!std::is_void_v<T>) {
    return std::move(result).value();
  }
}

/// What must have been refused, with a message for a person.
template <class T>
mount::Error refused(mount::Result<T> result, mount::ErrorCode code) {
  if (result) {
    FAIL("went well, where " << to_string(code) << " was due");
  }
  INFO(result.error().message);
  CHECK(to_string(result.error().code) == to_string(code));
  CHECK_FALSE(result.error().message.empty());
  return result.error();
}

inline mount::ImageRef image_of(ContractNode& node, const std::string& volume_id) {
  return {.directory = node.pool(), .file = volume_id + ".img", .volume_id = volume_id};
}

/// An image, attached.
inline mount::Device make_volume(ContractNode& node, const std::string& volume_id, std::uint64_t size = small_size, bool thick = false) {
  const mount::ImageRef image = image_of(node, volume_id);
  value(node.kernel().create_image({.image = image, .size = size, .thick = thick}));
  return value(node.kernel().attach(image, block_size));
}

inline mount::ToolOutcome run(ContractNode& node, const mount::Device& device, std::vector<std::string> argv) {
  return value(node.kernel().run_tool({.argv = std::move(argv), .device = device, .deadline = std::chrono::minutes{2}}));
}

/// Made by its tool as the agent runs it.
inline void make_filesystem(ContractNode& node, const mount::Device& device, const std::string& type, const std::string& uuid) {
  const mount::ToolOutcome made =
      run(node, device, mount::find_filesystem(type)->make_argv({.device = device.path, .uuid = uuid, .options = {}}));
  INFO(made.output);
  REQUIRE(made.exit_status == 0);
}

inline mount::MountRequest mount_request(const mount::Device& device, const std::string& type, const std::string& uuid,
                                         const std::string& target) {
  return {.device = device, .fs_type = type, .uuid = uuid, .options = {}, .option_places = {}, .attributes = {}, .target = target};
}

inline mount::Expected expected_of(const mount::Device& device, const std::string& type, const std::string& uuid) {
  return {.number = device.number, .fs_type = type, .uuid = uuid};
}

/// An ext4 of uuid_a, mounted at work()/stage.
struct Mounted {
  mount::Device device;
  std::string path;
  mount::Expected expected;
  mount::PathInfo info;
};

inline Mounted mounted_volume(ContractNode& node, const std::string& volume_id, const std::string& type = "ext4",
                              std::uint64_t size = small_size, const std::string& uuid = uuid_a) {
  const mount::Device device = make_volume(node, volume_id, size);
  make_filesystem(node, device, type, uuid);
  const std::string path = node.work() + "/" + volume_id;
  const mount::PathInfo info = value(node.kernel().mount_filesystem(mount_request(device, type, uuid, path)));
  return {.device = device, .path = path, .expected = expected_of(device, type, uuid), .info = info};
}

/// This namespace's mounts at the path.
inline std::vector<mount::MountEntry> mounts_at(ContractNode& node, const std::string& path) {
  std::vector<mount::MountEntry> found = value(node.kernel().mount_table());
  std::erase_if(found, [&](const mount::MountEntry& entry) { return entry.mount_point != path; });
  return found;
}

inline bool has_word(const std::string& options, const std::string& word) {
  return ("," + options + ",").find("," + word + ",") != std::string::npos;
}

}  // namespace ordinald::testing::contract
