#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "agent/volume_manager.hpp"
#include "tests/crash/choices.hpp"
#include "tests/crash/volatile_files.hpp"
#include "tests/support/fake_kernel.hpp"

namespace ordinald::testing {

inline constexpr std::int64_t gib = std::int64_t{1} << 30U;

/// What kind of volume a sweep is about.
struct VolumeKind {
  std::string fs_type;  ///< "block": raw
  bool thick = false;
  bool grows_mounted_ext4 = true;  ///< CAP_SYS_RESOURCE
  [[nodiscard]] bool block() const { return fs_type == "block"; }
};

/// Thrown by the act at which the agent dies.
struct Crash {};

/// How far a volume has been brought, in the orchestrator's mind.
enum class Level : std::uint8_t { none, created, staged, published };

/// A fake node with an agent whose files are real, and the orchestrator that calls it: one volume, beside another that is published all the
/// time. Knows what was promised, and says what of it is broken.
///
/// Threading: one thread.
class FakeWorld {
 public:
  /// The agent's files lie in the directory, which must be empty, and is when this ends.
  FakeWorld(const VolumeKind& kind, std::filesystem::path directory);
  FakeWorld(const FakeWorld&) = delete;
  FakeWorld& operator=(const FakeWorld&) = delete;
  ~FakeWorld();

  // --- the orchestrator's calls on the volume: each notes what it was promised ---
  mount::Result<void> create();
  mount::Result<void> stage();
  mount::Result<void> publish(const std::string& pod = "db-0");
  mount::Result<void> grow_volume();      ///< the controller's part of an expansion
  mount::Result<void> grow_filesystem();  ///< the node's; on a published volume
  mount::Result<void> unpublish();
  mount::Result<void> unstage();
  mount::Result<void> remove();
  /// A person ends the hold of who has it, which may be over already, and the orchestrator unpublishes.
  mount::Result<void> release();
  /// An orchestrator that was never told of a volume finds it in the list, and deletes it.
  mount::Result<void> remove_unknown();
  /// The workload writes, and fsyncs; on a published volume.
  void write();
  /// All calls from one level to another.
  mount::Result<void> bring(Level from, Level to);

  // --- crashes ---

  /// The agent dies as it has passed the n-th act from now; 0: never.
  void die_at(std::size_t act);
  /// The same, by the act's name.
  void die_at(const std::string& act);
  /// Acts since `die_at`; and the last one, for people.
  [[nodiscard]] std::size_t acts() const { return acts_; }
  [[nodiscard]] const std::string& last_act() const { return last_act_; }
  /// The agent is gone, and started again on what is left; it may die again at an act counted from its start. A tool that was killed can
  /// have got to any point.
  void restart_after_crash(Choices& choices, std::size_t die_at_act = 0);
  void restart_after_power_loss(Choices& choices);
  /// A round of repairs, which the agent makes after its start and then at intervals.
  void repair();

  /// What must not be lost whatever happens, and is: an acknowledged volume, its size, its data; empty when nothing is.
  std::string lost();
  /// What is not as it must be while the volume is at the level; empty when all is well.
  std::string broken(Level level);

 private:
  void start();
  void pass(const std::string& act);
  void leave_tool_half_done(Choices& choices);
  mount::Result<void> publish_at(const std::string& target, const std::string& pod);
  [[nodiscard]] csi::Capability capability() const;
  void check_node(Level level, std::string& text);
  void check_content(FakeState& state, std::string& text);
  void check_files(Level level, std::string& text);

  const VolumeKind kind_;
  const std::filesystem::path directory_;
  FakeNode node_;
  std::string boot_ = "boot";
  VolatileFiles files_{directory_ / "state"};
  std::unique_ptr<agent::VolumeManager> manager_;

  std::size_t acts_ = 0;
  std::size_t die_at_ = 0;
  std::string die_at_act_;
  std::string last_act_;

  std::string id_;           ///< of the volume, once promised
  std::int64_t size_ = gib;  ///< promised
  std::string uuid_;         ///< of the filesystem on which the workload has written
  bool written_ = false;
  bool bystander_up_ = false;
  std::string bystander_;
};

}  // namespace ordinald::testing
