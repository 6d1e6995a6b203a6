/// Any text as a configuration: refused with a message, or read, and then its JSON reads back to the same.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "agent/config.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace ordinald::agent;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  auto config = parse_config(text);
  if (!config) {
    if (config.error().message.empty()) std::abort();
    return 0;
  }
  if (!complete_config(config.value(), "host")) return 0;  // what is written has its defaults filled in
  const auto again = parse_config(to_json(config.value()));
  if (!again || !(again.value() == config.value())) std::abort();
  return 0;
}
