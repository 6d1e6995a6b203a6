#include "agent/checksum.hpp"

#include <boost/crc.hpp>
#include <cstdio>

namespace ordinald::agent {

std::string crc32_hex(std::string_view text) {
  boost::crc_32_type crc;
  crc.process_bytes(text.data(), text.size());
  char hex[9];
  std::snprintf(hex, sizeof hex, "%08x", static_cast<unsigned>(crc.checksum()));
  return hex;
}

}  // namespace ordinald::agent
