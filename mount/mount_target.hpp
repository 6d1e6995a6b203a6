#pragma once

#include <optional>
#include <string>

#include "mount/kernel.hpp"
#include "mount/unique_fd.hpp"

/// A mount's target: found or made, never followed if it is a symlink, and removed again when the mount on it fails and we made it.
/// Symlinks above it are the administrator's business (a kubelet's directory can be one). Stateless; any thread.
namespace ordinald::mount {

/// A path cut into its parent, opened O_PATH, and its last name.
struct SplitPath {
  UniqueFd parent;
  std::string name;

  /// invalid_argument: not absolute, no name at its end, or too long. not_found: the parent is missing. failed_precondition: symlinks
  /// without end.
  static Result<SplitPath> open(const std::string& path);
};

class MountTarget {
 public:
  /// failed_precondition: a symlink, or of another kind. A mount that is there already is for the caller to judge, by info().
  static Result<MountTarget> prepare(const std::string& path, TargetKind kind);

  MountTarget(MountTarget&&) = default;
  MountTarget& operator=(MountTarget&&) = delete;
  ~MountTarget();

  [[nodiscard]] const PathInfo& info() const { return info_; }
  /// Nothing when no mount is there. If it is exactly what is wanted, its PathInfo; else failed_precondition.
  [[nodiscard]] Result<std::optional<PathInfo>> already_mounted(const Expected& expected, const MountAttributes& attributes) const;
  /// move_mount(2) of a detached mount onto the target; answers what is there then.
  Result<PathInfo> attach(int mount_fd);

 private:
  MountTarget() = default;

  std::string path_;
  SplitPath where_;
  UniqueFd fd_;
  PathInfo info_;
  TargetKind kind_ = TargetKind::directory;
  bool made_ = false;
};

}  // namespace ordinald::mount
