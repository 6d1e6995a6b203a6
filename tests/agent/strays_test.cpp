/// Mounts and staging directories of volumes that no call asked for, as the rounds of repairs find them, and what is normal and is none, on
/// the fake kernel.

#include <catch2/catch.hpp>

#include "agent/strays.hpp"
#include "tests/agent/fake_rig.hpp"

using namespace ordinald;
using namespace ordinald::testing;  // the fake agent, and all of agent/

namespace {

/// Binds what is mounted at `from` at another path as well, as a person does.
void bind_by_hand(FakeRig& rig, const std::string& from, const std::string& to, const std::string& root = "/") {
  rig.node.with([&](FakeState& state) {
    state.add_directory(to);
    const FakeMount source = *state.mount_at(from);
    FakeMount& made = state.add_mount(to, source.filesystem, {});
    made.source = source.source;
    made.rdev = source.rdev;
    made.root = root;
  });
}

void unmount_by_hand(FakeRig& rig, const std::string& path) {
  rig.node.with([&](FakeState& state) {
    std::erase_if(state.mounts, [&](const FakeMount& mount) { return mount.mount_point == path; });
    state.sweep();
  });
}

std::size_t mounts(FakeRig& rig) {
  return rig.node.with([](FakeState& state) { return state.mounts.size(); });
}

/// What a round finds.
std::set<std::string> round(FakeRig& rig) {
  rig.manager->repair();
  std::set<std::string> messages;
  for (const auto& [message, command] : rig.manager->findings()) {
    CHECK_THAT(message, Catch::EndsWith(": " + command));
    messages.insert(message);
  }
  return messages;
}

std::size_t logged(const FakeRig& rig, const std::string& words) {
  std::size_t times = 0;
  const std::string text = rig.logged.str();
  for (auto at = text.find(words); at != std::string::npos; at = text.find(words, at + 1)) {
    ++times;
  }
  return times;
}

void publish_one(FakeRig& rig) {
  REQUIRE(rig.create());
  REQUIRE(rig.stage());
  REQUIRE(rig.publish());
}

}  // namespace

TEST_CASE("a stray mount is reported once, with the command, and left alone") {
  FakeRig rig;
  rig.fs_type = GENERATE(as<std::string>{}, "ext4", "btrfs");
  publish_one(rig);
  CHECK(round(rig).empty());
  bind_by_hand(rig, "/stage", "/mnt/a b");
  const auto findings = round(rig);
  REQUIRE(findings.size() == 1);
  CHECK_THAT(*findings.begin(), Catch::StartsWith("volume " + rig.id + " is mounted at /mnt/a b, which no call asked for; ") &&
                                    Catch::EndsWith(": umount '/mnt/a b'"));
  CHECK(round(rig) == findings);
  CHECK(logged(rig, "is mounted at /mnt/a b") == 1);
  CHECK(mounts(rig) == 3);
  unmount_by_hand(rig, "/mnt/a b");
  CHECK(round(rig).empty());
}

TEST_CASE("a stray mount: what is normal of a published volume is none") {
  FakeRig rig;
  const bool copies = GENERATE(true, false);
  if (copies) {
    rig.node.with([](FakeState& state) {
      state.mount_foreign("/pods");
      state.add_directory("/host");
      const auto filesystem = state.mount_at("/pods")->filesystem;
      state.add_mount("/host/pods", filesystem, {});
    });
  }
  publish_one(rig);
  if (copies) {  // the pods' directory is seen at a second path, and what is mounted in it was propagated there
    bind_by_hand(rig, "/pods/a", "/host/pods/a");
  } else {
    bind_by_hand(rig, "/pods/a", "/kubelet/pods/1/volume-subpaths/data/db/0", "/sub");
    bind_by_hand(rig, "/stage", "/stage");  // twice at one path: the unstage takes both away
  }
  CHECK(round(rig).empty());
  lose_ledger(rig);
  CHECK(round(rig).empty());
}

TEST_CASE("a stray mount: a part of a volume that is published no more is one") {
  FakeRig rig;
  publish_one(rig);
  bind_by_hand(rig, "/pods/a", "/kubelet/pods/1/volume-subpaths/data/db/0", "/sub");
  REQUIRE(rig.unpublish());
  const auto findings = round(rig);
  REQUIRE(findings.size() == 1);
  CHECK_THAT(*findings.begin(), Catch::Contains("/volume-subpaths/data/db/0 (of it /sub), which no call asked for"));
}

TEST_CASE("a stray mount: of a raw block device's nodes, only those of a volume that is not published") {
  FakeRig rig;
  rig.block = true;
  publish_one(rig);
  bind_by_hand(rig, "/pods/a", "/kubelet/volumeDevices/data/dev/1", "/loop0");
  CHECK(round(rig).empty());
  REQUIRE(rig.unpublish());
  const auto findings = round(rig);
  REQUIRE(findings.size() == 1);
  CHECK_THAT(*findings.begin(), Catch::EndsWith("umount /kubelet/volumeDevices/data/dev/1"));
}

TEST_CASE("a stray mount that is seen at several paths is told of once") {
  FakeRig rig;
  rig.node.with([](FakeState& state) {
    state.mount_foreign("/mnt");
    const auto filesystem = state.mount_at("/mnt")->filesystem;
    state.add_directory("/host");
    state.add_mount("/host/mnt", filesystem, {});
  });
  publish_one(rig);
  bind_by_hand(rig, "/stage", "/mnt/x");
  bind_by_hand(rig, "/stage", "/host/mnt/x");
  REQUIRE(round(rig).size() == 1);
  bind_by_hand(rig, "/stage", "/mnt/y");
  CHECK(round(rig).size() == 2);
}

TEST_CASE("a stray mount beneath another one says what has to go first") {
  FakeRig rig;
  publish_one(rig);
  bind_by_hand(rig, "/stage", "/mnt/x");
  rig.node.with([](FakeState& state) { state.mount_foreign("/mnt/x"); });
  const auto findings = round(rig);
  REQUIRE(findings.size() == 1);
  CHECK_THAT(*findings.begin(), Catch::EndsWith("beneath another mount, which has to go first: findmnt /mnt/x"));
}

TEST_CASE("a stray mount in a table that changed while it was read") {
  /// The id of the parent of what is at /mnt/x is another mount's by now.
  class TornTable : public FakeKernel {
   public:
    using FakeKernel::FakeKernel;
    Result<std::vector<mount::MountEntry>> mount_table() override {
      auto table = FakeKernel::mount_table();
      mount::MountEntry later = table.value().front();
      later.id = 999;
      later.mount_point = "/longer/than/the path of that";
      for (mount::MountEntry& entry : table.value()) {
        entry.parent = entry.mount_point == "/mnt/x" ? later.id : entry.parent;
      }
      table.value().push_back(later);
      return table;
    }
  };
  FakeRig rig;
  publish_one(rig);
  bind_by_hand(rig, "/stage", "/mnt/x");
  TornTable kernel{rig.node, "node"};
  const auto strays = find_stray_mounts(rig.manager->core(), kernel);
  REQUIRE(strays);
  REQUIRE(strays.value().size() == 1);
  CHECK(strays.value().front().command == "umount /mnt/x");
}

TEST_CASE("a stray mount of another volume over a staging path") {
  FakeRig rig;
  publish_one(rig);
  const std::string below = rig.id;
  REQUIRE(rig.create("other"));
  REQUIRE(rig.stage(AccessMode::single_node_single_writer, "/stage2"));
  bind_by_hand(rig, "/stage2", "/stage");
  const auto findings = round(rig);
  REQUIRE(findings.size() == 1);
  CHECK_THAT(*findings.begin(), Catch::StartsWith("volume " + rig.id + " is mounted at /stage, "));
}

TEST_CASE("a stray mount of a volume that no call uses keeps its device, until it is gone") {
  FakeRig rig;
  publish_one(rig);
  bind_by_hand(rig, "/stage", "/mnt/x");
  REQUIRE(rig.unpublish());
  unmount_by_hand(rig, "/stage");
  rig.manager.reset();
  std::filesystem::remove_all(rig.run_dir() + "/ledger");
  const bool at_start = GENERATE(true, false);
  if (!at_start) {  // the device is all that the next agent sees, and the mount comes later
    unmount_by_hand(rig, "/mnt/x");
  }
  rig.start();
  if (at_start) {  // found, and so held: nothing stray
    CHECK(round(rig).empty());
    refused(rig.remove(), ErrorCode::failed_precondition, "/mnt/x");
    return;
  }
  rig.node.with([&](FakeState& state) {
    state.add_directory("/mnt/x");
    auto& loop = state.loops.begin()->second;
    auto filesystem = std::make_shared<FakeSuperblock>();
    filesystem->fs_type = "ext4";
    filesystem->image = loop.image;
    filesystem->number = filesystem->device = loop_device_number(state.loops.begin()->first);
    loop.filesystem = filesystem;
    state.add_mount("/mnt/x", filesystem, {}).source = "/dev/loop0";
  });
  const auto findings = round(rig);
  REQUIRE(findings.size() == 1);
  CHECK_THAT(*findings.begin(), Catch::EndsWith("umount /mnt/x"));
  unmount_by_hand(rig, "/mnt/x");
  CHECK(round(rig).empty());
  CHECK(rig.node.with([](FakeState& state) { return state.loops.empty(); }));
}

TEST_CASE("a stray mount of a file in a pool that is no volume any more") {
  FakeRig rig;
  publish_one(rig);
  unmount_by_hand(rig, "/pods/a");
  rig.manager.reset();
  std::filesystem::remove_all(rig.run_dir() + "/ledger");
  std::filesystem::remove(rig.record_file());
  rig.node.with([](FakeState& state) {
    state.images.front()->linked = false;
    state.images.clear();
  });
  rig.start();
  const auto findings = round(rig);
  REQUIRE(findings.size() == 2);  // its device is one, too
  CHECK_THAT(*findings.begin(), Catch::StartsWith("/dev/loop0 has /pool/" + rig.id + ".img, which is deleted"));
  CHECK_THAT(*findings.rbegin(),
             Catch::Contains("which is deleted and is no volume of ours, is mounted at /stage") && Catch::EndsWith(": umount /stage"));
}

TEST_CASE("a stray mount is not judged while a call works on its volume") {
  FakeRig rig;
  publish_one(rig);
  bind_by_hand(rig, "/stage", "/mnt/x");
  std::set<std::string> found{"not looked"};
  rig.node.set_hook([&](const FakePoint& at) -> Result<void> {
    if (at.name == "unmount") {
      rig.node.set_hook({});
      found = round(rig);
    }
    return mount::success();
  });
  REQUIRE(rig.unpublish());
  CHECK(found.empty());
  CHECK(round(rig).size() == 1);
}

TEST_CASE("stray staging directories are told of when two rounds have seen them unused") {
  FakeRig rig;
  const std::string csi = "/var/lib/kubelet/plugins/kubernetes.io/csi/csi.ordinald.io";
  const auto make = [&](const std::string& directory, const std::string& volume, const std::string& driver = "csi.ordinald.io") {
    rig.node.with([&](FakeState& state) {
      state.add_directory(directory + "/globalmount");
      REQUIRE(state.write_file(directory + "/vol_data.json", R"({"driverName":")" + driver + R"(","volumeHandle":")" + volume + "\"}") ==
              0);
    });
  };
  const auto twice = [&] {
    round(rig);
    return round(rig);
  };
  REQUIRE(rig.create());
  SECTION("of a volume that this node does not have") {
    make(csi + "/1", "gone");
    CHECK(round(rig).empty());
    const auto findings = round(rig);
    REQUIRE(findings.size() == 1);
    CHECK_THAT(*findings.begin(),
               Catch::StartsWith(csi + "/1 is kubelet's staging directory of volume gone, which this node does not have"));
    CHECK(round(rig) == findings);
    CHECK(logged(rig, "kubelet's staging directory") == 1);
    rig.node.with([&](FakeState& state) { state.root.erase(csi.substr(1) + "/1/globalmount"); });
    CHECK(round(rig).empty());
  }
  SECTION("of a volume that is not staged there") {
    make(csi + "/1", rig.id);
    const auto findings = twice();
    REQUIRE(findings.size() == 1);
    CHECK_THAT(*findings.begin(), Catch::Contains("volume " + rig.id + ", which is not staged there"));
    REQUIRE(rig.stage(AccessMode::single_node_single_writer, csi + "/1/globalmount"));
    CHECK(round(rig).empty());
  }
  SECTION("beside what is staged") {
    make("/k/1", rig.id);
    make("/k/2", "gone");
    CHECK(twice().empty());
    REQUIRE(rig.stage(AccessMode::single_node_single_writer, "/k/1/globalmount"));
    CHECK(twice().size() == 1);
  }
  SECTION("of another driver, or with a file that says nothing") {
    make(csi + "/1", "gone", "other");
    rig.node.with([&](FakeState& state) {
      state.add_directory(csi + "/2/globalmount");
      REQUIRE(state.write_file(csi + "/2/vol_data.json", "{") == 0);
    });
    CHECK(twice().empty());
  }
  SECTION("one that is new, or mounted on") {
    make(csi + "/1", "gone");
    const bool is_new = GENERATE(true, false);
    rig.node.with([&](FakeState& state) {
      if (is_new) {
        state.staging_age = 10;
      } else {
        state.mount_foreign(csi + "/1/globalmount");
      }
    });
    CHECK(twice().empty());
  }
  SECTION("one whose stage is refused, and tried again") {
    make(csi + "/1", rig.id);
    rig.node.with([](FakeState& state) {
      state.images.front()->content = {.kind = FakeContent::Kind::foreign, .usage = "crypto", .type = "crypto_LUKS"};
    });
    REQUIRE_FALSE(rig.stage(AccessMode::single_node_single_writer, csi + "/1/globalmount"));
    CHECK(twice().empty());
  }
  SECTION("a directory that hangs costs nothing else") {
    make(csi + "/1", "gone");
    rig.node.set_hook([](const FakePoint& at) -> Result<void> {
      return at.name == "staging_places" ? Result<void>{mount::make_error(ErrorCode::unavailable, "it hangs")} : mount::success();
    });
    CHECK(twice().empty());
    CHECK(logged(rig, "staging directories can't be looked at: it hangs") == 2);
  }
}
