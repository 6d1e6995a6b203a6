#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>

/// What a chown takes from a file, as mount_group notes it on the file itself: `<mode, octal> <time of the last write> <capability>`. Pure;
/// any thread.
namespace ordinald::mount {

struct Taken {
  mode_t mode = 0;         ///< permission bits, setuid and setgid
  std::string changed;     ///< when the content was, last: what was written to since has rightly lost it
  std::string capability;  ///< security.capability, bytes; empty: none
  bool operator==(const Taken&) const = default;
};

std::string to_text(const Taken& taken);

/// nullopt: not what to_text writes, or half of it.
std::optional<Taken> parse_taken(std::string_view text);

}  // namespace ordinald::mount
