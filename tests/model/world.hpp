#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "tests/model/step.hpp"

namespace ordinald::testing {

/// What the node really has, read from it and not from the agent.
struct MountFact {
  std::string id{};  ///< of the volume whose device is mounted there; empty: of none
  bool block = false;
  bool read_only = false;
  int depth = 1;  ///< mounts stacked there
};
struct Facts {
  std::map<std::string, MountFact> mounts{};  ///< by path, beneath the world's root
  std::map<std::string, int> loops{};         ///< id → loop devices on its image
  std::map<std::string, std::int64_t> images{};
  std::set<std::string> records{};  ///< ids; those set aside too
  std::set<std::string> ledger{};
  bool sees_filesystems = false;
  std::map<std::string, std::string> uuids{};  ///< of the filesystem on the image, where that can be seen
  std::vector<std::string> strangers{};        ///< files that are nobody's
};

/// An agent and its node, in which the random orchestrator acts. One world is a FakeNode with the agent's rules in this process, the other
/// the daemon on the real kernel.
///
/// Threading: one thread; `run` makes threads of its own. Errors: throws std::runtime_error where the world itself fails.
class World {
 public:
  World() = default;
  World(const World&) = delete;
  World& operator=(const World&) = delete;
  virtual ~World() = default;

  [[nodiscard]] virtual bool reboots() const = 0;
  [[nodiscard]] virtual bool grows_mounted_ext4() const = 0;

  /// Makes the calls at once. With `crash` the agent dies meanwhile, and is down afterwards; what it did not answer has Code::none.
  virtual std::vector<Answer> run(const std::vector<Call>& calls, std::optional<int> crash) = 0;
  /// A round of repairs.
  virtual void repair() = 0;
  /// kill -9. Nothing when it is down.
  virtual void kill() = 0;
  virtual void power_loss() = 0;
  /// While it is down. False: there was nothing to wound.
  virtual bool wound(const Wound& wound, const std::string& id) = 0;
  virtual void start() = 0;

  /// Of the daemon: resident memory in KiB, and open descriptors. Of none: nothing.
  struct Weight {
    long rss = 0;
    long descriptors = 0;
  };
  [[nodiscard]] virtual Weight weight() const { return {}; }

  virtual Facts look() = 0;
  /// The agent's own files of a volume, as they are.
  virtual std::string files_of(const std::string& id) = 0;
  /// Writes the file `data` of a filesystem, or a block device's first bytes; 0 or an errno.
  virtual int write(const std::string& path, bool block, const std::string& text) = 0;
  virtual std::optional<std::string> read(const std::string& path, bool block) = 0;
  virtual bool exists(const std::string& path) = 0;

  // Behind the agent's back. False: it could not be done.
  virtual bool unmount(const std::string& path) = 0;
  virtual bool detach(const std::string& id) = 0;
  virtual bool obstruct(const std::string& path, Obstacle obstacle) = 0;
  virtual bool clear(const std::string& path) = 0;
};

}  // namespace ordinald::testing
