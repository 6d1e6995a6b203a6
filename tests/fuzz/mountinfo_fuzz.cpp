/// Any text as a mount table: refused with a message, or one entry a line at most.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "mount/mountinfo.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace ordinald::mount;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto table = parse_mountinfo(text);
  if (!table) {
    if (table.error().message.empty()) std::abort();
    return 0;
  }
  if (table.value().size() > static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n')) + 1) std::abort();
  return 0;
}
