#include "agent/record_store.hpp"

#include <algorithm>
#include <filesystem>

#include "agent/durable_file.hpp"
#include "mount/files.hpp"

namespace ordinald::agent {
namespace {

constexpr std::string_view record_ending = ".json";
constexpr std::string_view damaged_ending = ".json.damaged";

std::string stem(const std::string& file, std::string_view ending) { return file.substr(0, file.size() - ending.size()); }

/// Whether nothing is to be had from the text: no record of any agent, and not one of a newer agent, which must be kept.
bool is_lost(const Result<std::string>& text) { return !text || (!parse_record(text.value()) && !has_other_schema(text.value())); }

}  // namespace

Result<std::unique_ptr<RecordStore>> RecordStore::open(const std::string& state_dir) {
  std::unique_ptr<RecordStore> store{new RecordStore{state_dir + "/volumes"}};
  if (auto made = mount::make_directories(store->directory_, 0700); !made) {
    return made.error().with_context("the directory of the volumes' records");
  }
  std::error_code error;
  std::filesystem::permissions(store->directory_, std::filesystem::perms::owner_all, error);
  if (error) {
    return mount::errno_error(error.value(), "making the directory of the volumes' records the agent's only, " + store->directory_);
  }
  TRYV(store->load());
  return store;
}

Result<void> RecordStore::load() {
  std::error_code error;
  std::vector<std::string> files;
  for (std::filesystem::directory_iterator it{directory_, error}, end; !error && it != end; it.increment(error)) {
    files.push_back(it->path().filename().string());
  }
  if (error) {
    return mount::errno_error(error.value(), "reading the directory of the volumes' records, " + directory_);
  }
  std::ranges::sort(files);
  for (const std::string& file : files) {
    if (file.ends_with(damaged_ending)) {
      damaged_.emplace(
          stem(file, damaged_ending),
          Damaged{.file = directory_ + "/" + file, .why = "it was set aside earlier", .lost = is_lost(read_file(directory_ + "/" + file))});
    } else if (file.ends_with(temporary_ending)) {
      // Never renamed: whoever wrote it was not told that it is durable.
      TRYV(remove_file(directory_, file, Durability::until_reboot));
    } else if (file.ends_with(record_ending)) {
      const std::string id = stem(file, record_ending);
      auto text = read_file(directory_ + "/" + file);
      auto record = text ? parse_record(text.value()) : Result<VolumeRecord>{text.error()};
      if (!record) {
        set_aside(file, id, record.error().message, is_lost(text));
      } else if (record.value().id != id) {
        set_aside(file, id, "it is the record of volume " + record.value().id, false);
      } else if (id_by_name_.contains(record.value().name)) {
        set_aside(file, id, "its name " + record.value().name + " is also volume " + id_by_name_[record.value().name] + "'s", false);
      } else {
        id_by_name_[record.value().name] = id;
        records_[id] = std::make_shared<const VolumeRecord>(std::move(record.value()));
      }
    }
  }
  // A good record beside one that was set aside: a person has put it back.
  std::erase_if(damaged_, [&](const auto& entry) { return records_.contains(entry.first); });
  // An agent that was killed between a rename and its fsync has left what is there for us, and not yet after a power loss: a call that
  // finds its work done by that record must not be told so before it stays done.
  return sync_directory(directory_);
}

void RecordStore::set_aside(const std::string& file, const std::string& id, const std::string& why, bool lost) {
  const std::string from = directory_ + "/" + file;
  const std::string to = directory_ + "/" + id + std::string{damaged_ending};
  std::error_code error;
  std::filesystem::rename(from, to, error);
  damaged_[id] = Damaged{.file = error ? from : to, .why = why, .lost = lost};
}

std::shared_ptr<const VolumeRecord> RecordStore::find(const std::string& id) const {
  const std::scoped_lock lock{mutex_};
  const auto found = records_.find(id);
  return found == records_.end() ? nullptr : found->second;
}

std::shared_ptr<const VolumeRecord> RecordStore::find_by_name(const std::string& name) const {
  const std::scoped_lock lock{mutex_};
  const auto found = id_by_name_.find(name);
  return found == id_by_name_.end() ? nullptr : records_.at(found->second);
}

std::optional<RecordStore::Damaged> RecordStore::find_damaged(const std::string& id) const {
  const std::scoped_lock lock{mutex_};
  const auto found = damaged_.find(id);
  return found == damaged_.end() ? std::nullopt : std::optional{found->second};
}

std::optional<std::pair<std::string, RecordStore::Damaged>> RecordStore::find_damaged_named(const std::string& name) const {
  const std::scoped_lock lock{mutex_};
  const auto found = std::ranges::find_if(damaged_, [&](const auto& entry) { return is_id_for(entry.first, name); });
  return found == damaged_.end() ? std::nullopt : std::optional<std::pair<std::string, Damaged>>{*found};
}

std::vector<std::shared_ptr<const VolumeRecord>> RecordStore::all() const {
  const std::scoped_lock lock{mutex_};
  std::vector<std::shared_ptr<const VolumeRecord>> result;
  result.reserve(records_.size());
  for (const auto& [id, record] : records_) {
    result.push_back(record);
  }
  return result;
}

std::map<std::string, RecordStore::Damaged> RecordStore::damaged() const {
  const std::scoped_lock lock{mutex_};
  return damaged_;
}

Result<void> RecordStore::save(const VolumeRecord& record) {
  auto written = write_file(directory_, record.id + std::string{record_ending}, to_json(record), Durability::power_loss);
  if (!written) {
    return written.error().with_context("volume " + record.id + ": its record");
  }
  const std::scoped_lock lock{mutex_};
  records_[record.id] = std::make_shared<const VolumeRecord>(record);
  id_by_name_[record.name] = record.id;
  damaged_.erase(record.id);
  return mount::success();
}

Result<void> RecordStore::remove(const std::string& id) {
  // One that was set aside before this one was made anew goes first, and one fsync makes both last.
  auto removed = remove_file(directory_, id + std::string{damaged_ending}, Durability::until_reboot);
  if (removed) {
    removed = remove_file(directory_, id + std::string{record_ending}, Durability::power_loss);
  }
  if (!removed) {
    return removed.error().with_context("volume " + id + ": its record");
  }
  const std::scoped_lock lock{mutex_};
  const auto found = records_.find(id);
  if (found != records_.end()) {
    id_by_name_.erase(found->second->name);
    records_.erase(found);
  }
  return mount::success();
}

}  // namespace ordinald::agent
