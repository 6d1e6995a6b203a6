#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

/// The words of a claim file: what a name may be, and what stands in a path for one. Pure; any thread.
namespace ordinald::ctl {

constexpr std::int64_t most_replicas = 1000;
constexpr std::int64_t largest_ordinal = 1000000;

constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }
constexpr bool is_lower(char c) { return c >= 'a' && c <= 'z'; }
constexpr bool is_letter(char c) { return is_lower(c) || (c >= 'A' && c <= 'Z'); }

/// RFC 1123, in lower case.
bool is_label(std::string_view text);
constexpr std::string_view label_words = "at most 63 lower-case letters and digits, with dashes between";

/// So that `<set>-<ordinal>` is a label.
bool is_set_name(std::string_view text);
constexpr std::string_view set_name = "at most 55 lower-case letters and digits, with dashes between";

/// Set, ordinal and template are put in for `{set}`, `{ordinal}`, `{template}`; nullopt: there is another brace.
std::optional<std::string> fill(std::string_view pattern, std::span<const std::string, 3> values);

/// IPv4 as a number, of a text that is an address.
std::uint32_t address_number(const std::string& text);

}  // namespace ordinald::ctl
