#include "agent/ledger.hpp"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "agent/checksum.hpp"
#include "agent/durable_file.hpp"
#include "agent/holder_json.hpp"

namespace ordinald::mount {
// Seen by nlohmann through argument-dependent lookup.
using nlohmann::json;

static void to_json(json& j, const Device& d) {
  j["path"] = d.path;
  j["number"] = d.number;
  j["diskseq"] = d.diskseq;
  j["backingDevice"] = d.backing_device;
  j["backingInode"] = d.backing_inode;
  j["size"] = d.size;
  j["blockSize"] = d.block_size;
  j["readOnly"] = d.read_only;
}
static void from_json(const json& j, Device& d) {
  j.at("path").get_to(d.path);
  j.at("number").get_to(d.number);
  j.at("diskseq").get_to(d.diskseq);
  j.at("backingDevice").get_to(d.backing_device);
  j.at("backingInode").get_to(d.backing_inode);
  j.at("size").get_to(d.size);
  j.at("blockSize").get_to(d.block_size);
  j.at("readOnly").get_to(d.read_only);
}
}  // namespace ordinald::mount

namespace ordinald::agent {
namespace {

using nlohmann::json;

// Member by member: an initializer list copies each value twice, and this is on the path of publish and unpublish.
json to_value(const Stage& s) {
  json value;
  value["path"] = s.path;
  value["block"] = s.block;
  value["mode"] = static_cast<int>(s.mode);
  value["fsType"] = s.fs_type;
  value["flagsDigest"] = s.flags_digest;
  value["optionsDigest"] = s.options_digest;
  value["readOnly"] = s.read_only;
  value["since"] = s.since;
  return value;
}

json to_value(const Publication& p) {
  json value;
  value["target"] = p.target;
  value["stagingPath"] = p.staging_path;
  value["block"] = p.block;
  value["mode"] = static_cast<int>(p.mode);
  value["readOnly"] = p.read_only;
  value["flagsDigest"] = p.flags_digest;
  value["fsType"] = p.fs_type;
  if (p.group) {
    value["group"] = *p.group;
  }
  value["since"] = p.since;
  put_holder(value, p.holder);
  return value;
}

json to_value(const FoundMount& f) {
  return json{{"path", f.path}, {"block", f.block}, {"readOnly", f.read_only}, {"fsType", f.fs_type}, {"since", f.since}};
}

FoundMount to_found(const json& j) {
  FoundMount f;
  j.at("path").get_to(f.path);
  j.at("block").get_to(f.block);
  j.at("readOnly").get_to(f.read_only);
  j.at("fsType").get_to(f.fs_type);
  j.at("since").get_to(f.since);
  return f;
}

AccessMode to_mode(const json& value) {
  const int mode = value.get<int>();
  // A number that is no mode counts as the one that allows least.
  return mode >= 1 && mode <= 7 ? static_cast<AccessMode>(mode) : AccessMode::single_node_single_writer;
}

Stage to_stage(const json& j) {
  Stage s;
  j.at("path").get_to(s.path);
  j.at("block").get_to(s.block);
  s.mode = to_mode(j.at("mode"));
  j.at("fsType").get_to(s.fs_type);
  j.at("flagsDigest").get_to(s.flags_digest);
  j.at("optionsDigest").get_to(s.options_digest);
  j.at("readOnly").get_to(s.read_only);
  j.at("since").get_to(s.since);
  return s;
}

Publication to_publication(const json& j) {
  Publication p;
  j.at("target").get_to(p.target);
  j.at("stagingPath").get_to(p.staging_path);
  j.at("block").get_to(p.block);
  p.mode = to_mode(j.at("mode"));
  j.at("readOnly").get_to(p.read_only);
  j.at("flagsDigest").get_to(p.flags_digest);
  j.at("fsType").get_to(p.fs_type);
  if (j.contains("group")) {
    p.group = j.at("group").get<std::int64_t>();
  }
  get_holder(j, p.holder);
  j.at("since").get_to(p.since);
  return p;
}

/// No flags have the empty digest under every key.
void forget_digests(VolumeState& state) {
  const auto forget = [](std::string& digest) { digest = digest.empty() ? std::string{} : std::string{unknown_digest}; };
  for (Stage& stage : state.stages) {
    forget(stage.flags_digest);
    forget(stage.options_digest);
  }
  forget(state.alive_options);
  for (Publication& publication : state.publications) {
    forget(publication.flags_digest);
  }
}

}  // namespace

const Stage* VolumeState::stage_at(std::string_view path) const {
  for (const Stage& stage : stages) {
    if (stage.path == path) {
      return &stage;
    }
  }
  return nullptr;
}

const Publication* VolumeState::publication_at(std::string_view target) const {
  for (const Publication& publication : publications) {
    if (publication.target == target) {
      return &publication;
    }
  }
  return nullptr;
}

bool VolumeState::is_block_at(std::string_view path) const {
  const Stage* stage = stage_at(path);
  const Publication* publication = publication_at(path);
  const FoundMount* found_here = found_at(path);
  return publication != nullptr ? publication->block : stage != nullptr ? stage->block : found_here != nullptr ? found_here->block : false;
}

const FoundMount* VolumeState::found_at(std::string_view path) const {
  const auto at = std::ranges::find(found, path, &FoundMount::path);
  return at == found.end() ? nullptr : &*at;
}

void VolumeState::forget_found(std::string_view path) {
  std::erase_if(found, [&](const FoundMount& each) { return each.path == path; });
}

mount::Expected VolumeState::expected_mount() const {
  return mount::Expected{.number = device ? device->number : 0, .fs_type = fs_type, .uuid = fs_uuid};
}

mount::Expected VolumeState::expected_block() const {
  return mount::Expected{.number = device ? device->number : 0, .fs_type = {}, .uuid = {}};
}

std::string to_json(const VolumeState& state, std::string_view boot_id, std::string_view key_id) {
  json file;
  file["schema"] = 1;
  file["bootId"] = boot_id;
  file["fsType"] = state.fs_type;
  file["fsUuid"] = state.fs_uuid;
  file["refusal"] = state.refusal;
  file["device"] = nullptr;
  file["stages"] = json::array();
  file["publications"] = json::array();
  if (!key_id.empty()) {
    file["keyId"] = key_id;
  }
  if (state.device) {
    file["device"] = *state.device;
  }
  for (const Stage& stage : state.stages) {
    file["stages"].push_back(to_value(stage));
  }
  for (const Publication& publication : state.publications) {
    file["publications"].push_back(to_value(publication));
  }
  if (!state.found.empty()) {
    file["found"] = json::array();
    for (const FoundMount& found : state.found) {
      file["found"].push_back(to_value(found));
    }
  }
  if (!state.past.empty()) {
    file["past"] = state.past;
  }
  if (!state.no_growth.empty()) {
    file["noGrowth"] = state.no_growth;
  }
  if (!state.past_lost.empty()) {
    file["pastLost"] = state.past_lost;
  }
  if (!state.alive_options.empty()) {
    file["aliveOptions"] = state.alive_options;
  }
  // One line, and its checksum: a flipped bit in a path or a mode is good JSON all the same, and would let a second writer in.
  const std::string line = file.dump(-1, ' ', false, json::error_handler_t::replace);
  return line + "\n" + crc32_hex(line) + "\n";
}

Result<std::optional<VolumeState>> parse_state(std::string_view text, std::string_view boot_id, std::string_view key_id) {
  try {
    text = text.substr(0, text.find_last_not_of(' ') + 1);  // overwrite_file leaves blanks behind a shorter text
    const std::size_t end = std::min(text.find('\n'), text.size());
    if (text.substr(end) != "\n" + crc32_hex(text.substr(0, end)) + "\n") {
      return mount::make_error(mount::ErrorCode::failed_precondition, "its checksum does not fit: a part of it is damaged or missing");
    }
    const json file = json::parse(text.substr(0, end), nullptr, false);
    if (!file.is_object()) {
      return mount::make_error(mount::ErrorCode::failed_precondition, "it is not a JSON object");
    }
    if (file.at("schema").get<int>() != 1) {
      return mount::make_error(mount::ErrorCode::failed_precondition, "its schema is " + file.at("schema").dump());
    }
    if (file.at("bootId").get<std::string>() != boot_id) {
      return std::optional<VolumeState>{};
    }
    VolumeState state;
    file.at("fsType").get_to(state.fs_type);
    file.at("fsUuid").get_to(state.fs_uuid);
    file.at("refusal").get_to(state.refusal);
    if (!file.at("device").is_null()) {
      state.device = file.at("device").get<mount::Device>();
    }
    for (const json& stage : file.at("stages")) {
      state.stages.push_back(to_stage(stage));
    }
    for (const json& publication : file.at("publications")) {
      state.publications.push_back(to_publication(publication));
    }
    if (file.contains("past")) {
      file.at("past").get_to(state.past);
    }
    state.past_lost = file.value("pastLost", std::string{});
    state.no_growth = file.value("noGrowth", std::string{});
    state.alive_options = file.value("aliveOptions", std::string{});
    if (file.contains("found")) {
      for (const json& found : file.at("found")) {
        state.found.push_back(to_found(found));
      }
    }
    if (file.value("keyId", std::string{key_id}) != key_id) {
      forget_digests(state);
    }
    return std::optional{std::move(state)};
  } catch (const json::exception& error) {
    return mount::make_error(mount::ErrorCode::failed_precondition, error.what());
  }
}

Result<std::unique_ptr<Ledger>> Ledger::open(const std::string& run_dir, const std::string& boot_id, const std::string& key_id) {
  std::unique_ptr<Ledger> ledger{new Ledger{run_dir + "/ledger", boot_id, key_id}};
  std::error_code error;
  std::filesystem::create_directories(ledger->directory_, error);
  if (!error) {
    std::filesystem::permissions(ledger->directory_, std::filesystem::perms::owner_all, error);
  }
  if (error) {
    return mount::errno_error(error.value(), "making the ledger's directory " + ledger->directory_);
  }
  TRYV(ledger->load());
  return ledger;
}

Result<void> Ledger::load() {
  constexpr std::string_view ending = ".json";
  std::error_code error;
  std::vector<std::string> files;
  for (std::filesystem::directory_iterator it{directory_, error}, end; !error && it != end; it.increment(error)) {
    files.push_back(it->path().filename().string());
  }
  if (error) {
    return mount::errno_error(error.value(), "reading the ledger's directory " + directory_);
  }
  for (const std::string& file : files) {
    if (file.ends_with(temporary_ending)) {
      TRYV(remove_file(directory_, file, Durability::until_reboot));
    }
    if (!file.ends_with(ending)) {
      continue;
    }
    auto text = read_file(directory_ + "/" + file);
    auto state = text ? parse_state(text.value(), boot_id_, key_id_) : Result<std::optional<VolumeState>>{text.error()};
    if (!state) {
      const auto aside = set_aside(directory_, file);
      unreadable_.push_back(directory_ + "/" + file + " can't be read (" + state.error().message + ") and " +
                            (aside ? "is set aside as " + aside.value() : "can't be set aside: " + aside.error().message));
    } else if (!state.value()) {
      TRYV(remove_file(directory_, file, Durability::until_reboot));
    } else {
      const std::string id = file.substr(0, file.size() - ending.size());
      index(id, *state.value());
      states_[id] = std::move(*state.value());
    }
  }
  return mount::success();
}

void Ledger::index(const std::string& id, const VolumeState& state) {
  const auto for_each_path = [](const VolumeState& of, const auto& visit) {
    std::ranges::for_each(of.found, [&](const FoundMount& found) { visit(found.path, false); });
    std::ranges::for_each(of.stages, [&](const Stage& stage) { visit(stage.path, true); });
    std::ranges::for_each(of.publications, [&](const Publication& publication) { visit(publication.target, true); });
  };
  if (const auto old = states_.find(id); old != states_.end()) {
    for_each_path(old->second, [&](const std::string& path, bool /*asked*/) { owners_.erase({path, id}); });
  }
  for_each_path(state, [&](const std::string& path, bool asked) { owners_[{path, id}] = asked; });
}

VolumeState Ledger::state(const std::string& id) const {
  const std::scoped_lock lock{mutex_};
  const auto found = states_.find(id);
  return found == states_.end() ? VolumeState{} : found->second;
}

std::map<std::string, VolumeState> Ledger::all() const {
  const std::scoped_lock lock{mutex_};
  return states_;
}

bool Ledger::owns(const std::string& id, const std::string& path) const {
  const std::scoped_lock lock{mutex_};
  return owners_.contains({path, id});
}

std::string Ledger::owner_of(const std::string& path, const std::string& besides, Owns owns) const {
  const std::scoped_lock lock{mutex_};
  for (auto owner = owners_.lower_bound({path, {}}); owner != owners_.end() && owner->first.first == path; ++owner) {
    if (owner->first.second != besides && (owner->second || owns == Owns::also_found)) {
      return owner->first.second;
    }
  }
  return {};
}

Result<void> Ledger::write(const std::string& id, const VolumeState& state) const {
  const std::string file = id + ".json";
  const std::string text = to_json(state, boot_id_, key_id_);
  auto written = state.empty() ? remove_file(directory_, file, Durability::until_reboot)
                               : write_file(directory_, file, text, Durability::until_reboot);
  if (!written && written.error().code == mount::ErrorCode::resource_exhausted && overwrite_file(directory_, file, text)) {
    written = mount::success();  // what is let go takes less room than it had: a full run directory must not keep it
  }
  if (!written) {
    return written.error().with_context("volume " + id + ": its entry in the ledger");
  }
  return mount::success();
}

void Ledger::set(const std::string& id, const VolumeState& state) {
  const std::scoped_lock lock{mutex_};
  index(id, state);
  if (state.empty()) {
    states_.erase(id);
  } else {
    states_[id] = state;
  }
}

Result<void> Ledger::save(const std::string& id, const VolumeState& state) {
  TRYV(write(id, state));
  set(id, state);
  return mount::success();
}

Result<void> Ledger::keep(const std::string& id, const VolumeState& state) {
  set(id, state);
  return write(id, state);
}

}  // namespace ordinald::agent
