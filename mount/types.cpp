#include "mount/types.hpp"

namespace ordinald::mount {

bool matches(const PathInfo& info, const Expected& expected) {
  if (!info.mount_root) {
    return false;
  }
  if (expected.fs_type.empty()) {
    return info.kind == FileKind::block_device && info.rdev == expected.number;
  }
  if (info.broken) {
    return info.device == expected.number;  // nothing else can be asked of it
  }
  if (info.kind != FileKind::directory) {
    return false;
  }
  if (expected.fs_type == "btrfs") {
    return !expected.uuid.empty() && info.fs_uuid == expected.uuid;
  }
  return info.device == expected.number;
}

}  // namespace ordinald::mount
