#include "mount/mkfs_options.hpp"

#include <algorithm>
#include <cstdlib>
#include <regex>
#include <set>
#include <sstream>

namespace ordinald::mount {
namespace {

std::string known_options(std::span<const AllowedOption> allowed) {
  std::string text;
  for (const AllowedOption& option : allowed) {
    text += text.empty() ? "" : ", ";
    text += option.flag;
    text += ' ';
    if (!option.sub_key.empty()) {
      text += option.sub_key;
      text += '=';
    }
    text += option.expected;
  }
  return text;
}

bool fits(const AllowedOption& option, const std::string& flag, const std::string& item) {
  if (flag != option.flag) {
    return false;
  }
  std::string value = item;
  if (!option.sub_key.empty()) {
    const std::string prefix = std::string{option.sub_key} + "=";
    if (!item.starts_with(prefix)) {
      return false;
    }
    value = item.substr(prefix.size());
  }
  return std::regex_match(value, std::regex{std::string{option.pattern}});
}

}  // namespace

Result<std::vector<std::string>> check_mkfs_options(std::string_view filesystem, std::string_view text,
                                                    std::span<const AllowedOption> allowed) {
  std::vector<std::string> arguments;
  std::istringstream words{std::string{text}};
  std::string flag;
  std::set<const AllowedOption*> given;
  const auto refuse = [&](const std::string& what) {
    return make_error(ErrorCode::invalid_argument, "parameter mkfsOptions: " + what + " is not allowed for " + std::string{filesystem} +
                                                       "; allowed are: " + known_options(allowed));
  };
  while (words >> flag) {
    std::string value;
    if (!(words >> value)) {
      return refuse("\"" + flag + "\" without a value");
    }
    // A value is one item, or a list of `key=value` items where the option has sub-keys.
    std::istringstream items{value};
    std::string item;
    bool sub_keyed = false;
    for (const AllowedOption& option : allowed) {
      sub_keyed = sub_keyed || (option.flag == flag && !option.sub_key.empty());
    }
    while (sub_keyed ? static_cast<bool>(std::getline(items, item, ',')) : static_cast<bool>(items >> item)) {
      const auto option = std::ranges::find_if(allowed, [&](const AllowedOption& each) { return fits(each, flag, item); });
      const std::string quoted = std::string{"\""}.append(flag).append(" ").append(item).append("\"");
      if (option == allowed.end()) {
        return refuse(quoted);
      }
      if (!given.insert(&*option).second) {
        return make_error(ErrorCode::invalid_argument, "parameter mkfsOptions: " + quoted + " is given besides another value of the same");
      }
    }
    arguments.push_back(flag);
    arguments.push_back(value);
  }
  return arguments;
}

std::optional<std::string> mkfs_value(std::span<const std::string> arguments, std::string_view flag, std::string_view sub_key) {
  const std::string prefix = sub_key.empty() ? std::string{} : std::string{sub_key} + "=";
  for (std::size_t i = 0; i + 1 < arguments.size(); i += 2) {
    std::istringstream items{arguments[i] == flag ? arguments[i + 1] : std::string{}};
    std::string item;
    while (std::getline(items, item, ',')) {
      if (item.starts_with(prefix)) {
        return item.substr(prefix.size());
      }
    }
  }
  return std::nullopt;
}

std::optional<std::uint64_t> mkfs_number(std::span<const std::string> arguments, std::string_view flag, std::string_view sub_key) {
  const auto text = mkfs_value(arguments, flag, sub_key);
  if (!text) {
    return std::nullopt;
  }
  const std::uint64_t unit = text->ends_with('k') ? 1024 : text->ends_with('m') ? 1024 * 1024 : 1;
  return std::strtoull(text->c_str(), nullptr, 10) * unit;
}

Error refuse_mkfs(const std::string& why) { return make_error(ErrorCode::invalid_argument, "parameter mkfsOptions: " + why); }

Result<void> check_mkfs_block(std::optional<std::uint64_t> block, std::uint32_t volume_block) {
  if (!block || *block >= volume_block) {
    return success();
  }
  return refuse_mkfs("the filesystem's block of " + std::to_string(*block) + " bytes is smaller than the volume's of " +
                     std::to_string(volume_block) + " (parameter blockSize), which it can't be");
}

}  // namespace ordinald::mount
