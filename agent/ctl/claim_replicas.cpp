// A claim file with another number of replicas, as the person wrote it else.
#include <algorithm>
#include <optional>

#include "agent/ctl/claim_file.hpp"

namespace ordinald::ctl {
namespace {

using mount::ErrorCode;
using mount::make_error;

/// The next byte of JSON from `at` on that is no blank and no comment.
std::size_t skip_blanks(std::string_view text, std::size_t at) {
  while (at < text.size()) {
    if (text[at] == '/') {
      const bool line = text.substr(at).starts_with("//");
      const auto end = text.find(line ? "\n" : "*/", at + 2);
      at = end == std::string_view::npos ? text.size() : end + (line ? 1 : 2);
    } else if (std::string_view{" \t\r\n"}.contains(text[at])) {
      ++at;
    } else {
      break;
    }
  }
  return at;
}

/// Behind the string that begins at `at`.
std::size_t skip_string(std::string_view text, std::size_t at) {
  for (++at; at < text.size() && text[at] != '"'; ++at) {
    at += text[at] == '\\' ? 1 : 0;
  }
  return std::min(at + 1, text.size());
}

/// Where the value of the top object's key begins.
std::optional<std::size_t> find_value(std::string_view text, std::string_view key) {
  int depth = 0;
  for (std::size_t at = skip_blanks(text, 0); at < text.size(); at = skip_blanks(text, at)) {
    if (text[at] != '"') {
      depth += text[at] == '{' || text[at] == '[' ? 1 : text[at] == '}' || text[at] == ']' ? -1 : 0;
      ++at;
      continue;
    }
    const std::size_t end = skip_string(text, at);
    const std::size_t colon = skip_blanks(text, end);
    if (depth == 1 && text.substr(at + 1, end - at - 2) == key && colon < text.size() && text[colon] == ':') {
      return skip_blanks(text, colon + 1);
    }
    at = end;
  }
  return std::nullopt;
}

}  // namespace

mount::Result<std::string> with_replicas(const std::string& text, std::int64_t replicas) {
  TRY(const ClaimSet before, parse_claim_set(text, "the claim file"));
  const std::string number = std::to_string(replicas);
  std::string changed = text;
  if (const auto at = find_value(text, "replicas")) {
    const std::size_t end = text.find_first_not_of("0123456789+-", *at);
    changed.replace(*at, std::min(end, text.size()) - *at, number);
  } else {
    changed.insert(skip_blanks(text, 0) + 1, "\n  \"replicas\": " + number + ",");
  }
  TRY(const ClaimSet after, parse_claim_set(changed, "the claim file with replicas " + number));
  if (after.replicas != replicas || after.name != before.name) {
    return make_error(ErrorCode::internal, "the claim file's replicas could not be changed to " + number + "; change it by hand");
  }
  return changed;
}

}  // namespace ordinald::ctl
