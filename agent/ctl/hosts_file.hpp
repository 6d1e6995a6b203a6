#pragma once

#include <optional>
#include <string>
#include <vector>

#include "agent/ctl/claim_file.hpp"
#include "mount/result.hpp"

/// A set's members in /etc/hosts: a block between two marks, which is ours; everything else stays byte for byte. Pure; any thread.
namespace ordinald::ctl {

/// `127.0.10.1 db-0.db db-0`, one a member. invalid_argument: the claim file has no addressBase.
mount::Result<std::vector<std::string>> hosts_lines(const ClaimSet& set);

/// Whether the text has the set's block.
bool has_hosts_block(const std::string& text, const std::string& set);

/// The text with these lines as the set's block: where it is already, else at the end; without the block where there are none.
/// failed_precondition: the marks are not a pair any more.
mount::Result<std::string> with_hosts_block(const std::string& text, const std::string& set, const std::vector<std::string>& lines);

}  // namespace ordinald::ctl
