#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/volume_record.hpp"

namespace ordinald::agent {

/// Every volume's record: in memory, and durable under `<state dir>/volumes/<id>.json`.
///
/// A file that can't be read as a record is set aside as `<id>.json.damaged`, its volume is listed as damaged, and the others are served.
/// Thread safe; a record is changed only under its volume's lock (volume_locks.hpp), by whoever holds it.
class RecordStore {
 public:
  struct Damaged {
    std::string file;  ///< absolute path, where it lies now
    std::string why;
    bool lost = false;  ///< it says nothing any more; else a person has to decide (a newer agent's record, another volume's)
  };

  /// Makes the directory (0700) where it is missing, and reads all. internal: the directory can't be read or written.
  static Result<std::unique_ptr<RecordStore>> open(const std::string& state_dir);

  /// nullptr: no such volume (or a damaged one).
  [[nodiscard]] std::shared_ptr<const VolumeRecord> find(const std::string& id) const;
  [[nodiscard]] std::shared_ptr<const VolumeRecord> find_by_name(const std::string& name) const;
  [[nodiscard]] std::optional<Damaged> find_damaged(const std::string& id) const;
  /// The damaged one whose id begins as those of this name do: what its name is can't be read any more.
  [[nodiscard]] std::optional<std::pair<std::string, Damaged>> find_damaged_named(const std::string& name) const;
  /// By id, in order.
  [[nodiscard]] std::vector<std::shared_ptr<const VolumeRecord>> all() const;
  [[nodiscard]] std::map<std::string, Damaged> damaged() const;

  /// Durable when it returns well; on an error the record in memory is as before.
  Result<void> save(const VolumeRecord& record);
  /// Removes the file, durable, and the record.
  Result<void> remove(const std::string& id);

 private:
  explicit RecordStore(std::string directory) : directory_(std::move(directory)) {}
  Result<void> load();
  void set_aside(const std::string& file, const std::string& id, const std::string& why, bool lost);

  const std::string directory_;
  mutable std::mutex mutex_;
  std::map<std::string, std::shared_ptr<const VolumeRecord>> records_;
  std::map<std::string, std::string> id_by_name_;
  std::map<std::string, Damaged> damaged_;
};

}  // namespace ordinald::agent
