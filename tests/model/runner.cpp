#include "tests/model/runner.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>

namespace ordinald::testing {
namespace {

void add(std::vector<Volume>& to, const Volume& volume) {
  if (std::ranges::find(to, volume) == to.end()) {
    to.push_back(volume);
  }
}

bool changes_something(Verb verb) {
  switch (verb) {
    case Verb::create:
    case Verb::remove:
    case Verb::stage:
    case Verb::unstage:
    case Verb::publish:
    case Verb::unpublish:
    case Verb::expand:
    case Verb::node_expand:
      return true;
    default:
      return false;
  }
}

/// What an orchestrator asks that has changed its mind; the same where there is no way back.
Call opposite(Call call) {
  if (call.verb == Verb::stage) {
    call.verb = Verb::unstage;
  } else if (call.verb == Verb::publish) {
    call.verb = Verb::unpublish;
  }
  return call;
}

const std::string& path_of(const Call& call) {
  static const std::string none;
  switch (call.verb) {
    case Verb::stage:
    case Verb::unstage:
      return call.staging;
    case Verb::publish:
    case Verb::unpublish:
      return call.target;
    default:
      return none;
  }
}

}  // namespace

Runner::Runner(World& world, int volumes, std::int64_t pool_size)
    : world_(world),
      environment_{.grows_mounted_ext4 = world.grows_mounted_ext4(), .pool_size = pool_size},
      states_(static_cast<std::size_t>(volumes), States{Volume{}}) {}

template <class Change>
void Runner::change(int volume, Change change) {
  States changed;
  for (Volume state : states_.at(static_cast<std::size_t>(volume))) {
    change(state);
    add(changed, state);
  }
  states_.at(static_cast<std::size_t>(volume)) = std::move(changed);
}

std::string Runner::play(const Step& step) {
  std::set<int> touched{step.volume};
  std::string wrong;
  note(std::to_string(steps_++) + "  " + to_string(step));
  switch (step.kind) {
    case Step::Kind::calls:
      for (const Call& call : step.calls) {
        touched.insert(call.volume);
      }
      wrong = play_calls(step);
      break;
    case Step::Kind::restart:
      world_.kill();
      wrong = come_back(step, false);
      break;
    case Step::Kind::reboot:
      world_.kill();
      wrong = come_back(step, true);
      break;
    case Step::Kind::write:
      wrong = write(step);
      break;
    case Step::Kind::unmount:
      if (world_.unmount(step.path)) {
        litter_.insert(step.path);
        for (int i = 0; i < volumes(); ++i) {
          change(i, [&](Volume& volume) {
            if (Staged* stage = volume.stage_at(step.path); stage != nullptr && !stage->block) {
              stage->present = false;
            }
            if (Published* publication = volume.publication_at(step.path); publication != nullptr) {
              publication->present = publication->stale = false;
            }
            const auto nowhere = [](const auto& entry) { return !entry.known && !entry.present; };
            if (std::erase_if(volume.staged, nowhere) + std::erase_if(volume.published, nowhere) > 0) {
              volume.loose_loop = true;
            }
          });
        }
      }
      break;
    case Step::Kind::detach:
      if (const std::string& id = volume(step.volume).id; !id.empty() && world_.detach(id)) {
        change(step.volume, [](Volume& volume) {
          volume.device_gone = volume.device_gone || std::ranges::any_of(volume.staged, &Staged::block) ||
                               std::ranges::any_of(volume.published, &Published::block);
        });
      }
      break;
    case Step::Kind::obstruct:
      if (world_.obstruct(step.path, step.obstacle)) {
        obstacles_[step.path] = step.obstacle;
      }
      break;
    case Step::Kind::repair:
      world_.repair();
      break;
    case Step::Kind::clear:
      if (obstacles_.contains(step.path) && world_.clear(step.path)) {
        obstacles_.erase(step.path);
      }
      break;
  }
  if (wrong.empty()) {
    wrong = check(touched);
  }
  return wrong.empty() ? wrong : wrong + "\n" + both_sides(failed_ >= 0 ? std::set<int>{failed_} : touched);
}

void Runner::note(std::string text) {
  constexpr std::size_t kept = 100;
  journal_.push_back(std::move(text));
  if (journal_.size() > kept) {
    journal_.pop_front();
  }
}

std::string Runner::both_sides(const std::set<int>& volumes) {
  const Facts facts = world_.look();
  std::string text;
  for (const int number : volumes) {
    const std::string& id = volume(number).id;
    if (id.empty()) {
      continue;
    }
    text += "on the node of v" + std::to_string(number) + ", " + id + ":";
    const auto image = facts.images.find(id);
    text += image == facts.images.end() ? " no image" : " an image of " + std::to_string(image->second) + " bytes";
    text += ", " + std::to_string(facts.loops.contains(id) ? facts.loops.at(id) : 0) + " loop devices";
    for (const auto& [path, mount] : facts.mounts) {
      if (mount.id == id) {
        text += ", mounted at " + path + (mount.block ? " (block)" : "") + (mount.read_only ? " (ro)" : "");
      }
    }
    text += "\n" + world_.files_of(id);
  }
  return text;
}

void Runner::prepare(Call& call, const std::vector<Call>& calls) const {
  const Volume& mine = volume(call.volume);
  call.id = mine.id.empty() ? "never-was-" + std::to_string(call.volume) : mine.id;
  const std::string& path = path_of(call);
  if (path.empty()) {
    return;
  }
  if (const auto found = obstacles_.find(path); found != obstacles_.end()) {
    call.obstacle = found->second;
  } else if (litter_.contains(path) || orphans_.contains(path)) {
    call.obstacle = Obstacle::litter;
  }
  call.taken = taken(path, call, calls);
  call.staging_taken = call.verb == Verb::publish ? taken(call.staging, call, calls) : Taken::no;
}

Taken Runner::taken(const std::string& path, const Call& call, const std::vector<Call>& calls) const {
  Taken result = Taken::no;
  for (int i = 0; i < volumes(); ++i) {
    for (const Volume& other : i == call.volume ? States{} : states_.at(static_cast<std::size_t>(i))) {
      const Staged* stage = other.stage_at(path);
      const Published* publication = other.publication_at(path);
      const bool sure =
          (stage != nullptr && stage->known && stage->present) || (publication != nullptr && publication->known && publication->present);
      if (sure && calls.size() == 1) {
        result = Taken::yes;
      } else if ((stage != nullptr || publication != nullptr) && result == Taken::no) {
        result = Taken::maybe;
      }
    }
  }
  for (const Call& other : calls) {
    if (other.volume != call.volume && (path_of(other) == path || other.staging == path) && result == Taken::no) {
      result = Taken::maybe;
    }
  }
  return result;
}

std::string Runner::play_calls(const Step& step) {
  std::vector<Call> calls = step.calls;
  for (Call& call : calls) {
    prepare(call, step.calls);
  }
  const std::vector<Answer> answers = world_.run(calls, step.crash);
  calls_ += calls.size();
  std::map<int, std::vector<Told>> told;
  std::vector<std::pair<std::size_t, Call>> cut_off;
  for (std::size_t i = 0; i < calls.size(); ++i) {
    if (!step.crash && answers[i].code == Code::none) {
      return to_string(calls[i]) + ": no answer, and the agent was not killed";
    }
    if (answers[i].code != Code::ok && answers[i].code != Code::none && answers[i].message.empty()) {
      return to_string(calls[i]) + ": " + to_string(answers[i].code) + " without a message";
    }
    note("        v" + std::to_string(calls[i].volume) + " " + to_string(calls[i].verb) + ": " + to_string(answers[i]));
    told[calls[i].volume].emplace_back(calls[i], answers[i]);
    if (answers[i].code == Code::none && calls[i].verb == Verb::publish) {
      litter_.insert(calls[i].target);
    } else if (calls[i].verb == Verb::unpublish && answers[i].code == Code::ok && calls.size() == 1 &&
               calls[i].obstacle == Obstacle::litter && calls[i].taken == Taken::no) {
      litter_.erase(calls[i].target);
    }
    if (answers[i].code == Code::none && changes_something(calls[i].verb)) {
      cut_off.emplace_back(i, calls[i]);
    }
  }
  for (auto& [volume, each] : told) {
    for (auto& [call, answer] : each) {
      if (each.size() > 1 && call.verb == Verb::node_health) {
        answer.reasons.clear();  // it waits for no call, and sees what is half done
      }
    }
    if (std::string wrong = digest(volume, each); !wrong.empty()) {
      return wrong;
    }
  }
  if (step.crash) {
    if (std::string wrong = come_back(step, step.power); !wrong.empty()) {
      return wrong;
    }
    // A delete that was begun is finished first: all else meets it half done.
    std::remove_cvref_t<decltype(cut_off)> in_order;
    for (const bool deletes : {true, false}) {
      std::ranges::copy_if(cut_off, std::back_inserter(in_order),
                           [&](const auto& entry) { return (entry.second.verb == Verb::remove) == deletes; });
    }
    cut_off = std::move(in_order);
    for (auto& [bit, call] : cut_off) {
      if ((step.reversed >> bit & 1U) != 0) {
        call = opposite(call);
      }
      const Answer answer = world_.run({call}, {}).front();
      note("        after the crash: " + to_string(call) + ": " + to_string(answer));
      if (std::string wrong = digest(call.volume, {{call, answer}}); !wrong.empty()) {
        return "after the crash: " + wrong;
      }
    }
  } else if (calls.size() == 1) {
    const Call& call = calls.front();
    if (call.verb == Verb::list) {
      return check_list(answers.front());
    }
    if (call.verb == Verb::unpublish && answers.front().code == Code::ok && call.taken == Taken::no &&
        (call.obstacle == Obstacle::none || call.obstacle == Obstacle::litter) && !orphans_.contains(call.target) &&
        world_.exists(call.target)) {
      return to_string(call) + ": OK, but the target is still there";
    }
  }
  return {};
}

std::string Runner::digest(int volume, const std::vector<Told>& told) {
  States& states = states_.at(static_cast<std::size_t>(volume));
  States found;
  for (const Volume& from : states) {
    explore(from, told, 0, found);
  }
  if (!found.empty()) {
    states = std::move(found);
    return {};
  }
  failed_ = volume;
  std::string text;
  for (const auto& [call, answer] : told) {
    text += to_string(call) + "\n    answered " + to_string(answer) + (answer.size > 0 ? " size " + std::to_string(answer.size) : "") +
            (call.verb == Verb::validate ? (answer.confirmed ? " confirmed" : " not confirmed") : "") + "\n";
    for (const std::string& reason : answer.reasons) {
      text += "    health says " + reason + "\n";
    }
    for (const Volume& state : states) {
      text += "    allowed " + to_string(expected(state, call, environment_)) + " for: " + to_string(state) + "\n";
    }
  }
  return text + (told.size() > 1 ? "    no order of these calls explains the answers" : "");
}

void Runner::explore(const Volume& from, const std::vector<Told>& told, unsigned done, States& found) const {
  if (done + 1 == 1U << told.size()) {
    add(found, from);
    return;
  }
  std::vector<Volume> states = with_drops(from);
  // A deletion is seen by those beside it before it has ended.
  for (std::size_t i = 0; told.size() > 1 && i < told.size(); ++i) {
    const auto& [call, answer] = told[i];
    if ((done >> i & 1U) == 0 && call.verb == Verb::remove && answer.code == Code::ok && from.exists && !from.deleting &&
        call.id == from.id && expected(from, call, environment_).contains(Code::ok)) {
      states.push_back(from);
      states.back().deleting = true;
    }
  }
  for (const Volume& state : states) {
    for (std::size_t i = 0; i < told.size(); ++i) {
      if ((done >> i & 1U) == 0) {
        for (const Volume& next : after(state, told[i].first, told[i].second, environment_)) {
          explore(next, told, done | 1U << i, found);
        }
      }
    }
  }
}

std::string Runner::check_list(const Answer& answer) {
  std::size_t exist = 0;
  for (int i = 0; i < volumes(); ++i) {
    const Volume& mine = volume(i);
    if (!mine.exists) {
      continue;
    }
    ++exist;
    const auto found = answer.listed.find(mine.id);
    if (found == answer.listed.end()) {
      return "ListVolumes leaves out " + mine.id;
    }
    States& states = states_.at(static_cast<std::size_t>(i));
    std::erase_if(states, [&](const Volume& state) { return !state.damaged && found->second != state.size && states.size() > 1; });
    if (!volume(i).damaged && found->second != volume(i).size) {
      return "ListVolumes gives " + mine.id + " " + std::to_string(found->second) + " bytes, it has " + std::to_string(volume(i).size);
    }
  }
  return exist == answer.listed.size()
             ? ""
             : "ListVolumes gives " + std::to_string(answer.listed.size()) + " volumes, there are " + std::to_string(exist);
}

/// The agent is down: wounds, and it comes back.
std::string Runner::come_back(const Step& step, bool reboot) {
  if (reboot) {
    world_.power_loss();
    for (const States& states : states_) {
      for (const Volume& volume : states) {
        for (const Published& publication : volume.published) {
          litter_.insert(publication.target);
        }
      }
    }
  }
  for (int i = 0; i < volumes(); ++i) {
    change(i, [&](Volume& volume) { reboot ? rebooted(volume) : restarted(volume); });
  }
  for (const Wound& wound : step.wounds) {
    const Volume& mine = volume(wound.volume);
    const bool record = wound.kind == Wound::Kind::truncate_record || wound.kind == Wound::Kind::garble_record;
    if (!mine.exists || mine.id.empty() || (record && mine.damaged) || !world_.wound(wound, mine.id)) {
      continue;
    }
    for (const Published& held : mine.published) {
      if (!record && wound.kind != Wound::Kind::mend_record && (held.stale || (held.block && mine.device_gone))) {
        orphans_.insert(held.target);
      }
    }
    change(wound.volume, [&](Volume& volume) {
      if (record || wound.kind == Wound::Kind::mend_record) {
        volume.damaged = record;
      } else {
        ledger_lost(volume);
      }
    });
  }
  world_.start();
  if (!orphans_.empty()) {
    // Where such a node leads to a device again, it is found to be that volume's, whosever it was.
    const Facts facts = world_.look();
    for (int i = 0; i < volumes(); ++i) {
      const auto leads_here = [&](const std::string& path) {
        const auto mount = facts.mounts.find(path);
        return mount != facts.mounts.end() && mount->second.id == volume(i).id;
      };
      if (volume(i).exists && std::ranges::any_of(orphans_, leads_here)) {
        change(i, [](Volume& volume) { volume.node_left = true; });
      }
    }
  }
  return {};
}

std::string Runner::write(const Step& step) {
  const Volume& mine = volume(step.volume);
  const Staged* stage = mine.stage_at(step.path);
  const Published* publication = mine.publication_at(step.path);
  const bool block = publication != nullptr && publication->block;
  const bool there =
      (stage != nullptr && !stage->block && stage->present) || (publication != nullptr && publication->present && !publication->stale);
  const bool holds =
      std::ranges::any_of(states_.at(static_cast<std::size_t>(step.volume)), [](const Volume& v) { return !v.holds.empty(); });
  if (!there || mine.device_gone || (block && holds)) {
    return {};
  }
  const bool read_only = publication != nullptr ? publication->read_only : stage->read_only;
  const int refused = block ? EPERM : EROFS;
  const int error = world_.write(step.path, block, step.text);
  if (error != (read_only ? refused : 0)) {
    return "a write to " + step.path + (read_only ? " (read-only)" : "") + " ended with errno " + std::to_string(error) + ", " +
           std::strerror(error);
  }
  if (error == 0) {
    change(step.volume, [&](Volume& volume) { volume.data = step.text; });
  }
  return {};
}

std::string Runner::check(const std::set<int>& touched) {
  const Facts facts = world_.look();
  std::erase_if(orphans_, [&](const std::string& path) {
    const bool gone = !facts.mounts.contains(path);
    if (gone) {
      litter_.insert(path);
    }
    return gone;
  });
  std::set<std::string> stale = orphans_;
  std::set<std::string> ids;
  for (const States& states : states_) {
    for (const Volume& volume : states) {
      for (const Published& publication : volume.published) {
        if (publication.stale || volume.device_gone) {
          stale.insert(publication.target);
        }
      }
      if (volume.exists) {
        ids.insert(volume.id);
      }
    }
  }
  for (int i = 0; i < volumes(); ++i) {
    States fitting;
    std::string why;
    for (Volume state : states_.at(static_cast<std::size_t>(i))) {
      for (Volume& maybe : std::vector<Volume>{state}) {
        if (const std::string wrong = disagreement(maybe, facts, stale); wrong.empty()) {
          add(fitting, maybe);
        } else {
          why += "    " + wrong + ", for: " + to_string(maybe) + "\n";
        }
      }
    }
    if (fitting.empty()) {
      failed_ = i;
      return "the node is not as volume v" + std::to_string(i) + " should be:\n" + why;
    }
    states_.at(static_cast<std::size_t>(i)) = std::move(fitting);
  }
  for (const auto& [path, mount] : facts.mounts) {
    if (!ids.contains(mount.id) && !stale.contains(path)) {
      return "a mount without owner at " + path;
    }
  }
  const auto strange = [&](const auto& there, const char* what) -> std::string {
    for (const auto& entry : there) {
      std::string id;
      if constexpr (std::is_same_v<std::decay_t<decltype(entry)>, std::string>) {
        id = entry;
      } else {
        id = entry.first;
      }
      if (!ids.contains(id)) {
        return std::string{what} + " without owner: " + id;
      }
    }
    return {};
  };
  for (const std::string& wrong : {strange(facts.images, "an image"), strange(facts.loops, "a loop device"),
                                   strange(facts.records, "a record"), strange(facts.ledger, "a ledger entry")}) {
    if (!wrong.empty()) {
      return wrong;
    }
  }
  if (!facts.strangers.empty()) {
    return "a file that is nobody's: " + facts.strangers.front();
  }
  std::set<int> read = touched;
  read.insert(static_cast<int>(checks_++ % states_.size()));
  for (const int number : read) {
    if (std::string wrong = check_data(volume(number)); !wrong.empty()) {
      failed_ = number;
      return wrong;
    }
  }
  return {};
}

std::string Runner::check_data(const Volume& volume) {
  if (!volume.data || volume.device_gone) {
    return {};
  }
  const auto look = [&](const std::string& path, bool block) -> std::string {
    const auto found = world_.read(path, block);
    return found == volume.data ? ""
                                : "volume " + volume.id + ": at " + path + " is " + (found ? "\"" + *found + "\"" : "nothing") +
                                      " where \"" + *volume.data + "\" was written";
  };
  for (const Staged& stage : volume.staged) {
    if (stage.present && !stage.block) {
      if (std::string wrong = look(stage.path, false); !wrong.empty()) {
        return wrong;
      }
    }
  }
  for (const Published& publication : volume.published) {
    if (publication.present && !publication.stale && (!publication.block || volume.holds.empty())) {
      if (std::string wrong = look(publication.target, publication.block); !wrong.empty()) {
        return wrong;
      }
    }
  }
  return {};
}

}  // namespace ordinald::testing
