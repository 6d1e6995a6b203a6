/// What a person changes by hand, with the agent dead behind each act, by itself or with the whole node: and then with the record lost too.
#include <catch2/catch.hpp>
#include <filesystem>
#include <memory>

#include "agent/volume_manager.hpp"
#include "mount/crash_point.hpp"
#include "tests/crash/counts.hpp"
#include "tests/crash/volatile_files.hpp"
#include "tests/support/fake_kernel.hpp"
#include "tests/support/logs.hpp"
#include "tests/support/temp.hpp"

namespace ordinald::testing {
namespace {

namespace fs = std::filesystem;
using mount::Result;
using mount::success;

constexpr std::int64_t gib = std::int64_t{1} << 30U;
constexpr auto mode = csi::AccessMode::single_node_single_writer;
const agent::Claim claim_a{"prod", "data-db-0"};
const agent::Claim claim_b{"prod", "data-db-1"};
const agent::Claim nobody{};

struct Crash {};

/// An agent that dies at an act, on a fake node.
class World {
 public:
  World() {
    node.with([](FakeState& state) {
      state.add_pool("/pool", 100 * std::uint64_t{gib});
      state.add_directory("/pods");
      state.add_directory("/stage");
    });
    fs::create_directory(temp_.path() / "state");
    mount::set_act_hook([this](std::string_view act, std::string_view object) {
      files_.acted(act, object);
      pass(std::string{act} + " " + std::string{object});
    });
    files_.acted("making the directory", temp_.path() / "state");
    files_.acted("fsync of the directory", temp_.path());
    start();
  }
  World(const World&) = delete;
  World& operator=(const World&) = delete;
  ~World() { mount::set_act_hook({}); }

  void start() {
    fs::create_directories(temp_.path() / "run");
    agent::Config config;
    config.node_id = "n1";
    config.state_dir = temp_.path() / "state";
    config.run_dir = temp_.path() / "run";
    config.pools = {agent::PoolConfig{.name = "default", .directory = "/pool", .is_default = true}};
    const auto log = quiet_log();
    node.set_hook([this](const FakePoint& point) -> Result<void> {
      pass(point.name);
      return success();
    });
    auto opened = agent::VolumeManager::open(config, node, log, {.boot_id = boot_, .grows_mounted_ext4 = true});
    REQUIRE(opened);
    manager = std::move(opened.value());
  }
  /// The agent dies as it has passed the n-th act from now; 0: never.
  void die_at(std::size_t act) {
    acts_ = 0;
    die_at_ = act;
  }
  /// It is gone, and with it, after a power loss, what was not durable.
  void crash(bool power_loss, Choices& choices) {
    die_at(0);
    manager.reset();
    if (power_loss) {
      node.power_loss([&] { return choices.yes(); });
      files_.power_loss(choices);
      fs::remove_all(temp_.path() / "run");
      boot_ += "+";
    }
  }
  [[nodiscard]] fs::path record_file(const std::string& id) const { return temp_.path() / "state/volumes" / (id + ".json"); }
  [[nodiscard]] agent::Claim claim_on_disk(const std::string& id) const {
    auto record = agent::parse_record(read_file(record_file(id)));
    REQUIRE(record);
    return record.value().claim;
  }
  [[nodiscard]] const std::string& last_act() const { return last_act_; }

  FakeNode node;
  std::unique_ptr<agent::VolumeManager> manager;

 private:
  void pass(const std::string& act) {
    if (++acts_ == die_at_) {
      last_act_ = act;
      throw Crash{};
    }
  }

  TempDir temp_{"by-hand"};
  VolatileFiles files_{temp_.path() / "state"};
  std::string boot_ = "boot";
  std::string last_act_;
  std::size_t acts_ = 0;
  std::size_t die_at_ = 0;
};

agent::Claim claim_of(const World& world, const std::string& id) {
  const auto record = world.manager->core().records->find(id);
  REQUIRE(record);
  return record->claim;
}

/// One death in a rebind; true when it came to its end before.
bool rebind_dies(std::size_t act, bool power_loss, bool record_lost, Choices& choices) {
  World world;
  auto made = world.manager->create_volume(
      {}, {.name = "v",
           .capacity = {.required = gib},
           .capabilities = {{.block = false, .mode = mode, .fs_type = "ext4", .mount_flags = {}, .group = {}}},
           .parameters = {{"csi.storage.k8s.io/pvc/namespace", claim_a.name_space}, {"csi.storage.k8s.io/pvc/name", claim_a.name}},
           .requisite = {}});
  REQUIRE(made);
  const std::string id = made.value().id;
  bool answered = false;
  world.die_at(act);
  try {
    const auto done = world.manager->rebind({}, id, claim_b);
    REQUIRE(done);
    answered = true;
  } catch (const Crash&) {
  }
  world.crash(power_loss, choices);
  INFO((power_loss ? "power loss" : "crash") << " at act " << act << " (" << world.last_act() << "), "
                                             << (answered ? "answered" : "unanswered"));
  const agent::Claim recorded = world.claim_on_disk(id);
  CHECK((recorded == claim_b || (recorded == claim_a && !answered)));
  if (record_lost) {
    fs::remove(world.record_file(id));
    world.start();
    world.manager->repair();
    const agent::Claim recovered = claim_of(world, id);
    CHECK((recovered == recorded || recovered == nobody));
    CHECK((!answered || recovered == claim_b));
    if (recovered == nobody) {  // a person is told, and binds it
      const auto done = world.manager->rebind({}, id, claim_b);
      CHECK(done);
    }
    return answered;
  }
  world.start();
  world.manager->repair();
  CHECK(claim_of(world, id) == recorded);
  CHECK_FALSE(world.manager->core().records->find(id)->label_stale);
  if (act % 2 == 0) {
    CHECK(world.manager->rebind({}, id, claim_b));  // repeated
  }
  // And only now is the record lost: the label says the same.
  const agent::Claim last = claim_of(world, id);
  fs::remove(world.record_file(id));
  world.crash(false, choices);
  world.start();
  world.manager->repair();
  CHECK(claim_of(world, id) == last);
  return answered;
}

/// A person's file, in the pool's directory (where alone the fake has files of that size).
void put_file(World& world) {
  world.node.with([](FakeState& state) {
    FakeImage& image = state.add_image({.directory = "/pool", .file = "mine.img", .volume_id = {}}, gib);
    image.content.kind = FakeContent::Kind::filesystem;
    image.content.usage = "filesystem";
    image.content.type = "ext4";
    image.content.uuid = "11111111-2222-4333-8444-555555555555";
    image.content.size = gib;
    image.content.tree["db"] = {.kind = FileKind::directory, .mode = 0755};
    image.content.tree["db/data"] = {.text = "precious"};
    image.allocated = gib / 2;
  });
}

/// Never lost, never formatted, and at one place.
void check_file(World& world, bool adopted) {
  world.node.with([&](FakeState& state) {
    REQUIRE(state.images.size() == 1);
    FakeImage& image = *state.images.front();
    CHECK((image.file == "mine.img") == !adopted);
    CHECK(image.file == (adopted ? image.volume_id + ".img" : "mine.img"));
    CHECK(image.content.uuid == "11111111-2222-4333-8444-555555555555");
    CHECK(image.content.tree["db/data"].text == "precious");
    CHECK(image.size == gib);
  });
}

bool adopt_dies(std::size_t act, bool power_loss, Choices& choices) {
  World world;
  put_file(world);
  const agent::AdoptionRequest request{.path = "/pool/mine.img", .claim = claim_a};
  bool answered = false;
  world.die_at(act);
  try {
    const auto done = world.manager->adopt({}, request, false);
    REQUIRE(done);
    answered = true;
  } catch (const Crash&) {
  }
  world.crash(power_loss, choices);
  INFO((power_loss ? "power loss" : "crash") << " at act " << act << " (" << world.last_act() << "), "
                                             << (answered ? "answered" : "unanswered"));
  world.start();
  if (act % 2 == 0) {
    world.manager->repair();
    const bool adopted = !world.manager->core().records->all().empty();
    check_file(world, adopted);
    CHECK((adopted || !answered));
  }
  const auto again = world.manager->adopt({}, request, false);  // repeated
  if (!again) {
    FAIL(again.error().message);
  }
  world.manager->repair();
  check_file(world, true);
  REQUIRE(world.manager->core().records->all().size() == 1);
  const agent::VolumeRecord record = *world.manager->core().records->all().front();
  CHECK(record.id == again.value().record.id);
  CHECK(record.content == agent::Content::formatted);
  CHECK(record.fs_uuid == "11111111-2222-4333-8444-555555555555");
  CHECK(record.claim == claim_a);
  CHECK(record.provisioned);
  CHECK_FALSE(record.label_stale);
  const csi::Capability capability{.block = false, .mode = mode, .fs_type = "ext4", .mount_flags = {}, .group = {}};
  CHECK(world.manager->stage({}, {.volume_id = record.id, .staging_path = "/stage", .capability = capability}));
  CHECK(world.node.passed("run_tool") <= 1);  // the check: nothing was made
  check_file(world, true);
  return answered;
}

}  // namespace

TEST_CASE("every crash point: a rebound volume is never given back to the claim before it", "[crash]") {
  for (const bool power_loss : {false, true}) {
    for (const bool record_lost : {false, true}) {
      std::size_t act = 0;
      for (bool done = false; !done;) {
        ++act;
        Choices choices;
        do {
          ++crash_counts.runs;
          done = rebind_dies(act, power_loss, record_lost, choices);
        } while (choices.next());
      }
      CHECK(act > 8);
      (power_loss ? crash_counts.power_loss : crash_counts.process) += static_cast<int>(act);
    }
  }
}

TEST_CASE("every crash point: an adopted file is a volume or the file that it was, and the same command makes it one", "[crash]") {
  for (const bool power_loss : {false, true}) {
    std::size_t act = 0;
    for (bool done = false; !done;) {
      ++act;
      Choices choices;
      do {
        ++crash_counts.runs;
        done = adopt_dies(act, power_loss, choices);
      } while (choices.next());
    }
    CHECK(act > 12);
    (power_loss ? crash_counts.power_loss : crash_counts.process) += static_cast<int>(act);
  }
}

}  // namespace ordinald::testing
