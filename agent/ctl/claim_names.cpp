// The names that follow from a claim file: ordinals, claims, paths, units, addresses.
#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "agent/ctl/claim_file.hpp"
#include "agent/ctl/claim_words.hpp"

namespace ordinald::ctl {

using mount::ErrorCode;
using mount::make_error;

mount::Result<Member> split_ordinal_name(std::string_view name) {
  const auto dash = name.rfind('-');
  const std::string_view digits = dash == std::string_view::npos ? std::string_view{} : name.substr(dash + 1);
  Member member;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), member.ordinal);
  const bool number =
      !digits.empty() && std::ranges::all_of(digits, is_digit) && error == std::errc{} && (digits == "0" || digits.front() != '0');
  if (!number || member.ordinal > largest_ordinal + most_replicas || !is_set_name(name.substr(0, dash))) {
    return make_error(ErrorCode::invalid_argument, "\"" + std::string{name} + "\" is no ordinal: expected <set>-<number>, such as db-0");
  }
  member.set = name.substr(0, dash);
  return member;
}

std::vector<std::int64_t> ordinals(const ClaimSet& set) {
  std::vector<std::int64_t> all;
  for (std::int64_t i = 0; i < set.replicas; ++i) {
    all.push_back(set.start_ordinal + i);
  }
  return all;
}

bool has_ordinal(const ClaimSet& set, std::int64_t ordinal) {
  return ordinal >= set.start_ordinal && ordinal - set.start_ordinal < set.replicas;
}

std::string ordinal_name(const ClaimSet& set, std::int64_t ordinal) { return set.name + "-" + std::to_string(ordinal); }

std::string claim_name(const ClaimTemplate& of, const ClaimSet& set, std::int64_t ordinal) {
  return of.name + "-" + ordinal_name(set, ordinal);
}

std::string mount_path(const ClaimSet& set, const ClaimTemplate& of, std::int64_t ordinal) {
  const std::array<std::string, 3> values{set.name, std::to_string(ordinal), of.name};
  return fill(set.mount_path, values).value_or(std::string{});
}

std::string unit_of(const ClaimSet& set, std::int64_t ordinal) {
  std::string unit = set.unit;
  return unit.empty() ? unit : unit.insert(unit.find('@') + 1, std::to_string(ordinal));
}

std::string address_of(const ClaimSet& set, std::int64_t ordinal) {
  if (set.address_base.empty()) {
    return {};
  }
  const in_addr address{.s_addr = htonl(address_number(set.address_base) + static_cast<std::uint32_t>(ordinal))};
  char text[INET_ADDRSTRLEN] = {};
  inet_ntop(AF_INET, &address, text, sizeof text);
  return text;
}

std::string stable_name(const ClaimSet& set, std::int64_t ordinal) { return ordinal_name(set, ordinal) + "." + set.service_name; }

}  // namespace ordinald::ctl
