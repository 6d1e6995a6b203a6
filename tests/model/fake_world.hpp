#pragma once

#include <memory>
#include <string>

#include "agent/volume_manager.hpp"
#include "tests/model/world.hpp"
#include "tests/model/wounds.hpp"
#include "tests/support/fake_kernel.hpp"
#include "tests/support/temp.hpp"

namespace ordinald::testing {

/// The agent's rules in this process, on a fake node: fast, and it can lose power. Its own files are real.
class FakeWorld final : public World {
 public:
  explicit FakeWorld(bool grows_mounted_ext4);

  [[nodiscard]] bool reboots() const override { return true; }
  [[nodiscard]] bool grows_mounted_ext4() const override { return grows_mounted_ext4_; }
  std::vector<Answer> run(const std::vector<Call>& calls, std::optional<int> crash) override;
  void repair() override;
  void kill() override;
  void power_loss() override;
  bool wound(const Wound& wound, const std::string& id) override { return files_.wound(wound, id); }
  void start() override;
  Facts look() override;
  std::string files_of(const std::string& id) override { return files_.show(id); }
  int write(const std::string& path, bool block, const std::string& text) override;
  std::optional<std::string> read(const std::string& path, bool block) override;
  bool exists(const std::string& path) override;
  bool unmount(const std::string& path) override;
  bool detach(const std::string& id) override;
  bool obstruct(const std::string& path, Obstacle obstacle) override;
  bool clear(const std::string& path) override;

 private:
  Answer ask(const Call& call);

  const bool grows_mounted_ext4_;
  TempDir temp_{"model"};
  AgentFiles files_;
  FakeNode node_;
  std::string boot_ = "boot";
  std::unique_ptr<agent::VolumeManager> manager_;
};

}  // namespace ordinald::testing
