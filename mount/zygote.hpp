#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <utility>

#include "mount/kernel.hpp"
#include "mount/linux_kernel.hpp"
#include "mount/result.hpp"
#include "mount/unique_fd.hpp"

namespace ordinald::mount {

/// What a worker serves: LinuxKernel, made in the worker. Tests hand in one of their own.
using MakeKernel = std::unique_ptr<Kernel> (*)(ToolRunner);
std::unique_ptr<Kernel> make_linux_kernel(ToolRunner run_tool);

/// The daemon's hold on the small process that forks workers (`ordinald-fork`).
///
///     daemon ──socketpair── zygote ──fork── worker ──fork── tool
///
/// It has one thread, so that PR_SET_PDEATHSIG of its children means the process; it holds no lock and no socket of the daemon's; it ends
/// when the daemon does, however that ends, its workers with it, and their tools with them. It reaps all of them, orphans included.
///
/// Threading: one thread at a time. Errors: unavailable: it is gone, and only a restart of the agent brings it back.
class Zygote {
 public:
  /// Forks it. At the very beginning of main(), before any thread, lock or socket exists: what exists is inherited; and it ends with the
  /// thread that calls this. Makes
  /// `<run_dir>/workers`. The namespace for tools (tool_namespace.hpp) is made in the zygote meanwhile; nobody waits for it here.
  static Result<Zygote> start(const std::string& run_dir, MakeKernel make_kernel = &make_linux_kernel);

  Zygote(Zygote&&) noexcept = default;
  Zygote& operator=(Zygote&&) noexcept = delete;
  ~Zygote();

  struct Worker {
    pid_t pid = 0;
    UniqueFd socket;  ///< its life: closing it ends the worker once it is idle
  };
  Result<Worker> make_worker();

  /// Whether it still runs. Costs a system call.
  [[nodiscard]] bool alive() const;
  [[nodiscard]] pid_t pid() const { return pid_; }
  [[nodiscard]] const std::string& run_dir() const { return run_dir_; }

 private:
  Zygote(pid_t pid, UniqueFd control, std::string run_dir) : pid_(pid), control_(std::move(control)), run_dir_(std::move(run_dir)) {}

  pid_t pid_;
  UniqueFd control_;
  std::string run_dir_;
};

}  // namespace ordinald::mount
