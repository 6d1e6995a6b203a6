#include "mount/mkfs_options.hpp"

#include <regex>
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
      bool allowed_item = false;
      for (const AllowedOption& option : allowed) {
        allowed_item = allowed_item || fits(option, flag, item);
      }
      if (!allowed_item) {
        return refuse(std::string{"\""}.append(flag).append(" ").append(item).append("\""));
      }
    }
    arguments.push_back(flag);
    arguments.push_back(value);
  }
  return arguments;
}

}  // namespace ordinald::mount
