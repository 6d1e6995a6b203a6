#pragma once

#include <string>

#include "mount/kernel.hpp"
#include "mount/tool_namespace.hpp"
#include "mount/unique_fd.hpp"
#include "mount/zygote.hpp"

namespace ordinald::mount {

/// A worker's life, in a process of its own with one thread: reads a request {verb, volume, arguments}, notes the volume in its mark
/// (worker_mark.hpp), calls the verb, answers; returns when the daemon closes the socket. An exception in a verb is a bug, and is
/// answered as one.
void serve_verbs(UniqueFd socket, const std::string& run_dir, MakeKernel make_kernel, const Result<ToolNamespace>& tools);

}  // namespace ordinald::mount
