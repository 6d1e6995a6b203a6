#pragma once

#include <sys/types.h>

#include <cstdint>

namespace ordinald::mount {

inline constexpr std::uint64_t mib = std::uint64_t{1024} * 1024;
/// The unit of st_blocks, in bytes, whatever the file system's is (inode(7)).
inline constexpr std::uint64_t stat_block = 512;
/// Of a mode, what chmod(2) sets.
inline constexpr mode_t permission_bits = 07777;

}  // namespace ordinald::mount
