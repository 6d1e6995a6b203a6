#pragma once

#include <string>
#include <string_view>

namespace ordinald::agent {

/// CRC-32 (ISO 3309) of the text, as eight hexadecimal digits: against flipped bits, not against people.
std::string crc32_hex(std::string_view text);

}  // namespace ordinald::agent
