#include "mount/mount_words.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <limits>
#include <string_view>
#include <vector>

namespace ordinald::mount {
namespace {

struct Secret {
  std::string_view text;
  std::uint32_t place = 0;
};

bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

/// The option whole, its key, its value, and what lies between the separators inside the value.
void collect(std::string_view option, std::uint32_t place, std::vector<Secret>& secrets) {
  secrets.push_back({option, place});
  if (const auto equals = option.find('='); equals != std::string_view::npos) {
    secrets.push_back({option.substr(0, equals), place});
    secrets.push_back({option.substr(equals + 1), place});
  }
  constexpr std::string_view separators = "=:,;/ \t\n'\"";
  for (std::size_t begin = 0; begin < option.size();) {
    const auto end = std::min(option.find_first_of(separators, begin), option.size());
    secrets.push_back({option.substr(begin, end - begin), place});
    begin = end + 1;
  }
}

/// Whether the secret stands at `at` so that it gives something away: a text of one or two characters inside a longer word doesn't.
bool stands_at(std::string_view words, std::size_t at, std::string_view text) {
  if (words.substr(at, text.size()) != text) {
    return false;
  }
  const bool inside = (at > 0 && is_word(words[at - 1])) || (at + text.size() < words.size() && is_word(words[at + text.size()]));
  return text.size() > 2 || !inside;
}

}  // namespace

std::string read_kernel_words(int context_fd) {
  std::string words;
  std::array<char, 1024> line{};
  // One message a read; ENODATA after the last. The kernel keeps eight at most.
  for (int count = 0; count < 16; ++count) {
    const ssize_t size = ::read(context_fd, line.data(), line.size());
    if (size <= 0) {
      break;
    }
    std::string_view text{line.data(), static_cast<std::size_t>(size)};
    while (!text.empty() && text.back() == '\n') {
      text.remove_suffix(1);
    }
    if (text.size() > 2 && text[1] == ' ') {
      text.remove_prefix(2);  // "e ", "w " or "i ": error, warning, information
    }
    words += words.empty() ? "" : "; ";
    words += text;
  }
  return words;
}

std::string hide_options(std::string words, std::span<const std::string> options, std::span<const std::uint32_t> places) {
  std::vector<Secret> secrets;
  for (std::size_t i = 0; i < options.size() && i < places.size(); ++i) {
    if (places[i] != std::numeric_limits<std::uint32_t>::max()) {
      collect(options[i], places[i], secrets);
    }
  }
  std::erase_if(secrets, [](const Secret& secret) { return secret.text.empty(); });
  std::ranges::sort(secrets, [](const Secret& a, const Secret& b) {
    return a.text.size() != b.text.size() ? a.text.size() > b.text.size() : a.place < b.place;
  });
  std::string shown;
  // One pass, the longest first at each place: what was put in is never looked at again.
  for (std::size_t at = 0; at < words.size();) {
    const auto found = std::ranges::find_if(secrets, [&](const Secret& secret) { return stands_at(words, at, secret.text); });
    if (found == secrets.end()) {
      shown += words[at++];
    } else {
      shown += "mount_flags[" + std::to_string(found->place) + "]";
      at += found->text.size();
    }
  }
  return shown;
}

}  // namespace ordinald::mount
