#pragma once

#include "tests/mount/kernel_contract.hpp"
#include "tests/support/temp.hpp"

namespace ordinald::testing {

/// A ContractNode on the machine itself, in this process's private mount namespace: everything lies in a temporary directory that goes,
/// with its mounts and loop devices, when the object does. Whose kernel it is, the class derived says. Needs root.
class RealContractNode : public ContractNode {
 public:
  RealContractNode();

  std::string pool() override { return path("pool"); }
  std::string small_pool() override { return path("small"); }
  std::string work() override { return path("work"); }

  void make_directory(const std::string& directory) override;
  void make_symlink(const std::string& link, const std::string& to) override;
  int write_file(const std::string& file, const std::string& text) override;
  std::optional<std::string> read_file(const std::string& file) override;
  FileMode mode_of(const std::string& file) override;
  void set_mode(const std::string& file, const FileMode& mode) override;
  int write_device(const std::string& device) override;
  void write_luks(const mount::ImageRef& image) override;
  void write_byte(const mount::ImageRef& image, std::uint64_t offset) override;
  Hold hold_open(const std::string& file) override;
  Hold hold_device(const std::string& device) override;
  Hold pin(const std::string& mounted) override;
  bool has_cgroups() override;
  Hold run_in_cgroup(const std::string& group, const std::string& mounted) override;
  void mount_foreign(const std::string& directory) override;
  void stack(const std::string& mounted) override;

 protected:
  /// A name in the temporary directory.
  [[nodiscard]] std::string path(const std::string& name) const { return directory_.path() / name; }

 private:
  TempDir directory_{"contract"};
};

}  // namespace ordinald::testing
