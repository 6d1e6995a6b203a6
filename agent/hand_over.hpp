#pragma once

#include <string>
#include <vector>

#include "agent/core.hpp"

namespace ordinald::agent {

/// The names under which a holder's control group goes: a pod's is `pod<uid>` or, by the systemd driver, `…-pod<uid, - as _>.slice`; on
/// bare metal it is the unit's. Empty: nothing is known by which its processes could be told.
std::vector<std::string> group_names(const Holder& holder);

/// Which of the holder's processes have the volume mounted or open; of a holder that has no group to be told by, none is known.
Result<mount::CgroupUsers> holders_processes(mount::Kernel& kernel, const VolumeState& state, const Holder& holder);

/// Where a copy of our mount table has the volume, now or from when somebody had it (CgroupQuery::usual).
std::vector<std::string> usual_places(const Core& core, const std::string& id, const VolumeState& state, const std::string& target = {});

/// Which processes at all have the volume for themselves, and not as a copy of our mount table. `target`: where somebody is to get it.
/// Looks at every process of the node.
Result<mount::CgroupUsers> everybodys_processes(const Core& core, mount::Kernel& kernel, const std::string& id, const VolumeState& state,
                                                const std::string& target = {});

/// `process 4711 (postgres, mount namespace 4026532301) has it at /var/lib/postgresql; …`; the first few, and how many more.
std::string describe(const mount::CgroupUsers& found);

/// What a refusal says of a publication that stands in the way: whether it is mounted, which of its processes have it, and what a person
/// can do. For refusals only: it may look at every process of the node.
std::string what_keeps(mount::Kernel& kernel, const std::string& id, const VolumeState& state, const Publication& held);

/// The same of mounts that were found when the ledger was lost.
std::string what_keeps_found(const Core& core, mount::Kernel& kernel, const std::string& id, const VolumeState& state);

/// Before a publication gets a new holder, where its mode or that of the holders before it, of this boot, was exclusive: none of their
/// processes may still have the volume mounted or open, and of who had it as a raw block device none may live. A pod that was deleted by
/// force can go on writing through its own mount namespace after the target on the host is unmounted; its processes are found by its
/// control group. Anybody else who merely copied the mount table doesn't block, and is named in the log (HandOvers).
///
/// After a lost ledger it is not known who that was: then no process but the next holder's own may have it, whoever's it is. An unnamed
/// caller is told by its target alone: one that was found mounted is its own.
///
/// Answers whether an exclusive one changes hands. All are looked for at once, and a pod found gone is not looked for again, so that an
/// undisturbed publish pays one look. failed_precondition: who still has it, and what to do. Where control groups can't be seen that is
/// logged, and the hand-over goes on.
Result<bool> check_hand_over(Core& core, mount::Kernel& kernel, const std::string& id, const VolumeState& state, const Publication& asked);

/// Names in the log, of each volume that was handed over, the processes in other mount namespaces that have it mounted and are not its
/// holder's: a monitoring agent, a service with PrivateTmp. Reads all of /proc, so it is done beside the calls, by the repairs' thread.
void name_bystanders(Core& core);

}  // namespace ordinald::agent
