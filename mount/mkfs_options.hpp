#pragma once

#include <functional>
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

/// Splits `-i 8192 -m 1` at white space and holds each pair against the list. invalid_argument names the option that isn't on it.
Result<std::vector<std::string>> check_mkfs_options(std::string_view filesystem, std::string_view text,
                                                    std::span<const AllowedOption> allowed);

}  // namespace ordinald::mount
