// Rule 1: what a volume holds is never formatted over, whatever it is, whatever the record says of it, and however often it is asked.
#include <cstdio>
#include <map>

#include "tests/faults/corpus.hpp"

namespace ordinald::testing {
namespace {

const std::vector<std::string> fs_types = {"ext4", "xfs", "btrfs"};

struct Volume {
  const Kind* kind = nullptr;
  std::string id{};
  fs::path image{};
  std::uint64_t digest = 0;
  int refused = 0;
};

/// A volume for each kind of content, a third of them thick, with the content put into the image behind the agent's back.
std::vector<Volume> make_volumes(Rig& rig) {
  std::vector<Volume> volumes;
  for (const Kind& kind : corpus()) {
    auto create = rig.create_request("kind-" + std::to_string(volumes.size()), mount_capability(single_node_single_writer), corpus_size,
                                     {{"pool", volumes.size() % 3 == 0 ? "thick" : "thin"}, {"blockSize", "512"}});
    *create.add_volume_capabilities() = block_capability(single_node_single_writer);
    INFO(kind.name);
    const auto reply = rig.call(create);
    REQUIRE(outcome(reply) == OK);
    Volume volume{.kind = &kind, .id = reply->volume().volume_id()};
    volume.image = rig.image_of(volume.id);
    kind.put(volume.image);
    REQUIRE(fs::file_size(volume.image) == static_cast<std::uintmax_t>(corpus_size));
    volume.digest = digest_of(volume.image);
    volumes.push_back(std::move(volume));
  }
  return volumes;
}

/// Stages it, and holds the refusal to what goes for all: the code, what was found, what to do, and not a byte changed.
void check_refused(Rig& rig, Volume& volume, const std::string& fs_type, std::string_view found, std::string_view way_out) {
  INFO(volume.kind->name << ", asked for " << fs_type);
  const fs::path staging = rig.staging(volume.id);
  const Outcome refused = rig.stage(volume.id, mount_capability(single_node_single_writer, fs_type), staging);
  INFO(refused.message);
  const bool good = refused == FAILED_PRECONDITION && refused.message.find(found) != std::string::npos &&
                    refused.message.find(way_out) != std::string::npos && digest_of(volume.image) == volume.digest &&
                    mounts_beneath(staging).empty();
  CHECK(good);
  if (good) ++volume.refused;
}

void edit_records(Rig& rig, const std::vector<Volume>& volumes, const std::string& content) {
  rig.agent().stop();
  for (const Volume& volume : volumes) {
    const fs::path file = rig.record_of(volume.id);
    auto record = nlohmann::json::parse(read_file(file));
    record.erase("checksum");
    record["content"] = content;
    record["fsType"] = "ext4";
    record["fsUuid"] = content == "raw" ? "" : "12345678-1234-4234-8234-123456789abc";
    write_file(file, record.dump());
  }
  rig.agent().start();
}

/// Starts it with a thin and a thick pool.
void start_with_two_pools(Rig& rig) {
  auto pools = nlohmann::json::array();
  for (const std::string name : {"thin", "thick"}) {
    const fs::path directory = rig.pool() / name;
    fs::create_directory(directory);
    pools.push_back({{"name", name}, {"directory", directory.string()}, {"reservePercent", 0}, {"provisioning", name}});
  }
  pools[0]["overcommit"] = 100;
  rig.agent().configuration()["pools"] = pools;
  rig.agent().start();
}

}  // namespace

TEST_CASE("corpus: no kind of content is formatted over", "[corpus][root]") {
  REQUIRE(corpus().size() >= 45);
  Rig rig({}, false);
  start_with_two_pools(rig);
  std::vector<Volume> volumes = make_volumes(rig);
  const auto asked = [](std::size_t volume, std::size_t time) { return fs_types[(volume + time) % fs_types.size()]; };

  // Never written by us: asked for twice, and after a crash.
  for (std::size_t time = 0; time < 3; ++time) {
    if (time == 2) rig.crash();
    for (std::size_t i = 0; i < volumes.size(); ++i)
      check_refused(rig, volumes[i], asked(i, time), volumes[i].kind->says, "delete the volume and make a new one");
  }
  CHECK(leaks_beneath(rig.root()) == "");

  // A format was begun, and another signature than ours is there. What has none is the half-made filesystem's (rule 2).
  edit_records(rig, volumes, "formatting");
  for (std::size_t i = 0; i < volumes.size(); ++i)
    if (volumes[i].kind->has_signature())
      check_refused(rig, volumes[i], asked(i, 0), volumes[i].kind->says, "delete the volume and make a new one");

  // Formatted once, and now it holds something else: data that was replaced, or lost.
  edit_records(rig, volumes, "formatted");
  for (Volume& volume : volumes)
    check_refused(rig, volume, "ext4", volume.kind->has_signature() ? volume.kind->says : "no filesystem at all", "blkid -p");

  // Once a raw block device: whatever a workload put there.
  edit_records(rig, volumes, "raw");
  for (std::size_t i = 0; i < volumes.size(); ++i) {
    const bool same = volumes[i].kind->says == asked(i, 0);  // the filesystem asked for is mounted
    check_refused(rig, volumes[i], same ? asked(i, 1) : asked(i, 0),
                  volumes[i].kind->has_signature() ? volumes[i].kind->says : "no filesystem", "never formatted");
  }
  CHECK(leaks_beneath(rig.root()) == "");

  int whole = 0;
  for (const Volume& volume : volumes) {
    const int times = 3 + (volume.kind->has_signature() ? 1 : 0) + 2;
    CHECK(volume.refused == times);
    whole += volume.refused == times ? 1 : 0;
  }
  std::printf("COUNT: corpus refused: %d of %zu kinds, bytes unchanged\n", whole, volumes.size());
}

TEST_CASE("corpus: zeros that somebody wrote are blank", "[corpus][root]") {
  Rig rig;
  const auto capability = mount_capability(single_node_single_writer, "ext4");
  const std::string id = rig.create("v", capability);
  poke(rig.image_of(id), 0, std::string(4 * mebi, '\0'));
  poke(rig.image_of(id), -mebi, std::string(mebi, '\0'));
  CHECK(rig.stage(id, capability, rig.staging("v")) == OK);
}

TEST_CASE("corpus: what a workload wrote to a raw block volume is not formatted over", "[corpus][root]") {
  Rig rig;
  const auto block = block_capability(single_node_single_writer);
  for (std::size_t i = 0; i < corpus().size(); i += 16) {
    const Kind& kind = corpus()[i];
    INFO(kind.name);
    auto create = rig.create_request("v" + std::to_string(i), block, corpus_size, {{"blockSize", "512"}});
    *create.add_volume_capabilities() = mount_capability(single_node_single_writer);
    const auto created = rig.call(create);
    REQUIRE(outcome(created) == OK);
    Volume volume{.kind = &kind, .id = created->volume().volume_id()};
    const fs::path target = rig.target(volume.id);
    REQUIRE(rig.stage(volume.id, block, rig.staging(volume.id)) == OK);
    REQUIRE(rig.publish(volume.id, block, rig.staging(volume.id), target) == OK);
    // The workload's device holds what the kind is; made in a file, so that no tool looks for a device's geometry.
    const fs::path made = rig.root() / "made";
    write_file(made, "");
    fs::resize_file(made, corpus_size);
    kind.put(made);
    REQUIRE(run_tool({"dd", "if=" + made.string(), "of=" + target.string(), "bs=1M", "conv=notrunc,sparse,fsync"}) == 0);
    REQUIRE(rig.unpublish(volume.id, target) == OK);
    REQUIRE(rig.unstage(volume.id, rig.staging(volume.id)) == OK);
    volume.image = rig.image_of(volume.id);
    volume.digest = digest_of(volume.image);
    CHECK(volume.digest == digest_of(made));
    for (const std::string& fs_type : fs_types)
      if (fs_type != kind.says) check_refused(rig, volume, fs_type, kind.has_signature() ? kind.says : "no filesystem", "never formatted");
    CHECK(rig.remove(volume.id) == OK);
  }
}

}  // namespace ordinald::testing
