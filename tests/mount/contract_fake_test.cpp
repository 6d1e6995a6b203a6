#include <catch2/catch.hpp>
#include <stdexcept>

#include "tests/mount/kernel_contract.hpp"
#include "tests/support/fake_kernel.hpp"

namespace ordinald::testing {
namespace {

constexpr std::uint64_t mib = std::uint64_t{1024} * 1024;

class FakeContractNode final : public ContractNode {
 public:
  FakeContractNode() {
    node_.with([](FakeState& state) {
      state.add_pool("/pool", 1024 * 1024 * mib);
      state.add_pool("/small", 64 * mib);
      state.add_directory("/work");
    });
  }

  mount::Kernel& kernel() override { return kernel_; }
  std::string pool() override { return "/pool"; }
  std::string small_pool() override { return "/small"; }
  std::string work() override { return "/work"; }

  void make_directory(const std::string& path) override {
    node_.with([&](FakeState& state) { state.add_directory(path); });
  }
  void make_symlink(const std::string& path, const std::string& to) override {
    node_.with([&](FakeState& state) { state.add_symlink(path, to); });
  }
  int write_file(const std::string& path, const std::string& text) override {
    return node_.with([&](FakeState& state) { return state.write_file(path, text); });
  }
  std::optional<std::string> read_file(const std::string& path) override {
    return node_.with([&](FakeState& state) { return state.read_file(path); });
  }
  FileMode mode_of(const std::string& path) override {
    return node_.with([&](FakeState& state) -> FileMode {
      const FakeEntry entry = *state.view(path).entry();
      return {.gid = entry.gid, .mode = entry.mode};
    });
  }
  void set_mode(const std::string& path, const FileMode& mode) override {
    node_.with([&](FakeState& state) {
      FakeEntry& entry = *state.view(path).entry();
      entry.gid = mode.gid;
      entry.mode = mode.mode;
    });
  }
  int write_device(const std::string& path) override {
    return node_.with([&](FakeState& state) { return state.write_device(path); });
  }

  void write_luks(const mount::ImageRef& image) override {
    node_.with([&](FakeState& state) {
      state.image(image)->content = {.kind = FakeContent::Kind::foreign, .usage = "crypto", .type = "crypto_LUKS"};
    });
  }
  void write_byte(const mount::ImageRef& image, std::uint64_t offset) override {
    node_.with([&](FakeState& state) { state.image(image)->content = {.kind = FakeContent::Kind::raw, .raw_offset = offset}; });
  }

  Hold hold_open(const std::string& path) override {
    const std::uint64_t id = count_open(path, 1);
    return {nullptr, [this, id](void*) {
              node_.with([&](FakeState& state) {
                for (FakeMount& mount : state.mounts) {
                  mount.open_files -= mount.id == id ? 1 : 0;
                }
              });
            }};
  }
  Hold hold_device(const std::string& path) override {
    set_held(path, true);
    return {nullptr, [this, path](void*) { set_held(path, false); }};
  }
  Hold pin(const std::string& path) override {
    const std::uint64_t pinned = node_.with([&](FakeState& state) { return state.pin(path, 4711, "test_mount"); });
    return {nullptr, [this, pinned](void*) { node_.with([&](FakeState& state) { state.unpin(pinned); }); }};
  }
  bool has_cgroups() override { return true; }
  Hold run_in_cgroup(const std::string& group, const std::string& path) override {
    const std::uint64_t pinned = node_.with([&](FakeState& state) {
      const std::uint64_t name_space = path.empty() ? 0 : state.pin(path, 4711, "test_mount");
      state.processes.push_back({.cgroup = group, .pid = 4711, .command = "test_mount", .mount_namespace = name_space});
      return name_space;
    });
    return {nullptr, [this, group, pinned](void*) {
              node_.with([&](FakeState& state) {
                std::erase_if(state.processes, [&](const FakeProcess& process) { return process.cgroup == group; });
                if (pinned != 0) {
                  state.unpin(pinned);
                }
              });
            }};
  }
  void mount_foreign(const std::string& path) override {
    node_.with([&](FakeState& state) { state.mount_foreign(path); });
  }
  void stack(const std::string& path) override {
    node_.with([&](FakeState& state) {
      const FakeMount below = *state.mount_at(path);
      state.add_mount(path, below.filesystem, below.attributes).source = below.source;
    });
  }

 private:
  std::uint64_t count_open(const std::string& path, int more) {
    return node_.with([&](FakeState& state) {
      FakeMount* mount = state.view(path).mount;
      mount->open_files += more;
      return mount->id;
    });
  }
  void set_held(const std::string& path, bool held) {
    node_.with([&](FakeState& state) {
      if (const auto loop = state.loops.find(*loop_number(path)); loop != state.loops.end()) {
        loop->second.held = held;
      }
      state.sweep();
    });
  }

  FakeNode node_;
  FakeKernel kernel_{node_, "contract"};
};

}  // namespace

#define ORDINALD_CASE(name)                              \
  TEST_CASE("fake kernel: " #name, "[contract][fake]") { \
    FakeContractNode node;                               \
    contract::name(node);                                \
  }
ORDINALD_KERNEL_CONTRACT(ORDINALD_CASE)
#undef ORDINALD_CASE

}  // namespace ordinald::testing
