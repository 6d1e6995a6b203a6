// What FakeNode gives tests beyond the contract: points to stop at, deaths, and threads.
#include <array>
#include <catch2/catch.hpp>
#include <stdexcept>
#include <thread>

#include "tests/mount/contract_steps.hpp"
#include "tests/support/fake_kernel.hpp"

namespace ordinald::testing {

using contract::block_size;
using contract::mib;
using contract::refused;
using contract::uuid_a;
using contract::value;
using mount::Device;
using mount::ErrorCode;
using mount::Kernel;

namespace {

constexpr std::uint64_t size = 16 * mib;

struct Died : std::runtime_error {
  Died() : std::runtime_error{"died"} {}
};

mount::ImageRef image_of(const std::string& volume_id) {
  return {.directory = "/pool", .file = volume_id + ".img", .volume_id = volume_id};
}

void add_pool(FakeNode& node) {
  node.with([](FakeState& state) {
    state.add_pool("/pool", 1024 * mib);
    state.add_directory("/run/held");
  });
}

Device make_volume(Kernel& kernel, const std::string& volume_id) {
  value(kernel.create_image({.image = image_of(volume_id), .size = size, .thick = false}));
  return value(kernel.attach(image_of(volume_id), block_size));
}

mount::ToolRequest mkfs(const Device& device) {
  return {.argv = mount::find_filesystem("ext4")->make_argv({.device = device.path, .uuid = uuid_a, .options = {}}),
          .device = device,
          .deadline = std::chrono::minutes{1}};
}

/// The process dies at this point.
FakeHook die_at(const std::string& name) {
  return [name](const FakePoint& point) -> mount::Result<void> {
    if (point.name == name) {
      throw Died{};
    }
    return mount::success();
  };
}

}  // namespace

TEST_CASE("fake node: a hook sees every verb, before it acts and when it has acted", "[fake]") {
  FakeNode node;
  add_pool(node);
  const auto kernel = value(node.for_volume("v"));
  std::vector<std::string> seen;
  node.set_hook([&](const FakePoint& point) -> mount::Result<void> {
    seen.push_back(point.volume_id + " " + point.name);
    return mount::success();
  });
  make_volume(*kernel, "v");
  CHECK(seen == std::vector<std::string>{"v create_image", "v create_image.half", "v create_image.volatile", "v create_image.done",
                                         "v attach", "v attach.done"});
  CHECK(node.passed("attach") == 1);
  CHECK(node.passed("detach") == 0);
}

TEST_CASE("fake node: a hook's error is the verb's answer, and nothing was done", "[fake]") {
  FakeNode node;
  add_pool(node);
  const auto kernel = value(node.for_volume("v"));
  node.set_hook([](const FakePoint&) -> mount::Result<void> { return mount::make_error(ErrorCode::unavailable, "hangs"); });
  refused(kernel->create_image({.image = image_of("v"), .size = size, .thick = false}), ErrorCode::unavailable);
  node.set_hook({});
  CHECK_FALSE(value(kernel->inspect_image(image_of("v"))));
}

TEST_CASE("fake node: a process that dies in the middle of mkfs leaves it half-made", "[fake]") {
  FakeNode node;
  add_pool(node);
  const auto kernel = value(node.for_volume("v"));
  const Device device = make_volume(*kernel, "v");
  node.set_hook(die_at("run_tool.half"));
  CHECK_THROWS_AS(kernel->run_tool(mkfs(device)), Died);
  node.crash_process();

  const auto next = value(node.for_volume("v"));
  const mount::Probe found = value(next->probe({.device = device, .proof = mount::BlankProof::none, .image = {}}));
  REQUIRE(found.signatures.size() == 1);
  CHECK(found.signatures[0].uuid == uuid_a);
  refused(next->mount_filesystem(contract::mount_request(device, "ext4", uuid_a, "/run/held/v")), ErrorCode::failed_precondition);
  value(next->erase(device, false));
  CHECK(value(next->run_tool(mkfs(device))).exit_status == 0);
  value(next->mount_filesystem(contract::mount_request(device, "ext4", uuid_a, "/run/held/v")));
}

TEST_CASE("fake node: a process that dies before it answers has acted", "[fake]") {
  FakeNode node;
  add_pool(node);
  const auto kernel = value(node.for_volume("v"));
  value(kernel->create_image({.image = image_of("v"), .size = size, .thick = false}));
  node.set_hook(die_at("attach.done"));
  CHECK_THROWS_AS(kernel->attach(image_of("v"), block_size), Died);
  node.crash_process();
  CHECK(value(kernel->find_attached(image_of("v"))));
}

TEST_CASE("fake node: of a power loss, images and their data survive", "[fake]") {
  FakeNode node;
  add_pool(node);
  const auto kernel = value(node.for_volume("v"));
  const Device device = make_volume(*kernel, "v");
  value(kernel->run_tool(mkfs(device)));
  value(kernel->mount_filesystem(contract::mount_request(device, "ext4", uuid_a, "/run/held/v")));
  node.with([](FakeState& state) { CHECK(state.write_file("/run/held/v/data", "text") == 0); });
  node.power_loss();

  CHECK_FALSE(value(kernel->find_attached(image_of("v"))));
  CHECK(value(kernel->inspect_path("/run/held")).kind == mount::FileKind::none);
  CHECK(value(kernel->inspect_image(image_of("v")))->device != device.backing_device);
  const Device again = value(kernel->attach(image_of("v"), block_size));
  node.with([](FakeState& state) { state.add_directory("/run/held"); });
  value(kernel->mount_filesystem(contract::mount_request(again, "ext4", uuid_a, "/run/held/v")));
  node.with([](FakeState& state) { CHECK(state.read_file("/run/held/v/data") == "text"); });
}

TEST_CASE("fake node: a power loss may undo what is done and not durable yet", "[fake]") {
  FakeNode node;
  add_pool(node);
  const auto kernel = value(node.for_volume("v"));
  const bool lost = GENERATE(false, true);
  const std::string at = GENERATE("create_image.volatile", "create_image.done");
  node.set_hook(die_at(at));
  CHECK_THROWS_AS(kernel->create_image({.image = image_of("v"), .size = size, .thick = false}), Died);
  node.power_loss([&] { return lost; });
  CHECK(value(kernel->inspect_image(image_of("v"))).has_value() == !(lost && at == "create_image.volatile"));
}

TEST_CASE("fake node: a programmed outcome stands for the program", "[fake]") {
  FakeNode node;
  add_pool(node);
  const auto kernel = value(node.for_volume("v"));
  const Device device = make_volume(*kernel, "v");
  node.with([](FakeState& state) { state.tool_results["mkfs.ext4"] = {.exit_status = 1, .output = "no"}; });
  CHECK(value(kernel->run_tool(mkfs(device))).exit_status == 1);
  CHECK(value(kernel->probe({.device = device, .proof = mount::BlankProof::all_zero, .image = image_of("v")})).blank);
}

TEST_CASE("fake node: an unreadable image is an error, never blank", "[fake]") {
  FakeNode node;
  add_pool(node);
  const auto kernel = value(node.for_volume("v"));
  const Device device = make_volume(*kernel, "v");
  node.with([](FakeState& state) { state.volume("v").read_errno = EIO; });
  CHECK(refused(kernel->probe({.device = device, .proof = mount::BlankProof::none, .image = {}}), ErrorCode::internal).sys_errno == EIO);
}

TEST_CASE("fake node: a hung volume has no kernel, the others have", "[fake]") {
  FakeNode node;
  node.with([](FakeState& state) { state.hung["v"] = "worker 42 hangs since 12:00"; });
  CHECK(refused(node.for_volume("v"), ErrorCode::unavailable).message == "worker 42 hangs since 12:00");
  CHECK(node.for_volume("w"));
}

TEST_CASE("fake node: many threads share one", "[fake]") {
  FakeNode node;
  add_pool(node);
  std::array<bool, 8> well{};
  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < well.size(); ++i) {
      threads.emplace_back([&, i] {
        const std::string id = "v" + std::to_string(i);
        auto kernel = node.for_volume(id);
        well[i] = kernel && kernel.value()->create_image({.image = image_of(id), .size = size, .thick = true}) &&
                  kernel.value()->attach(image_of(id), block_size);
      });
    }
  }
  CHECK(std::ranges::count(well, true) == static_cast<std::ptrdiff_t>(well.size()));
  CHECK(node.with([](const FakeState& state) { return state.loops.size(); }) == well.size());
}

}  // namespace ordinald::testing
