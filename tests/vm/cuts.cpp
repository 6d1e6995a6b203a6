// The orchestrator of power-cut, on the host: plays several volumes' lives against the agent in a guest until it kills QEMU amid their
// calls. One run a boot:
//
//   ordinald-vm-cuts GUEST_DIRECTORY MODEL_FILE SEED [--last]
//
// reads what was acknowledged in earlier boots (volume.hpp), holds the guest to it, goes on working, cuts at a random moment, and writes
// the model. With --last it takes all down instead of cutting, and nothing may be left. What each lane does follows from the seed and the
// boot.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <exception>
#include <fstream>
#include <map>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "tests/vm/guest.hpp"
#include "tests/vm/lane.hpp"
#include "tests/vm/volume.hpp"

namespace ordinald::testing {
namespace {

using nlohmann::json;
using Words = std::multiset<std::string>;

constexpr std::chrono::seconds phase_deadline(500);

Model new_model() {
  Model model;
  for (const auto& [kind, pool] : {std::pair("ext4", "data"), {"xfs", "other"}, {"btrfs", "data"}, {"ext4", "other"}, {"block", "data"}}) {
    LaneVolume volume;
    volume.kind = kind;
    volume.pool = pool;
    model.lanes.push_back(volume);
  }
  return model;
}

Model load(const std::string& path) {
  std::ifstream file(path);
  return file ? json::parse(file).get<Model>() : new_model();
}

CutPlan random_plan(std::mt19937_64& random, bool first) {
  static const std::vector<std::string> operations = {"create", "stage",     "stage",   "publish", "write",
                                                      "grow",   "unpublish", "unstage", "delete"};
  const auto number = [&](int from, int to) { return std::uniform_int_distribution<int>(from, to)(random); };
  CutPlan plan;
  switch (number(first ? 1 : 0, 3)) {
    case 0:  // while it still recovers from the last one
      plan.answers = static_cast<std::uint64_t>(number(2, 45));
      break;
    case 1:
      plan.answers = static_cast<std::uint64_t>(number(40, 110));
      break;
    default:
      plan.answers = static_cast<std::uint64_t>(number(30, 90));
      plan.operation = operations[static_cast<std::size_t>(number(0, static_cast<int>(operations.size()) - 1))];
  }
  plan.later = std::chrono::milliseconds(number(0, plan.operation == "stage" ? 250 : 40));
  return plan;
}

class Boot {
 public:
  Boot(const std::string& directory, Model& model, std::uint64_t seed, bool last)
      : guest_(directory), model_(model), random_(seed + 1000003U * static_cast<std::uint64_t>(model.cuts)), last_(last) {}

  /// True when the power was cut.
  bool run() {
    if (!last_) guest_.plan(random_plan(random_, model_.cuts == 0));
    const std::uint64_t lane_seed = random_();
    std::vector<Lane> lanes;
    for (std::size_t i = 0; i < model_.lanes.size(); ++i) lanes.emplace_back(guest_, model_.lanes[i], counts_, lane_seed + i);
    bool cut = together([&](std::size_t) { check_volumes(); }, 1) || together([&](std::size_t i) { lanes[i].recover(); }, lanes.size()) ||
               together([&](std::size_t) { audit(); }, 1);
    if (!cut && last_) {
      cut = together([&](std::size_t i) { lanes[i].end(); }, lanes.size()) || together([&](std::size_t) { audit(); }, 1);
    } else if (!cut) {
      cut = together(
          [&](std::size_t i) {
            for (;;) lanes[i].step();
          },
          lanes.size());
    }
    model_.acknowledged += counts_.acknowledged;
    model_.checked += counts_.checked;
    return cut;
  }

 private:
  /// Runs so many at once, and this thread for the guest, until all are done or the power is lost. The first that fails ends it.
  template <class Work>
  bool together(const Work& work, std::size_t number) {
    std::atomic<std::size_t> left = number;
    std::atomic<bool> failed = false;
    std::vector<std::string> errors(number);
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < number; ++i)
      threads.emplace_back([&, i] {
        try {
          work(i);
        } catch (const PowerLost&) {
        } catch (const std::exception& error) {
          errors[i] = error.what();
          failed = true;
        }
        --left;
        guest_.wake();
      });
    bool cut = false;
    std::string error;
    try {
      cut = guest_.run([&] { return left == 0 || failed; }, phase_deadline);
    } catch (const std::exception& what) {
      error = what.what();
    }
    if (failed || !error.empty()) {
      for (const std::string& text : errors) error += (error.empty() || text.empty() ? "" : "\n") + text;
      // The other threads wait for answers: the process ends with them.
      std::printf("LOST: %s\n", error.c_str());
      std::fflush(stdout);
      std::_Exit(1);
    }
    for (std::thread& thread : threads) thread.join();
    return cut;
  }

  Words lines(const std::string& command) {
    const Answer answer = guest_.shell(command);
    if (!answer.ok()) throw Lost("in the guest: " + command + ": " + answer.text);
    std::istringstream text(answer.text);
    Words words;
    for (std::string line; std::getline(text, line);) words.insert(line);
    return words;
  }

  void same(const std::string& what, const Words& expected, const Words& found) {
    std::string text;
    for (const std::string& word : expected)
      if (!found.contains(word)) text += "\n  missing: " + word;
    for (const std::string& word : found)
      if (found.count(word) > expected.count(word)) text += "\n  nobody's: " + word;
    if (!text.empty()) throw Lost(what + ":" + text);
    ++counts_.checked;
  }

  /// Every acknowledged volume is there with its size, every deleted one is not; only an unanswered call leaves a choice.
  void check_volumes() {
    const Answer answer = guest_.ask("csi", "ListVolumes {}");
    if (!answer.ok()) throw Lost("ListVolumes: " + answer.status + " " + answer.text);
    std::map<std::string, std::int64_t> listed;
    const json message = json::parse(answer.text);
    for (const json& entry : message.value("entries", json::array()))
      listed[entry.at("volume").at("volume_id")] = std::stoll(entry.at("volume").at("capacity_bytes").get<std::string>());
    for (LaneVolume& volume : model_.lanes) {
      if (volume.id.empty()) continue;
      const auto found = listed.find(volume.id);
      if (found == listed.end()) {
        if (volume.pending != "delete") throw Lost("volume " + volume.id + " was acknowledged and is gone");
        continue;
      }
      const bool may_be_grown = volume.pending == "grow" && found->second == volume.wanted_size;
      if (found->second != volume.size && !may_be_grown)
        throw Lost("volume " + volume.id + " has " + std::to_string(found->second) + " bytes, not " + std::to_string(volume.size));
      listed.erase(found);
      ++counts_.checked;
    }
    for (const auto& [id, size] : listed) {
      const bool in_creation = std::ranges::any_of(
          model_.lanes, [&](const LaneVolume& volume) { return volume.pending == "create" && id.starts_with(volume_name(volume) + "-"); });
      if (!in_creation) throw Lost("volume " + id + " is nobody's, or was deleted");
    }
  }

  /// While no call runs: records, images, loops, mounts, targets and ledger are those of the volumes, and all volumes are well.
  void audit() {
    Words records, images, loops, mounts, targets, ledger;
    for (const LaneVolume& volume : model_.lanes) {
      if (volume.id.empty()) continue;
      const std::string image = "/" + volume.pool + "/pool/" + volume.id + ".img";
      records.insert(volume.id + ".json");
      images.insert(image);
      if (volume.target_made) targets.insert(target_of(volume));
      if (volume.level == "created") continue;
      loops.insert(image);
      ledger.insert(volume.id + ".json");
      if (volume.kind != "block") mounts.insert(staging_of(volume));
      if (volume.level == "published") mounts.insert(target_of(volume));
    }
    same("records", records, lines("ls -A /data/state/volumes"));
    same("images", images, lines("find /data/pool /other/pool -mindepth 1"));
    same("loops", loops, lines("for f in /sys/block/loop*/loop/backing_file; do [ ! -e $f ] || cat $f; done"));
    same("mounts", mounts, lines("awk '{print $5}' /proc/self/mountinfo | grep -E '^/data/(stage|pods)/' || true"));
    same("targets", targets, lines("find /data/pods -mindepth 2 -maxdepth 2"));
    same("ledger", ledger, lines("ls -A /run/vm/run/ledger"));
    const Answer health = guest_.ask("csi", "ControllerListVolumeHealth {}");
    if (!health.ok() || health.text != "{}") throw Lost("volumes are unwell after recovery: " + health.status + " " + health.text);
    ++counts_.checked;
  }

  Guest guest_;
  Model& model_;
  LaneCounts counts_;
  std::mt19937_64 random_;
  bool last_;
};

}  // namespace
}  // namespace ordinald::testing

int main(int argc, char** argv) {
  using namespace ordinald::testing;
  const bool last = argc == 5 && std::string(argv[4]) == "--last";
  if (argc != 4 && !last) {
    std::fputs("usage: ordinald-vm-cuts GUEST_DIRECTORY MODEL_FILE SEED [--last]\n", stderr);
    return 2;
  }
  try {
    Model model = load(argv[2]);
    const std::uint64_t before = model.acknowledged;
    const bool cut = Boot(argv[1], model, std::stoull(argv[3]), last).run();
    std::string interrupted;
    for (const LaneVolume& volume : model.lanes) {
      if (volume.pending.empty()) continue;
      ++model.interrupted[volume.pending];
      interrupted += " " + volume.pending + "(" + volume.kind + ")";
    }
    if (cut) ++model.cuts;
    std::ofstream(argv[2]) << json(model).dump(1) << "\n";
    std::printf("%s after %llu calls;%s\n", cut ? ("cut " + std::to_string(model.cuts)).c_str() : "all down",
                static_cast<unsigned long long>(model.acknowledged - before), interrupted.c_str());
    if (!cut) {
      std::string table;
      for (const auto& [operation, count] : model.interrupted)
        table += (table.empty() ? "" : ", ") + operation + " " + std::to_string(count);
      std::printf("TOTAL %d cuts, %llu calls acknowledged, %llu things checked, 0 lost (amid: %s)\n", model.cuts,
                  static_cast<unsigned long long>(model.acknowledged), static_cast<unsigned long long>(model.checked), table.c_str());
    }
    return cut == !last ? 0 : 1;
  } catch (const std::exception& error) {
    std::printf("LOST: %s\n", error.what());
    return 1;
  }
}
