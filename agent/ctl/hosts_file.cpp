#include "agent/ctl/hosts_file.hpp"

#include <cstddef>

namespace ordinald::ctl {
namespace {

std::string begin_mark(const std::string& set) { return "# BEGIN ordinald set " + set + " (kept by ordinalctl hosts)\n"; }
std::string end_mark(const std::string& set) { return "# END ordinald set " + set + "\n"; }

/// Where a line begins that is just this one (with its end); npos: none.
std::size_t find_line(const std::string& text, const std::string& line, std::size_t from = 0) {
  for (std::size_t at = text.find(line, from); at != std::string::npos; at = text.find(line, at + 1)) {
    if (at == 0 || text[at - 1] == '\n') {
      return at;
    }
  }
  return std::string::npos;
}

}  // namespace

mount::Result<std::vector<std::string>> hosts_lines(const ClaimSet& set) {
  if (set.address_base.empty()) {
    return mount::make_error(mount::ErrorCode::invalid_argument,
                             "set " + set.name + ": its claim file gives its members no addresses (addressBase)");
  }
  std::vector<std::string> lines;
  for (const std::int64_t ordinal : ordinals(set)) {
    lines.push_back(address_of(set, ordinal) + " " + stable_name(set, ordinal) + " " + ordinal_name(set, ordinal));
  }
  return lines;
}

bool has_hosts_block(const std::string& text, const std::string& set) { return find_line(text, begin_mark(set)) != std::string::npos; }

mount::Result<std::string> with_hosts_block(const std::string& text, const std::string& set, const std::vector<std::string>& lines) {
  std::string block;
  if (!lines.empty()) {
    block = begin_mark(set);
    for (const std::string& line : lines) {
      block += line + "\n";
    }
    block += end_mark(set);
  }
  const std::string begins = begin_mark(set);
  const std::string ends = end_mark(set);
  const std::size_t begin = find_line(text, begins);
  const std::size_t end = find_line(text, ends);
  if (begin == std::string::npos && end == std::string::npos) {
    const bool open_line = !block.empty() && !text.empty() && !text.ends_with('\n');
    return text + (open_line ? "\n" : "") + block;
  }
  const bool pair = begin != std::string::npos && end != std::string::npos && begin < end &&
                    find_line(text, begins, begin + 1) == std::string::npos && find_line(text, ends, end + 1) == std::string::npos;
  if (!pair) {
    return mount::make_error(mount::ErrorCode::failed_precondition,
                             "the marks of set " + set + " are no pair any more; remove what is left of its block, \"" +
                                 begins.substr(0, begins.size() - 1) + "\" to \"" + ends.substr(0, ends.size() - 1) + "\", by hand");
  }
  return text.substr(0, begin) + block + text.substr(end + ends.size());
}

}  // namespace ordinald::ctl
