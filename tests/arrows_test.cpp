// The three floors: agent → csi → mount, agent → mount, and no arrow upwards. Reads the `#include` lines of the shipped code.
#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <regex>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;

struct Include {
  std::string file;  ///< from the root
  int line = 0;
  std::string header;
};

const fs::path root{ORDINALD_SOURCE_DIR};

std::vector<Include> includes_of(const std::string& floor) {
  const std::regex pattern{R"(^\s*#\s*include\s*[<"]([^>"]+)[>"])"};
  std::vector<Include> result;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator{root / floor}) {
    const std::string extension = entry.path().extension();
    if (extension != ".hpp" && extension != ".cpp") {
      continue;
    }
    std::ifstream file{entry.path()};
    std::string line;
    for (int number = 1; std::getline(file, line); ++number) {
      if (std::smatch match; std::regex_search(line, match, pattern)) {
        result.push_back({.file = fs::relative(entry.path(), root), .line = number, .header = match[1]});
      }
    }
  }
  REQUIRE_FALSE(result.empty());
  return result;
}

bool any_prefix(const std::string& header, const std::vector<std::string>& prefixes) {
  return std::ranges::any_of(prefixes, [&](const std::string& prefix) { return header.starts_with(prefix); });
}

void expect_none(const std::string& floor, const std::vector<std::string>& forbidden, const std::vector<std::string>& allowed = {}) {
  for (const Include& include : includes_of(floor)) {
    INFO(include.file << ":" << include.line << " includes " << include.header);
    CHECK((!any_prefix(include.header, forbidden) || std::ranges::count(allowed, include.header) > 0));
  }
}

}  // namespace

TEST_CASE("mount/ knows nothing of the floors above, of the protocol or of JSON", "[arrows]") {
  expect_none("mount", {"agent/", "csi/", "tests/", "grpc", "google/", "nlohmann/"});
}

TEST_CASE("csi/ knows of mount/ its result, its error and its log only, and nothing of agent/", "[arrows]") {
  expect_none("csi", {"agent/", "tests/", "mount/"}, {"mount/result.hpp", "mount/error.hpp", "mount/log.hpp"});
}

TEST_CASE("agent/ uses the floors below and nothing of the tests", "[arrows]") { expect_none("agent", {"tests/"}); }

TEST_CASE("an include is named from the root", "[arrows]") {
  for (const std::string floor : {"mount", "csi", "agent"}) {
    for (const Include& include : includes_of(floor)) {
      INFO(include.file << ":" << include.line << " includes " << include.header);
      CHECK_FALSE(include.header.starts_with("."));
    }
  }
}
