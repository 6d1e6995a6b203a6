#pragma once

#include <string>

#include "agent/core.hpp"
#include "mount/filesystem.hpp"

/// What a tool that works on an unmounted ext4 overwrites is kept in `<state dir>/undo/<volume>.<boot id>.<check|growth>.e2undo`, so that
/// one that dies amid its writes can be taken back: of a growth cut short, and of a superblock half written, a check by itself makes
/// nothing.
///
/// Such a file holds only for what nobody else has written to since. So it is there from just before the tool begins until the tool has
/// ended, or was taken back; it is gone, durably, before anything is mounted, handed out raw, or left to a person. A person may have set to
/// work unasked, while the agent was down:
///
///     a growth that died   the filesystem was neither mounted nor checked since the file's last block, or its superblock is half written:
///     back a check that died    its superblock is half written: back. Else the next check goes on from what there is before a power loss
///     neither file nor device need be whole: back only where the superblock is the very one that the file has
///
/// Under the volume's lock.
namespace ordinald::agent {

enum class UndoOf : std::uint8_t { check, growth };

/// The undo file for a tool that is about to run: `request` gets the directory, the answer is the file's path as the tool sees it.
/// resource_exhausted: there is too little room for it.
Result<std::string> begin_undo(const Core& core, const std::string& id, UndoOf what, mount::ToolRequest& request);

/// Whether a tool that has ended may have left out what it was to write, because its undo file could not be written.
bool may_have_left_out(const Core& core, const mount::ToolOutcome& outcome);

/// Takes back all that a tool did which has just ended, so that nobody else has written since, and forgets its file. False: there was
/// nothing to take back, or the file is not whole. internal: as take_back.
Result<bool> take_back_ended(const Core& core, mount::Kernel& kernel, const std::string& id, const mount::ToolRequest& tool);

/// Takes back what a tool that died has left half done, and forgets its file. True: the device holds something else than `probe` saw.
/// `tool` has what goes for every tool on this device. internal: it could not be taken back now; failed_precondition: somebody else is at
/// the device; the file stays.
Result<bool> take_back(Core& core, mount::Kernel& kernel, VolumeRecord& record, const mount::ToolRequest& tool, const mount::Probe& probe);

/// Whether a tool that worked on the volume was interrupted, or may have been.
Result<bool> has_undo(const Core& core, const std::string& id);

/// Removes what there is of the volume's.
Result<void> forget_undo(const Core& core, const std::string& id);

}  // namespace ordinald::agent
