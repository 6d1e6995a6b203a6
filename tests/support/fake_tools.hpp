#pragma once

#include <optional>
#include <string>
#include <vector>

#include "mount/types.hpp"
#include "tests/support/fake_state.hpp"

/// What the programs that the agent runs do to a fake node: mkfs.ext4, mkfs.xfs, mkfs.btrfs, e2fsck, resize2fs; echo, true, false and sleep
/// for what is asked of any program.
namespace ordinald::testing {

/// argv's last component of its program.
std::string program_name(const std::vector<std::string>& argv);

/// Whether this is a mkfs, whose work has a middle.
bool is_mkfs(const std::string& program);

/// The first half of a mkfs: leaves the filesystem half-made. Its outcome, where it refuses to begin.
std::optional<mount::ToolOutcome> begin_mkfs(const mount::ToolRequest& request, FakeLoop& loop);

/// Does the program's work, of a mkfs that has begun the rest. `undo_is_full`: FakeState's. nullopt: no such program.
std::optional<mount::ToolOutcome> run_fake_tool(const mount::ToolRequest& request, FakeLoop& loop, std::optional<int> undo_is_full);

}  // namespace ordinald::testing
