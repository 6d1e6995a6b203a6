#include "tests/model/generator.hpp"

#include <algorithm>

namespace ordinald::testing {
namespace {

constexpr std::int64_t mib = 1 << 20;

class Dice {
 public:
  explicit Dice(std::mt19937_64& engine) : engine_(engine) {}
  /// 0 … n-1, the same on every library.
  int below(int n) { return static_cast<int>(engine_() % static_cast<std::uint64_t>(n)); }
  bool in_100(int n) { return below(100) < n; }
  template <class T>
  const T& of(const std::vector<T>& choices) {
    return choices.at(static_cast<std::size_t>(below(static_cast<int>(choices.size()))));
  }
  /// An index by weight.
  int weighted(const std::vector<int>& weights) {
    int sum = 0;
    for (const int weight : weights) {
      sum += weight;
    }
    int at = below(sum);
    int i = 0;
    while (at >= weights[static_cast<std::size_t>(i)]) {
      at -= weights[static_cast<std::size_t>(i++)];
    }
    return i;
  }

 private:
  std::mt19937_64& engine_;
};

std::string staging(int volume, int n) { return "stage/" + std::to_string(volume) + static_cast<char>('a' + n); }
std::string target(int volume, int n) { return "pods/" + std::to_string(volume) + static_cast<char>('a' + n); }

class Maker {
 public:
  Maker(Dice& dice, const Runner& runner, bool alone) : dice_(dice), runner_(runner), alone_(alone) {}

  Call call(int number) {
    const Volume& volume = runner_.volume(number);
    Call call;
    call.volume = number;
    call.verb = verb(volume);
    call.mode = mode();
    call.staging = path(number, staging, 2);
    call.target = path(number, target, 3);
    call.block = volume.both ? dice_.in_100(40) : dice_.in_100(3) ? !volume.block : volume.block;
    switch (call.verb) {
      case Verb::create:
        create(call, volume);
        break;
      case Verb::stage:
        stage(call, volume);
        break;
      case Verb::unstage:
        if (!volume.staged.empty() && dice_.in_100(85)) {
          call.staging = dice_.of(volume.staged).path;
        }
        break;
      case Verb::publish:
        publish(call, volume);
        break;
      case Verb::unpublish:
        if (!volume.published.empty() && dice_.in_100(85)) {
          call.target = dice_.of(volume.published).target;
        }
        break;
      case Verb::expand:
      case Verb::node_expand:
        call.size = volume.size + (dice_.in_100(40) ? 0 : dice_.below(3) * 4 * mib) + (dice_.in_100(10) ? 1 : 0) +
                    (volume.holds == "btrfs" && dice_.in_100(50) ? 128 * mib : 0);
        call.size = dice_.in_100(3) ? std::int64_t{1} << 60 : std::max<std::int64_t>(call.size, 1);
        call.limit = dice_.in_100(5) ? std::max(call.size, volume.size - mib) : 0;
        [[fallthrough]];
      case Verb::stats:
        pick_place(call, volume);
        break;
      case Verb::validate:
        call.fs = call.block || dice_.in_100(60) ? "" : any_fs();
        break;
      default:
        break;
    }
    return call;
  }

 private:
  Verb verb(const Volume& volume) {
    static const std::vector<Verb> verbs{Verb::create,         Verb::remove,     Verb::stage,       Verb::unstage, Verb::publish,
                                         Verb::unpublish,      Verb::expand,     Verb::node_expand, Verb::stats,   Verb::node_health,
                                         Verb::health,         Verb::get,        Verb::validate,    Verb::list,    Verb::capacity,
                                         Verb::storage_health, Verb::list_health};
    static const std::vector<int> none{75, 2, 3, 2, 3, 3, 2, 2, 2, 1, 1, 1, 1, 2, 1, 1, 1};
    static const std::vector<int> idle{6, 10, 55, 4, 4, 3, 5, 1, 1, 2, 1, 2, 3, 2, 1, 1, 1};
    static const std::vector<int> staged{3, 3, 12, 22, 45, 4, 5, 5, 4, 3, 1, 1, 2, 2, 1, 1, 1};
    static const std::vector<int> published{3, 3, 10, 8, 28, 28, 4, 6, 5, 4, 1, 1, 2, 2, 1, 1, 1};
    const auto& weights = !volume.exists ? none : !volume.published.empty() ? published : !volume.staged.empty() ? staged : idle;
    return verbs.at(static_cast<std::size_t>(dice_.weighted(weights)));
  }

  int mode() {
    static const std::vector<int> weights{25, 6, 6, 3, 3, 30, 27};
    return 1 + dice_.weighted(weights);
  }

  const std::string& any_fs() {
    static const std::vector<std::string> names{"ext4", "xfs", "btrfs"};
    return dice_.of(names);
  }

  /// Mostly the volume's own; another's only where nobody else is at it meanwhile.
  std::string path(int number, std::string (*name)(int, int), int count) {
    const int whose = alone_ && dice_.in_100(3) ? dice_.below(runner_.volumes()) : number;
    return name(whose, dice_.below(count));
  }

  void create(Call& call, const Volume& volume) {
    if (volume.exists && dice_.in_100(80)) {
      call.block = volume.block;
      call.both = volume.both;
      call.fs = volume.created_fs;
      call.allow = volume.allow;
      call.size = volume.created_size;
      call.mode = volume.allow ? call.mode : 6;
      return;
    }
    static const std::vector<std::string> shapes{"ext4", "ext4", "xfs", "btrfs", "block", "both"};
    const std::string& shape = dice_.of(shapes);
    call.block = shape == "block";
    call.both = shape == "both";
    call.fs = call.block ? "" : call.both ? "ext4" : shape;
    call.allow = dice_.in_100(25);
    call.size = shape == "xfs" ? 320 * mib : shape == "btrfs" ? 128 * mib : (8 + dice_.below(4) * 4) * mib;
    if (dice_.in_100(8)) {
      static const std::vector<std::int64_t> sizes{1, mib, 7 * mib, 20 * mib + 1, std::int64_t{1} << 60};
      call.size = dice_.of(sizes);
    }
  }

  void stage(Call& call, const Volume& volume) {
    if (!volume.staged.empty() && dice_.in_100(60)) {
      const Staged& held = dice_.of(volume.staged);
      call.staging = dice_.in_100(60) ? held.path : call.staging;
      call.block = held.block;
      call.fs = dice_.in_100(50) ? held.fs : "";
      call.flag = held.flag;
      call.mode = dice_.in_100(85) ? held.mode : call.mode;
      return;
    }
    if (is_reader_only(call.mode) && volume.content == Volume::Content::blank && dice_.in_100(80)) {
      call.mode = 7;
    }
    if (!call.block) {
      call.fs = dice_.in_100(50) ? "" : dice_.in_100(90) ? volume.fs : any_fs();
      call.flag = dice_.in_100(80) ? "" : dice_.in_100(60) ? "noatime" : "ro";
    }
  }

  void publish(Call& call, const Volume& volume) {
    call.pod = "uid-" + call.target.substr(call.target.size() - 1);
    if (!volume.published.empty() && dice_.in_100(30)) {
      const Published& held = dice_.of(volume.published);
      call.target = held.target;
      call.staging = held.staging;
      call.block = held.block;
      call.mode = held.mode;
      call.fs = held.fs;
      call.flag = held.flag;
      call.readonly = held.asked_readonly;
      call.pod = held.pod;
      switch (dice_.below(8)) {  // once in a while something differs
        case 0:
          call.pod = "uid-other";
          break;
        case 1:
          call.readonly = !call.readonly;
          break;
        case 2:
          call.mode = mode();
          break;
        default:
          break;
      }
      return;
    }
    if (!volume.staged.empty() && dice_.in_100(95)) {
      const Staged& from = dice_.of(volume.staged);
      call.staging = from.path;
      call.block = from.block;
      call.mode = dice_.in_100(80) ? from.mode : call.mode;
      call.fs = dice_.in_100(60) ? "" : dice_.in_100(90) ? from.fs : any_fs();
      call.flag = dice_.in_100(90) ? from.flag : "noatime";
      if (call.block) {
        call.fs = call.flag = "";
      }
    }
    call.readonly = dice_.in_100(15);
  }

  /// A volume_path.
  void pick_place(Call& call, const Volume& volume) {
    if (!volume.published.empty() && dice_.in_100(60)) {
      call.staging = dice_.of(volume.published).target;
    } else if (!volume.staged.empty() && dice_.in_100(80)) {
      call.staging = dice_.of(volume.staged).path;
    }
  }

  Dice& dice_;
  const Runner& runner_;
  const bool alone_;
};

std::vector<Wound> wounds(Dice& dice, const Runner& runner) {
  std::vector<Wound> result;
  for (int n = dice.in_100(50) ? 0 : 1 + dice.below(3); n > 0; --n) {
    const int volume = dice.below(runner.volumes());
    static const std::vector<Wound::Kind> kinds{Wound::Kind::lose_ledger, Wound::Kind::garble_ledger, Wound::Kind::truncate_record,
                                                Wound::Kind::garble_record};
    result.push_back({.kind = dice.of(kinds), .volume = volume, .where = static_cast<std::uint32_t>(dice.below(1 << 20))});
  }
  for (int i = 0; i < runner.volumes(); ++i) {
    if (runner.volume(i).damaged && dice.in_100(40)) {
      result.push_back({.kind = Wound::Kind::mend_record, .volume = i, .where = 0});
    }
  }
  return result;
}

/// The places of a volume, staged or published, that a person could reach.
std::vector<std::string> places(const Volume& volume) {
  std::vector<std::string> result;
  for (const Staged& stage : volume.staged) {
    if (!stage.block && stage.present) {
      result.push_back(stage.path);
    }
  }
  for (const Published& publication : volume.published) {
    if (publication.present) {
      result.push_back(publication.target);
    }
  }
  return result;
}

bool is_mounted(const Runner& runner, int number, const std::string& path) {
  const std::vector<std::string> all = places(runner.volume(number));
  return std::ranges::find(all, path) != all.end();
}

/// Something behind the agent's back.
Step break_something(Dice& dice, const Runner& runner, int number) {
  Step step;
  step.volume = number;
  const std::vector<std::string> mounted = places(runner.volume(number));
  const int what = dice.below(10);
  if (what < 4 && !mounted.empty()) {
    step.kind = Step::Kind::unmount;
    step.path = dice.of(mounted);
  } else if (what < 6) {
    step.kind = Step::Kind::detach;
  } else if (!runner.obstacles().empty() && what == 6) {
    step.kind = Step::Kind::clear;
    step.path = runner.obstacles().begin()->first;
  } else {
    step.kind = Step::Kind::obstruct;
    step.path = dice.in_100(75) ? target(number, dice.below(3)) : staging(number, dice.below(2));
    static const std::vector<Obstacle> obstacles{Obstacle::file, Obstacle::symlink, Obstacle::full_directory};
    step.obstacle = dice.of(obstacles);
    if (is_mounted(runner, number, step.path) || runner.obstacles().contains(step.path)) {
      step.kind = Step::Kind::clear;
    }
  }
  return step;
}

}  // namespace

Step next_step(std::mt19937_64& engine, const Runner& runner, const Temper& temper) {
  Dice dice{engine};
  Step step;
  const int number = dice.below(runner.volumes());
  int at = dice.below(10000);
  const auto falls_on = [&](int share) {
    at -= share;
    return at < 0;
  };
  if (falls_on(temper.in_10000_restart)) {
    step.kind = Step::Kind::restart;
    step.wounds = temper.wounds ? wounds(dice, runner) : std::vector<Wound>{};
    return step;
  }
  if (falls_on(temper.in_10000_reboot)) {
    step.kind = Step::Kind::reboot;
    step.wounds = temper.wounds ? wounds(dice, runner) : std::vector<Wound>{};
    return step;
  }
  if (falls_on(100)) {
    step.kind = Step::Kind::repair;
    return step;
  }
  if (falls_on(temper.in_10000_break)) {
    return break_something(dice, runner, number);
  }
  if (falls_on(800)) {
    if (const std::vector<std::string> all = places(runner.volume(number)); !all.empty()) {
      step.kind = Step::Kind::write;
      step.volume = number;
      step.path = dice.of(all);
      step.text = "data " + std::to_string(dice.below(1 << 30));
      return step;
    }
  }
  // Several at once: some of them on one volume.
  const int count = temper.most_calls_at_once > 1 && dice.in_100(70) ? 2 + dice.below(temper.most_calls_at_once - 1) : 1;
  std::map<int, int> on;
  int volume = number;
  for (int i = 0; i < count; ++i) {
    volume = i == 0 || dice.in_100(40) ? volume : dice.below(runner.volumes());
    if (++on[volume] <= 4) {
      step.calls.push_back(Maker{dice, runner, count == 1}.call(volume));
    }
  }
  if (dice.below(10000) < temper.in_10000_crash) {
    step.crash = dice.below(temper.crash_range);
    step.power = dice.below(10000) < 10 * temper.in_10000_reboot;
    step.reversed = static_cast<std::uint32_t>(dice.below(1 << 16));
  }
  return step;
}

}  // namespace ordinald::testing
