/// Any text as a volume's record or its state in the ledger: refused with a message, or read, and then its JSON reads back to the same.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "agent/checksum.hpp"
#include "agent/ledger.hpp"
#include "agent/volume_record.hpp"

namespace {

constexpr std::string_view boot_id = "0f0e0d0c-0b0a-4908-8706-050403020100";

void check_record(std::string_view text) {
  using namespace ordinald::agent;
  const auto record = parse_record(text);
  if (!record) {
    if (record.error().message.empty()) std::abort();
    return;
  }
  if (!is_volume_id(record.value().id)) std::abort();  // it becomes a file's name
  const auto again = parse_record(to_json(record.value()));
  if (!again || !(again.value() == record.value())) std::abort();
}

void check_state(std::string_view text) {
  using namespace ordinald::agent;
  const auto state = parse_state(text, boot_id);
  if (!state) {
    if (state.error().message.empty()) std::abort();
    return;
  }
  if (!state.value()) return;
  const std::string written = to_json(*state.value(), boot_id);
  const auto again = parse_state(written, boot_id);
  if (!again || !again.value() || to_json(*again.value(), boot_id) != written) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  check_record(text);
  check_state(text);
  // Few inputs have the right checksum by themselves.
  const std::string line{text.substr(0, std::min(text.find('\n'), text.size()))};
  check_state(line + "\n" + ordinald::agent::crc32_hex(line) + "\n");
  return 0;
}
