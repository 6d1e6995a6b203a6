#include "tests/model/model.hpp"

#include <algorithm>
#include <tuple>

namespace ordinald::testing {
namespace {

constexpr std::int64_t mib = 1 << 20;
constexpr std::int64_t block_size = 4096;

std::int64_t round_up(std::int64_t bytes) { return (bytes + block_size - 1) / block_size * block_size; }

bool is_multi_node_writer(int mode) { return mode == 4 || mode == 5; }

/// The access-mode table's first line.
bool is_exclusive(int mode) { return mode == 1 || mode == 2 || mode == 6; }

const std::string& fs_of(const Volume& volume, const Call& call) { return call.fs.empty() ? volume.fs : call.fs; }

bool asks_read_only(const Call& call) { return call.readonly || call.flag == "ro" || is_reader_only(call.mode); }

Staged staged_by(const Volume& volume, const Call& call) {
  return {.path = call.staging,
          .block = call.block,
          .mode = call.mode,
          .fs = call.block ? "" : fs_of(volume, call),
          .flag = call.flag,
          .read_only = call.flag == "ro" || is_reader_only(call.mode)};
}

Published published_by(const Volume& volume, const Call& call) {
  const Staged* stage = volume.stage_at(call.staging);
  return {.target = call.target,
          .staging = call.staging,
          .block = call.block,
          .mode = call.mode,
          .fs = call.fs,
          .flag = call.flag,
          .asked_readonly = call.readonly,
          .read_only = asks_read_only(call) || (call.block && stage != nullptr && stage->read_only),
          .pod = call.pod};
}

/// `must`: a refusal that the rules demand; any one of several. `may`: what they allow besides.
struct Verdict {
  Codes must{};
  Codes may{};
  [[nodiscard]] Codes codes() const {
    Codes all = may;
    if (must.empty()) {
      all.insert(Code::ok);
    }
    all.insert(must.begin(), must.end());
    return all;
  }
};

/// A volume that is known by this id; else the only answer.
bool is_known(const Volume& volume, const Call& call) { return volume.exists && volume.id == call.id; }

Codes expected_create(const Volume& volume, const Call& call, const Environment& environment) {
  Codes errors;
  if (is_multi_node_writer(call.mode) && !call.allow) {
    errors.insert({Code::invalid_argument, Code::failed_precondition});
  }
  const bool mounts = call.both || !call.block;
  if (!volume.exists && round_up(call.size) < (mounts ? smallest(call.fs) : block_size)) {
    errors.insert(Code::out_of_range);
  }
  if (!errors.empty()) {
    return errors;
  }
  if (!volume.exists) {
    return call.size > environment.pool_size ? Codes{Code::resource_exhausted} : Codes{Code::ok};
  }
  const bool same = round_up(call.size) == volume.created_size && call.block == volume.block && call.both == volume.both &&
                    call.allow == volume.allow && (!mounts || call.fs == volume.created_fs);
  Codes codes{same ? Code::ok : Code::already_exists};
  if (volume.damaged) {  // or made anew, as it was created as far as its label tells
    codes.insert({Code::failed_precondition, Code::already_exists, Code::ok});
  }
  return codes;
}

bool is_look(const Call& call) {
  return call.verb == Verb::get || call.verb == Verb::health || call.verb == Verb::node_health || call.verb == Verb::validate;
}

/// What is left when it is deleted: an id that is never given again.
Volume gone(const Volume& volume) {
  Volume left;
  left.id = volume.id;
  return left;
}

/// A raw block device that was staged when the ledger was lost: its loop may tell, and a call that comes tells at which path. Of several
/// staging paths the first call tells one.
bool may_be_found_ready(const Volume& volume, const Staged& stage) {
  return stage.block && !stage.known && stage.present && volume.staged.size() == 1 && !volume.device_gone;
}

/// Whether its loop must tell. That it was used as raw block its record says; one that is made anew from the image's label does too.
bool is_found_ready(const Volume& volume, const Staged& stage) { return may_be_found_ready(volume, stage) && !volume.damaged; }

/// What a publish publishes; of a device that was found ready the caller tells the path, whichever it is.
const Staged* staged_for(const Volume& volume, const Call& call) {
  const Staged* stage = volume.stage_at(call.staging);
  const bool told = stage == nullptr && call.block && volume.staged.size() == 1 && may_be_found_ready(volume, volume.staged.front());
  return told ? &volume.staged.front() : stage;
}

/// A loop that nobody knows of looks like a raw block device that is held ready, where the volume was used as one, or where its record is
/// made anew from its image's label, which leaves that open.
bool may_seem_ready(const Volume& volume) { return volume.loose_loop && (volume.damaged || volume.content == Volume::Content::raw); }

/// Whether one of the places, staging paths or targets, where the volume's filesystem is said to be mounted is like this.
template <class Like>
bool any_place(const Volume& volume, const Like& like) {
  const auto fits = [&](const auto& place) { return !place.block && like(place); };
  return std::ranges::any_of(volume.staged, fits) || std::ranges::any_of(volume.published, fits);
}

Codes expected_remove(const Volume& volume, const Call& call) {
  if (!is_known(volume, call)) {
    return {Code::ok};
  }
  Verdict verdict;
  for (const Staged& stage : volume.staged) {
    const bool visible = stage.known || (!stage.block && stage.present) || is_found_ready(volume, stage);
    (visible ? verdict.must : verdict.may).insert(Code::failed_precondition);
  }
  if (!volume.published.empty()) {
    verdict.must.insert(Code::failed_precondition);
  }
  if (volume.damaged || volume.node_left || may_seem_ready(volume)) {
    verdict.may.insert(Code::failed_precondition);
  }
  return verdict.codes();
}

/// Where another volume has the path, or something is in the way.
void judge_path(Verdict& verdict, const Call& call, bool makes_file, bool touches_path) {
  if (call.taken == Taken::yes) {
    verdict.must.insert(Code::failed_precondition);
  } else if (call.taken == Taken::maybe) {
    verdict.may.insert(Code::failed_precondition);
  }
  if (!touches_path || call.obstacle == Obstacle::none) {
    return;
  }
  const bool right_kind = call.obstacle == Obstacle::litter || call.obstacle == (makes_file ? Obstacle::file : Obstacle::full_directory);
  (right_kind ? verdict.may : verdict.must).insert(Code::failed_precondition);
}

/// Whether what is on the volume can be had as this filesystem.
/// Made by a stage that was cut off, and nobody has had it: it may be made again.
bool may_be_made_again(const Volume& volume) { return volume.content == Volume::Content::formatted && !volume.had; }

bool content_refuses(const Volume& volume, const std::string& fs, bool read_only) {
  if (volume.content == Volume::Content::blank) {
    return read_only || volume.size < smallest(fs);
  }
  return fs != volume.holds;
}

Codes expected_stage(const Volume& volume, const Call& call) {
  if (!is_known(volume, call)) {
    return {Code::not_found};
  }
  Verdict verdict;
  if (volume.damaged) {  // or made anew, with what its label tells
    verdict.may.insert({Code::failed_precondition, Code::already_exists});
  }
  if (volume.node_left) {
    verdict.may.insert(Code::failed_precondition);
  }
  if (is_multi_node_writer(call.mode) && !volume.allow) {
    verdict.must.insert(Code::failed_precondition);
  }
  const Staged asked = staged_by(volume, call);
  if (const Staged* held = volume.stage_at(call.staging); held != nullptr) {
    const auto arguments = [](const Staged& stage) { return std::tie(stage.block, stage.mode, stage.fs, stage.flag); };
    if (!held->known) {
      verdict.may.insert({Code::already_exists, Code::failed_precondition});
    } else if (arguments(*held) != arguments(asked)) {
      (held->vague ? verdict.may : verdict.must).insert(Code::already_exists);
    } else if (held->present) {
      return verdict.codes();
    }
  }
  for (const Staged& other : volume.staged) {
    if (other.path == call.staging) {
      continue;
    }
    if (!other.known) {
      verdict.may.insert(Code::failed_precondition);
    }
    if (other.block != call.block || (!call.block && other.fs != asked.fs)) {
      (other.known || (!other.block && other.present) ? verdict.must : verdict.may).insert(Code::failed_precondition);
    }
  }
  for (const Published& publication : volume.published) {
    if (publication.block != call.block) {
      (publication.present ? verdict.must : verdict.may).insert(Code::failed_precondition);
    }
    if (!publication.known) {
      verdict.may.insert(Code::failed_precondition);
    }
  }
  if (!call.block && content_refuses(volume, asked.fs, asked.read_only)) {
    (may_be_made_again(volume) ? verdict.may : verdict.must).insert(Code::failed_precondition);
  }
  if (!call.block && may_be_made_again(volume) && (asked.read_only || volume.size < smallest(asked.fs))) {
    verdict.may.insert(Code::failed_precondition);
  }
  judge_path(verdict, call, false, !call.block);
  return verdict.codes();
}

Codes expected_unstage(const Volume& volume, const Call& call) {
  Verdict verdict;
  if (is_known(volume, call)) {
    if (volume.node_left) {
      verdict.may.insert(Code::failed_precondition);
    }
    for (const Published& publication : volume.published) {
      if (publication.staging == call.staging) {
        (publication.known ? verdict.must : verdict.may).insert(Code::failed_precondition);
      } else if (!publication.known) {
        verdict.may.insert(Code::failed_precondition);
      }
    }
    for (const Staged& stage : volume.staged) {
      if (!stage.known) {
        verdict.may.insert(Code::failed_precondition);
      }
    }
  }
  return verdict.codes();
}

Codes expected_publish(const Volume& volume, const Call& call) {
  if (!is_known(volume, call)) {
    return {Code::not_found};
  }
  Verdict verdict;
  if (volume.damaged) {  // or made anew, with what its label tells
    verdict.may.insert({Code::failed_precondition, Code::already_exists});
  }
  if (volume.node_left) {
    verdict.may.insert(Code::failed_precondition);
  }
  if (is_multi_node_writer(call.mode) && !volume.allow) {
    verdict.must.insert(Code::failed_precondition);
  }
  const Staged* stage = staged_for(volume, call);
  const Staged* said = volume.stage_at(call.staging);
  if (call.staging_taken != Taken::no && call.block && (said == nullptr || !said->known)) {  // nobody would believe that it is this one's
    (call.staging_taken == Taken::yes ? verdict.must : verdict.may).insert(Code::failed_precondition);
  }
  if (stage == nullptr || !stage->present || volume.device_gone) {
    (call.block && volume.idle() && may_seem_ready(volume) ? verdict.may : verdict.must).insert(Code::failed_precondition);
  } else {
    const bool more_than_staged = !call.block && stage->read_only && !asks_read_only(call);
    if (stage->block != call.block || (!call.fs.empty() && call.fs != stage->fs) || (more_than_staged && stage->known)) {
      verdict.must.insert(Code::failed_precondition);
    }
    if (!stage->known && !is_found_ready(volume, *stage)) {
      verdict.may.insert(Code::failed_precondition);
    }
  }
  if (std::ranges::any_of(volume.staged, [&](const Staged& other) { return !other.known && !is_found_ready(volume, other); })) {
    verdict.may.insert(Code::failed_precondition);
  }
  const Published asked = published_by(volume, call);
  if (const Published* held = volume.publication_at(call.target); held != nullptr) {
    const auto arguments = [](const Published& p) { return std::tie(p.block, p.mode, p.fs, p.flag, p.staging, p.pod); };
    const bool same = arguments(*held) == arguments(asked);
    if (!held->known) {
      verdict.may.insert({Code::already_exists, Code::failed_precondition});
    } else if (!same || held->read_only != asked.read_only) {
      verdict.must.insert(Code::already_exists);
    } else {
      // With readonly said another way the effect is the same.
      if (held->asked_readonly != asked.asked_readonly) {
        verdict.may.insert(Code::already_exists);
      }
      // Its staging was unmounted: still the same publication, but no more than what is left of it.
      if (held->present && !held->stale) {
        verdict.may.insert(verdict.must.begin(), verdict.must.end());
        verdict.must.clear();
      }
    }
    if (held->stale) {
      verdict.may.insert(Code::failed_precondition);
    }
  }
  for (const Published& held : volume.published) {
    if (held.target == call.target) {
      continue;
    }
    const bool both_ways = held.block && call.block && held.read_only != asked.read_only;
    if (is_exclusive(held.mode) || is_exclusive(call.mode) || both_ways) {
      verdict.must.insert(Code::failed_precondition);
    }
    if (!held.known) {
      verdict.may.insert(Code::failed_precondition);
    }
  }
  judge_path(verdict, call, call.block, true);
  return verdict.codes();
}

bool has_pending_growth(const Volume& volume, std::int64_t size) {
  return volume.fs_size < size && any_place(volume, [](const auto& /*place*/) { return true; });
}

/// A mount that was found with the ledger lost.
bool has_unknown_place(const Volume& volume) {
  return any_place(volume, [](const auto& place) { return !place.known; });
}

Codes expected_expand(const Volume& volume, const Call& call, const Environment& environment) {
  if (!is_known(volume, call)) {
    return {Code::not_found};
  }
  Verdict verdict;
  if (volume.damaged) {
    verdict.may.insert(Code::failed_precondition);
  }
  const std::int64_t size = std::max(volume.size, round_up(call.size));
  if (call.limit > 0 && size > call.limit) {
    verdict.must.insert(Code::out_of_range);
  } else if (size > volume.size && size > environment.pool_size) {
    verdict.must.insert(Code::resource_exhausted);
  }
  if (size > volume.size && size < 256 * mib && volume.holds == "btrfs") {  // the kernel grows it to no less
    (volume.content == Volume::Content::formatted && !volume.damaged ? verdict.must : verdict.may).insert(Code::out_of_range);
  }
  if (call.verb == Verb::expand) {
    return verdict.codes();
  }
  const Staged* stage = volume.stage_at(call.staging);
  const Published* publication = volume.publication_at(call.staging);
  const bool known = (stage != nullptr && stage->known) || (publication != nullptr && publication->known);
  if (!known) {
    ((stage != nullptr || publication != nullptr) ? verdict.may : verdict.must).insert(Code::not_found);
  }
  const bool present = (stage == nullptr || stage->present) && (publication == nullptr || publication->present);
  if (!present || volume.device_gone) {
    verdict.may.insert({Code::not_found, Code::failed_precondition});
  }
  if (verdict.must.empty() && has_pending_growth(volume, size)) {
    const bool writable = any_place(volume, [](const auto& place) { return !place.read_only && place.known && place.present; });
    if (!writable || (volume.holds == "ext4" && !environment.grows_mounted_ext4)) {
      (known && present && !has_unknown_place(volume) ? verdict.must : verdict.may).insert(Code::failed_precondition);
    }
  }
  return verdict.codes();
}

Codes expected_stats(const Volume& volume, const Call& call) {
  if (!is_known(volume, call)) {
    return {Code::not_found};
  }
  Verdict verdict;
  const Staged* stage = volume.stage_at(call.staging);
  const Published* publication = volume.publication_at(call.staging);
  if (stage == nullptr && publication == nullptr) {
    verdict.must.insert(Code::not_found);
  } else if (volume.device_gone || (stage != nullptr && (!stage->known || !stage->present)) ||
             (publication != nullptr && (!publication->known || !publication->present || publication->stale))) {
    verdict.may.insert({Code::not_found, Code::failed_precondition});
  }
  if (volume.damaged) {
    verdict.may.insert(Code::failed_precondition);
  }
  return verdict.codes();
}

std::vector<Volume> after_create(Volume volume, const Call& call, const Answer& answer) {
  if (answer.code != Code::ok && answer.code != Code::none) {
    return {volume};
  }
  if (volume.exists) {
    const bool same = volume.id.empty() || answer.id.empty() || volume.id == answer.id;
    volume.id = volume.id.empty() ? answer.id : volume.id;
    return same && (answer.code == Code::none || volume.damaged || answer.size == volume.size) ? std::vector{volume}
                                                                                               : std::vector<Volume>{};
  }
  if (answer.code == Code::ok && (answer.id.empty() || answer.id == volume.id || answer.size != round_up(call.size))) {
    return {};
  }
  Volume made;
  made.exists = true;
  made.id = answer.id;
  made.block = call.block;
  made.both = call.both;
  made.allow = call.allow;
  made.created_fs = call.fs;
  made.fs = call.fs.empty() ? "ext4" : call.fs;
  made.size = made.created_size = round_up(call.size);
  return {made};
}

std::vector<Volume> after_stage(Volume volume, const Call& call, Code code, const Environment& environment) {
  if (code == Code::not_found || code == Code::already_exists) {
    return {volume};
  }
  Staged asked = staged_by(volume, call);
  if (const Staged* held = volume.stage_at(call.staging); held != nullptr) {
    asked.vague = held->vague || !held->known;
    asked.read_only = held->present && !held->block ? held->read_only : asked.read_only;
  }
  Volume marked = volume;  // what is written down before the act
  if (call.block) {
    marked.content = Volume::Content::raw;
  } else if (volume.content == Volume::Content::blank || (may_be_made_again(volume) && asked.fs != volume.holds)) {
    marked.content = Volume::Content::formatted;
    marked.fs = marked.holds = asked.fs;
    marked.fs_size = volume.size;
  }
  if (code != Code::ok && code != Code::none) {
    volume.refused = marked.refused = true;
    return {volume, marked};
  }
  const bool alive = any_place(marked, [](const auto& place) { return place.present; });
  if (!call.block && (marked.holds != "ext4" || environment.grows_mounted_ext4 ? !asked.read_only : !alive)) {
    marked.fs_size = marked.size;
  }
  std::erase_if(marked.staged, [&](const Staged& stage) { return stage.path == call.staging; });
  marked.staged.push_back(asked);
  marked.had = marked.had || !call.block;
  marked.loose_loop = false;
  if (marked.device_gone) {
    marked.device_gone = false;
    // The new device may have another number, and then the old nodes lead nowhere.
    for (Published& publication : marked.published) {
      publication.stale = true;
    }
  }
  return {marked};
}

std::vector<Volume> after_unstage(Volume volume, const Call& call) {
  if (!is_known(volume, call)) {
    return {volume};
  }
  std::erase_if(volume.staged, [&](const Staged& stage) { return stage.path == call.staging; });
  std::vector<Volume> result;
  // A block volume without its ledger is a loop device only: nobody can tell that somebody has it.
  const bool unseen = std::ranges::any_of(volume.staged, [](const Staged& stage) { return stage.block && !stage.known; }) ||
                      std::ranges::any_of(volume.published, [](const Published& p) { return p.block && !p.known; });
  if (volume.idle()) {
    volume.device_gone = volume.loose_loop = false;
  } else if (unseen) {
    result.push_back(volume);
    result.back().device_gone = true;
  }
  result.push_back(volume);
  return result;
}

std::vector<Volume> after_publish(Volume volume, const Call& call, Code code) {
  if (code != Code::ok && code != Code::none) {
    return {volume};
  }
  if (auto* stage = const_cast<Staged*>(staged_for(volume, call)); stage != nullptr && !stage->known) {
    stage->path = call.staging;
    stage->known = stage->vague = true;
    stage->mode = call.mode;
    stage->read_only = stage->read_only && !stage->block;  // a device tells nothing of how it was staged
  }
  if (volume.idle()) {  // a loop that nobody knew of
    volume.content = Volume::Content::raw;
    volume.staged.push_back({.path = call.staging, .block = true, .mode = call.mode, .vague = true});
  }
  const Published asked = published_by(volume, call);
  std::erase_if(volume.published, [&](const Published& publication) { return publication.target == call.target; });
  volume.published.push_back(asked);
  return {volume};
}

std::vector<Volume> after_expand(Volume volume, const Call& call, const Answer& answer) {
  Volume grown = volume;
  grown.size = std::max(volume.size, round_up(call.size));
  if (answer.code == Code::ok || answer.code == Code::none) {
    if (call.verb == Verb::node_expand && has_pending_growth(grown, grown.size)) {
      grown.fs_size = grown.size;
    }
    const bool right = answer.code == Code::none || answer.size == grown.size || volume.damaged;
    if (right && has_unknown_place(volume) && call.verb == Verb::node_expand) {  // nobody could tell that a filesystem is there to be grown
      Volume device_only = grown;
      device_only.fs_size = volume.fs_size;
      return {grown, device_only};
    }
    return right ? std::vector{grown} : std::vector<Volume>{};
  }
  // The volume grows first, then the filesystem.
  const bool may_have_grown = answer.code == Code::failed_precondition && call.verb == Verb::node_expand;
  return may_have_grown && grown != volume ? std::vector{volume, grown} : std::vector{volume};
}

/// Whether the volume's capability is confirmed; nothing where the rules leave it open.
std::optional<bool> confirmed(const Volume& volume, const Call& call) {
  if (is_multi_node_writer(call.mode) && !volume.allow) {
    return false;
  }
  if (volume.damaged || volume.content == Volume::Content::raw || (!call.block && may_be_made_again(volume))) {
    return std::nullopt;
  }
  return call.block || !content_refuses(volume, fs_of(volume, call), false);
}

bool health_fits(const Volume& volume, const Answer& answer, bool node) {
  std::set<std::string> may;
  if (volume.damaged) {
    return true;
  }
  if (node) {
    if (volume.refused) {
      may.insert("StageRefused");
    }
    if (volume.device_gone) {
      may.insert({"DeviceGone", "MountGone"});
    }
    if (volume.fs_size < volume.size) {  // a growth of it may have failed, whether it is staged now or not
      may.insert("GrowthPending");
    }
    const bool gone = std::ranges::any_of(volume.staged, [](const Staged& s) { return !s.present; }) ||
                      std::ranges::any_of(volume.published, [](const Published& p) { return !p.present || p.stale; });
    if (gone) {
      may.insert({"DeviceGone", "MountGone"});
    }
  }
  return std::ranges::includes(may, answer.reasons);
}

}  // namespace

Staged* Volume::stage_at(const std::string& path) {
  const auto found = std::ranges::find(staged, path, &Staged::path);
  return found == staged.end() ? nullptr : &*found;
}

Published* Volume::publication_at(const std::string& target) {
  const auto found = std::ranges::find(published, target, &Published::target);
  return found == published.end() ? nullptr : &*found;
}

std::int64_t smallest(const std::string& fs) { return fs == "xfs" ? 300 * mib : fs == "btrfs" ? 109 * mib : fs == "ext4" ? 8 * mib : 0; }

Codes expected(const Volume& volume, const Call& call, const Environment& environment) {
  if (volume.deleting) {
    Codes codes = expected(gone(volume), call, environment);
    codes.insert(Code::failed_precondition);
    if (is_look(call)) {
      codes.insert(Code::ok);
    }
    return codes;
  }
  switch (call.verb) {
    case Verb::create:
      return expected_create(volume, call, environment);
    case Verb::remove:
      return expected_remove(volume, call);
    case Verb::stage:
      return expected_stage(volume, call);
    case Verb::unstage:
      return expected_unstage(volume, call);
    case Verb::publish:
      return expected_publish(volume, call);
    case Verb::expand:
    case Verb::node_expand:
      return expected_expand(volume, call, environment);
    case Verb::stats:
      return expected_stats(volume, call);
    case Verb::validate:
      if (is_known(volume, call) && volume.damaged) {
        return {Code::ok, Code::failed_precondition};
      }
      [[fallthrough]];
    case Verb::get:
    case Verb::health:
    case Verb::node_health:
      return {is_known(volume, call) ? Code::ok : Code::not_found};
    case Verb::unpublish:
    case Verb::list:
    case Verb::capacity:
    case Verb::list_health:
    case Verb::storage_health:
      return {Code::ok};
  }
  return {};
}

std::vector<Volume> after(const Volume& volume, const Call& call, const Answer& answer, const Environment& environment) {
  if (volume.deleting) {
    if (is_look(call)) {  // it may see the record still, and no image any more
      return expected(volume, call, environment).contains(answer.code) ? std::vector{volume} : std::vector<Volume>{};
    }
    std::vector<Volume> result = after(gone(volume), call, answer, environment);
    const bool of_all = call.verb == Verb::list || call.verb == Verb::list_health;
    if (answer.code == Code::failed_precondition || answer.code == Code::none || of_all) {
      result.push_back(volume);
    }
    return result;
  }
  if (answer.code == Code::none) {
    // Not done, or done as far as it could be.
    std::vector<Volume> result{volume};
    if (expected(volume, call, environment).contains(Code::ok)) {
      Answer done = answer;
      switch (call.verb) {
        case Verb::create:
          std::ranges::copy(after_create(volume, call, done), std::back_inserter(result));
          break;
        case Verb::remove:
        case Verb::stage:
        case Verb::unstage:
        case Verb::publish:
        case Verb::unpublish:
        case Verb::expand:
        case Verb::node_expand:
          done.code = Code::ok;
          done.size = std::max(volume.size, round_up(call.size));
          std::ranges::copy(after(volume, call, done, environment), std::back_inserter(result));
          break;
        default:
          break;
      }
    }
    if (call.verb == Verb::publish) {  // what it told of the staging is kept, and it is not there
      for (std::size_t i = 1, done = result.size(); i < done; ++i) {
        Volume told = result[i];
        std::erase_if(told.published, [&](const Published& publication) { return publication.target == call.target; });
        result.push_back(std::move(told));
      }
    }
    // Its first half: the format, the growth of the device.
    if (call.verb == Verb::stage && is_known(volume, call)) {
      std::ranges::copy(after_stage(volume, call, Code::failed_precondition, environment), std::back_inserter(result));
    } else if (call.verb == Verb::node_expand && is_known(volume, call)) {
      std::ranges::copy(after_expand(volume, call, {.code = Code::failed_precondition}), std::back_inserter(result));
    }
    if (call.verb == Verb::remove && result.size() > 1) {
      result.push_back(volume);
      result.back().deleting = true;
    }
    for (Volume& undone : result) {
      undone.loose_loop = undone.loose_loop || call.verb == Verb::stage || call.verb == Verb::unstage;
    }
    return result;
  }
  if (!expected(volume, call, environment).contains(answer.code)) {
    return {};
  }
  switch (call.verb) {
    case Verb::create:
      return after_create(volume, call, answer);
    case Verb::remove:
      if (answer.code == Code::ok && is_known(volume, call)) {
        return {gone(volume)};
      }
      return {volume};
    case Verb::stage:
      return after_stage(volume, call, answer.code, environment);
    case Verb::unstage:
      return answer.code == Code::ok ? after_unstage(volume, call) : std::vector{volume};
    case Verb::publish:
      return after_publish(volume, call, answer.code);
    case Verb::unpublish: {
      Volume freed = volume;
      if (is_known(volume, call)) {
        std::erase_if(freed.published, [&](const Published& publication) { return publication.target == call.target; });
      }
      return {freed};
    }
    case Verb::expand:
    case Verb::node_expand:
      return after_expand(volume, call, answer);
    case Verb::get:
      if (answer.code == Code::ok && !volume.damaged && answer.size != volume.size) {
        return {};
      }
      return {volume};
    case Verb::validate:
      if (const auto right = confirmed(volume, call); answer.code == Code::ok && right && *right != answer.confirmed) {
        return {};
      }
      return {volume};
    case Verb::health:
    case Verb::node_health:
      return answer.code == Code::ok && !health_fits(volume, answer, call.verb == Verb::node_health) ? std::vector<Volume>{}
                                                                                                     : std::vector{volume};
    default:
      return {volume};
  }
}

std::vector<Volume> with_drops(const Volume& volume) {
  std::vector<Volume> result{volume};
  for (std::size_t i = 0; i < result.size(); ++i) {
    const Volume from = result[i];
    const auto add = [&](const Volume& dropped) {
      if (std::ranges::find(result, dropped) == result.end()) {
        result.push_back(dropped);
      }
    };
    for (std::size_t n = 0; n < from.published.size(); ++n) {
      if (!from.published[n].present) {
        Volume dropped = from;
        dropped.published.erase(dropped.published.begin() + static_cast<std::ptrdiff_t>(n));
        dropped.loose_loop = true;
        add(dropped);
      }
    }
    for (std::size_t n = 0; n < from.staged.size(); ++n) {
      if (!from.staged[n].present) {
        Volume dropped = from;
        dropped.staged.erase(dropped.staged.begin() + static_cast<std::ptrdiff_t>(n));
        dropped.loose_loop = true;
        add(dropped);
      }
    }
  }
  return result;
}

void restarted(Volume& volume) {
  const auto gone = [](const auto& entry) { return !entry.present; };
  const auto erased = std::erase_if(volume.staged, gone) + std::erase_if(volume.published, gone);
  volume.loose_loop = volume.loose_loop || erased > 0;
}

void rebooted(Volume& volume) {
  volume.staged.clear();
  volume.published.clear();
  volume.device_gone = volume.loose_loop = volume.refused = volume.node_left = false;
}

void ledger_lost(Volume& volume) {
  const auto forget = [](auto& entries) {
    std::erase_if(entries, [](const auto& entry) { return !entry.present; });
    for (auto& entry : entries) {
      entry.known = false;
    }
  };
  volume.loose_loop = volume.loose_loop || !volume.idle();
  // Of a node without a device nobody can tell any more whose it was, or only by its number.
  const auto nodes =
      std::erase_if(volume.published, [&](const Published& held) { return held.stale || (held.block && volume.device_gone); });
  volume.node_left = volume.node_left || nodes > 0;
  forget(volume.staged);
  forget(volume.published);
}

std::string disagreement(Volume& volume, const Facts& facts, const std::set<std::string>& stale) {
  if (volume.deleting) {
    volume = gone(volume);  // it is looked at when the next agent has finished what was cut off
  }
  if (!volume.exists) {
    if (!volume.id.empty()) {
      const std::string& id = volume.id;
      for (const auto& [path, mount] : facts.mounts) {
        if (mount.id == id && !stale.contains(path)) {
          return "deleted, but mounted at " + path;
        }
      }
      if (facts.images.contains(id) || facts.loops.contains(id) || facts.records.contains(id) || facts.ledger.contains(id)) {
        return "deleted, but something of it is left: image " + std::to_string(facts.images.contains(id)) + ", loop " +
               std::to_string(facts.loops.contains(id)) + ", record " + std::to_string(facts.records.contains(id)) + ", ledger " +
               std::to_string(facts.ledger.contains(id));
      }
    }
    return {};
  }
  const std::string& id = volume.id;
  if (const auto image = facts.images.find(id); image == facts.images.end() || image->second < volume.size) {
    return "its image has " +
           (image == facts.images.end() ? "gone" : std::to_string(image->second) + " bytes, fewer than " + std::to_string(volume.size));
  }
  if (!facts.records.contains(id)) {
    return "its record is gone";
  }
  std::set<std::string> places;
  const auto look_at = [&](const std::string& path, bool block, bool read_only, bool present) -> std::string {
    const auto found = facts.mounts.find(path);
    const bool there = found != facts.mounts.end() && found->second.id == id;
    if (there != present) {
      return present ? "it should be mounted at " + path + ", and is not" : "it should not be mounted at " + path + ", and is";
    }
    if (!present) {
      return {};
    }
    places.insert(path);
    if (found->second.block != block || found->second.depth != 1) {
      return "at " + path + " is " + std::to_string(found->second.depth) + " mount(s)" + (found->second.block ? ", block" : "");
    }
    return found->second.read_only != read_only ? "at " + path + " it is " + (read_only ? "writable" : "read-only") : "";
  };
  for (const Staged& stage : volume.staged) {
    if (!stage.block) {
      if (const std::string why = look_at(stage.path, false, stage.read_only, stage.present); !why.empty()) {
        return why;
      }
    }
  }
  for (const Published& publication : volume.published) {
    if (publication.stale || (volume.device_gone && publication.present)) {
      if (!facts.mounts.contains(publication.target)) {
        return "nothing is mounted at " + publication.target;
      }
      places.insert(publication.target);
      continue;
    }
    if (const std::string why = look_at(publication.target, publication.block, publication.read_only, publication.present); !why.empty()) {
      return why;
    }
  }
  for (const auto& [path, mount] : facts.mounts) {
    if (mount.id == id && !places.contains(path) && !stale.contains(path)) {
      return "it is mounted at " + path + ", where nobody asked for it";
    }
  }
  const int loops = facts.loops.contains(id) ? facts.loops.at(id) : 0;
  const bool wanted = std::ranges::any_of(volume.staged, [](const Staged& s) { return s.known || s.present; }) ||
                      std::ranges::any_of(volume.published, [](const Published& p) { return p.known || p.present; });
  const bool seen = std::ranges::any_of(
                        volume.staged, [&](const Staged& s) { return is_found_ready(volume, s) || (s.known && (s.block || s.present)); }) ||
                    std::ranges::any_of(volume.published, [](const Published& p) { return p.known && p.present; });
  if (loops > 1 || (loops == 1 && (volume.device_gone || !wanted) && !volume.loose_loop) || (loops == 0 && seen && !volume.device_gone)) {
    return "it has " + std::to_string(loops) + " loop devices";
  }
  if (facts.sees_filesystems && volume.content != Volume::Content::raw &&
      facts.uuids.contains(id) != (volume.content == Volume::Content::formatted)) {
    return "a filesystem is on it, or none is";
  }
  if (const auto uuid = facts.uuids.find(id); uuid != facts.uuids.end() && volume.content == Volume::Content::formatted) {
    if (volume.uuid.empty()) {
      volume.uuid = volume.had ? uuid->second : "";
    } else if (volume.uuid != uuid->second) {
      return "its filesystem was " + volume.uuid + " and is " + uuid->second + ": it was formatted again";
    }
  }
  return {};
}

std::string to_string(const Volume& volume) {
  static constexpr const char* contents[] = {"blank", "formatted", "raw"};
  if (!volume.exists) {
    return "none";
  }
  std::string text = (volume.id.empty() ? "id unknown" : volume.id) + " " + std::to_string(volume.size) + " bytes, " +
                     contents[static_cast<int>(volume.content)] + " " + volume.holds + " (default " + volume.fs + ")" +
                     (volume.fs_size < volume.size ? " (smaller)" : "") + (volume.allow ? ", multiNodeModes" : "") +
                     (volume.damaged ? ", record damaged" : "") + (volume.device_gone ? ", device gone" : "") +
                     (volume.loose_loop ? ", loose loop" : "") + (volume.node_left ? ", an old node left" : "") +
                     (volume.deleting ? ", being deleted" : "");
  const auto state = [](const auto& entry) {
    return std::string{entry.read_only ? " ro" : ""} + (entry.known ? "" : " (not in the ledger)") +
           (entry.present ? "" : " (not mounted)");
  };
  for (const Staged& stage : volume.staged) {
    text += "; staged " + stage.path + (stage.block ? " block" : " " + stage.fs) + " mode " + std::to_string(stage.mode) + " " +
            stage.flag + state(stage);
  }
  for (const Published& publication : volume.published) {
    text += "; published " + publication.target + " from " + publication.staging + (publication.block ? " block" : "") + " mode " +
            std::to_string(publication.mode) + " " + publication.flag + " pod " + publication.pod + state(publication) +
            (publication.stale ? " (stale)" : "");
  }
  return text;
}

}  // namespace ordinald::testing
