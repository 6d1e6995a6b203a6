#pragma once

#include <utility>

#include "mount/result.hpp"
#include "mount/types.hpp"
#include "mount/unique_fd.hpp"

namespace ordinald::mount {

/// The mount namespace that every tool's own is copied from: a read-only `/` with /usr, /etc, /proc, /sys and their like, and no other
/// mount of the node. It is made once, so that a tool costs the same with 5,000 volumes mounted as with none, and so that no
/// tool keeps a volume's filesystem alive.
///
/// Threading: made and used in processes with one thread (setns(2) and unshare(2) act on the caller).
/// Errors: internal, with the step that failed. Source: mount_namespaces(7), open_tree(2), pivot_root(2).
/// Where a tool finds the directory that it may write to.
inline constexpr const char* scratch_in_tool = "/dev/scratch";

class ToolNamespace {
 public:
  /// Makes it in a child process, which ends. The caller's own namespace is not changed.
  static Result<ToolNamespace> make();

  /// Moves the calling process into a copy of it whose /dev holds `null` and the device only (no device: number 0).
  /// The device's path lies beneath /dev and has no `..`.
  [[nodiscard]] Result<void> enter(const Device& device, const std::string& scratch) const;

  [[nodiscard]] int fd() const { return fd_.get(); }

 private:
  explicit ToolNamespace(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

}  // namespace ordinald::mount
