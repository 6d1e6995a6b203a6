#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mount/result.hpp"

namespace ordinald::mount {

/// One option of a mkfs that a volume's parameter may use.
struct AllowedOption {
  std::string_view flag;      ///< `-i`
  std::string_view sub_key;   ///< `size` of `-b size=4096`; empty where the value stands alone
  std::string_view pattern;   ///< what the whole value must match, an ECMAScript regular expression
  std::string_view expected;  ///< the same for a person
};

/// Splits `-i 8192 -m 1` at white space and holds each pair against the list. invalid_argument names the option that isn't on it, or that
/// is given twice.
Result<std::vector<std::string>> check_mkfs_options(std::string_view filesystem, std::string_view text,
                                                    std::span<const AllowedOption> allowed);

/// What arguments so checked give for an option; nothing where they don't name it.
std::optional<std::string> mkfs_value(std::span<const std::string> arguments, std::string_view flag, std::string_view sub_key);

/// The same, of a number, which may end in `k` or `m`.
std::optional<std::uint64_t> mkfs_number(std::span<const std::string> arguments, std::string_view flag, std::string_view sub_key);

/// invalid_argument, for an option that mkfs would refuse.
Error refuse_mkfs(const std::string& why);

/// invalid_argument, with both numbers: the filesystem's block, where the arguments name one, is smaller than the volume's, in bytes.
Result<void> check_mkfs_block(std::optional<std::uint64_t> block, std::uint32_t volume_block);

}  // namespace ordinald::mount
