#pragma once

#include <string>

#include "mount/result.hpp"

/// A pool's directory bears a mark, as its images do (an extended attribute of the trusted kind), by which it is told from another one that
/// lies at the same path: from that on which its file system should be mounted, above all.
namespace ordinald::mount {

/// Of an open directory. Empty: it has none, or its file system keeps no such attributes.
Result<std::string> read_pool_mark(int directory);

/// Marks the directory, durable, where it has no mark yet, and answers the one that it has then. not_found: it is missing.
/// failed_precondition: its file system keeps no such attributes.
Result<std::string> mark_pool_directory(const std::string& directory, const std::string& mark);

}  // namespace ordinald::mount
