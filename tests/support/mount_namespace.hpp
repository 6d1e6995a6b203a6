#pragma once

#include <sys/types.h>

/// Mount namespaces for tests: what a test mounts is seen by nobody else and ends with it.
/// Errors: throws std::system_error (without CAP_SYS_ADMIN there is no test to run).
namespace ordinald::testing {

/// Puts the calling process, which must have one thread only, into a mount namespace of its own; propagation is private. The
/// second call and all after it do nothing.
void enter_private_mount_namespace();

/// A process that holds a copy of this mount namespace, as another container of the node does: what is mounted now stays alive there
/// after it is unmounted here. Ended by the destructor.
class NamespaceHolder {
 public:
  NamespaceHolder();
  NamespaceHolder(const NamespaceHolder&) = delete;
  NamespaceHolder& operator=(const NamespaceHolder&) = delete;
  ~NamespaceHolder();

  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
};

}  // namespace ordinald::testing
