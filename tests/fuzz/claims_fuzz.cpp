/// Any text as a claim file: refused with a message, or read; then its names are names, its paths absolute, and it takes another number of
/// replicas with nothing else changed. And any text as an ordinal's name.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <set>
#include <string>
#include <string_view>

#include "agent/ctl/claim_file.hpp"
#include "agent/ctl/hosts_file.hpp"
#include "agent/ctl/unit_files.hpp"
#include "tests/fuzz/must.hpp"

namespace {

using namespace ordinald::ctl;
using ordinald::fuzz::must;

/// What systemd gets of it: no file elsewhere, and no line that a name or path has made.
void check_units(const ClaimSet& set) {
  for (const UnitFile& file : unit_files(set, "fuzz")) {
    must(!file.path.empty() && !file.path.starts_with('/') && ("/" + file.path).find("/../") == std::string::npos);
    must(file.path.find('\n') == std::string::npos && file.link.find('\n') == std::string::npos);
    for (std::size_t at = 0; at < file.text.size();) {
      const std::size_t end = file.text.find('\n', at);
      must(end != std::string::npos);
      const std::string line = file.text.substr(at, end - at);
      const bool setting = line.find('=') != std::string::npos && line.front() >= 'A' && line.front() <= 'Z';
      must(line.starts_with("# ") || line == "[Unit]" || line == "[Service]" || line == "[Install]" || setting);
      at = end + 1;
    }
  }
}

void check_set(const ClaimSet& set, const std::string& text) {
  must(set.replicas >= 0 && !set.templates.empty() && !set.service_name.empty());
  std::set<std::string> claims;
  std::set<std::string> paths;
  const std::int64_t last = set.start_ordinal + (set.replicas > 0 ? set.replicas - 1 : 0);
  for (const std::int64_t ordinal : {set.start_ordinal, last}) {
    const auto member = split_ordinal_name(ordinal_name(set, ordinal));
    must(member && member.value() == Member{set.name, ordinal});
    must(has_ordinal(set, ordinal) == (set.replicas > 0));
    must(set.address_base.empty() == address_of(set, ordinal).empty());
    for (const ClaimTemplate& of : set.templates) {
      must(of.size > 0 && of.size % (1U << 20U) == 0);
      must(claim_name(of, set, ordinal).size() <= 128);
      const std::string path = mount_path(set, of, ordinal);
      must(path.starts_with('/') && path.find("/../") == std::string::npos);
      claims.insert(claim_name(of, set, ordinal));
      paths.insert(path);
    }
  }
  if (set.replicas <= 4) {  // of more they are the same again
    check_units(set);
    const auto lines = hosts_lines(set);
    must(lines ? lines.value().size() == static_cast<std::size_t>(set.replicas) : set.address_base.empty());
  }
  const std::size_t volumes = set.templates.size() * (last == set.start_ordinal ? 1 : 2);
  must(claims.size() == volumes && paths.size() == volumes);  // no two volumes meet

  const auto changed = with_replicas(text, 7);
  if (!changed) {  // the addresses may not suffice
    must(!changed.error().message.empty());
    return;
  }
  const auto after = parse_claim_set(changed.value(), "fuzz");
  must(after && after.value().replicas == 7 && after.value().name == set.name && after.value().templates.size() == set.templates.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  if (const auto member = split_ordinal_name(text)) {
    must(member.value().set + "-" + std::to_string(member.value().ordinal) == text);
  }
  const auto set = parse_claim_set(text, "fuzz");
  set ? check_set(set.value(), text) : must(!set.error().message.empty());
  return 0;
}
