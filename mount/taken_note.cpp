#include "mount/taken_note.hpp"

#include <charconv>
#include <system_error>

#include "mount/units.hpp"

namespace ordinald::mount {
namespace {}  // namespace

std::string to_text(const Taken& taken) {
  char mode[16];
  const auto end = std::to_chars(mode, mode + sizeof mode, taken.mode, 8).ptr;
  return std::string{mode, end} + " " + taken.changed + " " + taken.capability;
}

std::optional<Taken> parse_taken(std::string_view text) {
  const std::size_t first = text.find(' ');
  const std::size_t second = first == std::string_view::npos ? first : text.find(' ', first + 1);
  if (second == std::string_view::npos) {
    return std::nullopt;
  }
  Taken taken{
      .mode = 0, .changed = std::string{text.substr(first + 1, second - first - 1)}, .capability = std::string{text.substr(second + 1)}};
  const auto read = std::from_chars(text.data(), text.data() + first, taken.mode, 8);
  // Written again it is the same, or it was not written by us.
  if (read.ec != std::errc{} || taken.mode > permission_bits || taken.changed.empty() || to_text(taken) != text) {
    return std::nullopt;
  }
  return taken;
}

}  // namespace ordinald::mount
