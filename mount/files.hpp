#pragma once

#include <dirent.h>
#include <fcntl.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "mount/result.hpp"
#include "mount/unique_fd.hpp"

/// Small wrappers over open(2), openat2(2) and read(2) that the modules of LinuxKernel share. Every descriptor is close-on-exec.
namespace ordinald::mount {

struct CloseDirectory {
  void operator()(DIR* stream) const { ::closedir(stream); }
};
/// For readdir(3).
using DirectoryStream = std::unique_ptr<DIR, CloseDirectory>;

/// A directory, opened for reading. not_found: it is missing, or no directory.
Result<UniqueFd> open_directory(const std::string& path);

/// Makes the directory, with that mode, and what is missing above it (0755), each durable: a power loss takes none of them away again
/// with what was put there since. One that is there is left as it is.
Result<void> make_directories(const std::string& path, unsigned mode = 0755);

/// `name` directly beneath `directory`, never through a symlink (openat2(2)). not_found: no such file. failed_precondition: a symlink.
Result<UniqueFd> open_beneath(int directory, const std::string& name, int flags);

/// All of a file of /proc or /sys, without its last newline; a relative path begins at `directory`.
Result<std::string> read_kernel_file(const std::string& path, int directory = AT_FDCWD);

/// Whether the error says that a file of /proc or /sys went with what it tells of: ENOENT, ENODEV, ESRCH.
bool means_gone(int error);

/// Calls `visit` with each name of this type (DT_DIR, …) in it, `.` and `..` left out, until one is an error. A directory that goes
/// meanwhile has none; one that can't be read is an error, never empty.
Result<void> each_entry(const std::string& directory, unsigned char type, const std::function<Result<void>(const std::string&)>& visit);

/// Fills the buffer from `offset`; answers fewer bytes only at the end of the file.
Result<std::size_t> read_at(int fd, std::span<std::byte> buffer, std::uint64_t offset);

bool is_zero(std::span<const std::byte> bytes);

/// `/proc/self/fd/N`: a way to name an O_PATH descriptor to calls that take only paths.
std::string proc_path(int fd);

}  // namespace ordinald::mount
