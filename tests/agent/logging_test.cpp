#include "agent/logging.hpp"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <string>

namespace ordinald::agent {

TEST_CASE("a message stays one line, drives no terminal and is UTF-8", "[logging]") {
  const auto text = [](std::string_view message) { return log_safe(message, LogFormat::text); };
  CHECK(text("plain \"quoted\" back\\slash é 漢 😀") == "plain \"quoted\" back\\slash é 漢 😀");
  CHECK(text("a\nb\r\tc") == "a\\nb\\r\\tc");
  CHECK(text(std::string_view{"\0\x1b[31m\x7f", 7}) == "\\u0000\\u001b[31m\\u007f");
  CHECK(text("\xc2\x9b"
             "31m") == "\\u009b31m");  // CSI as one C1 character
  CHECK(text("\xe2\x80\xa8") == "\\u2028");
  CHECK(text("a\u202egpj.b\u2066\u200f") == "a\\u202egpj.b\\u2066\\u200f");  // they turn the direction of what follows
  CHECK(text("a\xff"
             "b") ==
        "a\xef\xbf\xbd"
        "b");
  CHECK(text("\xc0\xaf") == "\xef\xbf\xbd\xef\xbf\xbd");                  // overlong
  CHECK(text("\xed\xa0\x80") == "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");  // a surrogate
  CHECK(text("\xf4\x90\x80\x80").starts_with("\xef\xbf\xbd"));            // beyond Unicode
  CHECK(text("cut \xe6\xbc") == "cut \xef\xbf\xbd\xef\xbf\xbd");
  CHECK(text("").empty());
}

TEST_CASE("any bytes make a JSON string", "[logging]") {
  std::string bytes;
  for (int i = 0; i < 256; ++i) {
    bytes += static_cast<char>(i);
  }
  bytes += "é 漢 😀 \"quoted\" back\\slash";
  const auto parsed = nlohmann::json::parse("\"" + log_safe(bytes, LogFormat::json) + "\"", nullptr, false);
  REQUIRE(parsed.is_string());
  CHECK_THAT(parsed.get<std::string>(), Catch::StartsWith(std::string{"\0\x01", 2}) && Catch::EndsWith("é 漢 😀 \"quoted\" back\\slash"));
}

}  // namespace ordinald::agent
