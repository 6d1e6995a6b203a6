#include "agent/ctl/claim_words.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <array>

namespace ordinald::ctl {
namespace {

constexpr std::size_t longest_label = 63;
constexpr std::array<std::string_view, 3> placeholders{"{set}", "{ordinal}", "{template}"};

}  // namespace

bool is_label(std::string_view text) {
  const auto good = [](char c) { return is_lower(c) || is_digit(c); };
  return !text.empty() && text.size() <= longest_label && good(text.front()) && good(text.back()) &&
         std::ranges::all_of(text, [&](char c) { return good(c) || c == '-'; });
}

bool is_set_name(std::string_view text) { return is_label(text) && text.size() <= longest_label - 8; }

std::optional<std::string> fill(std::string_view pattern, std::span<const std::string, 3> values) {
  std::string text;
  while (!pattern.empty()) {
    std::size_t taken = 1;
    if (pattern.front() == '{' || pattern.front() == '}') {
      const auto* const found = std::ranges::find_if(placeholders, [&](std::string_view each) { return pattern.starts_with(each); });
      if (found == placeholders.end()) {
        return std::nullopt;
      }
      text += values[static_cast<std::size_t>(found - placeholders.begin())];
      taken = found->size();
    } else {
      text += pattern.front();
    }
    pattern.remove_prefix(taken);
  }
  return text;
}

std::uint32_t address_number(const std::string& text) {
  in_addr address{};
  inet_pton(AF_INET, text.c_str(), &address);
  return ntohl(address.s_addr);
}

}  // namespace ordinald::ctl
