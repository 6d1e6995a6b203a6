#include "agent/ctl/unit_files.hpp"

#include <filesystem>

namespace ordinald::ctl {
namespace {

constexpr std::string_view drop_in_name = "50-ordinald.conf";

std::string head(const std::string& source) { return "# Made by ordinald-generator from " + source + ".\n"; }

UnitFile target_file(const ClaimSet& set, const std::string& source) {
  // Without the default dependencies multi-user.target does not wait for it: an ordinal that never comes up must not hold up the boot.
  std::string text = head(source) + "[Unit]\nDescription=The set " + set.name + "\nDocumentation=man:ordinalctl(8)\nSourcePath=" + source +
                     "\nDefaultDependencies=no\nConflicts=shutdown.target\nBefore=shutdown.target\nAfter=basic.target\n";
  for (const std::int64_t ordinal : ordinals(set)) {
    const std::string unit = unit_of(set, ordinal);
    text += "Wants=" + unit + "\nAfter=" + unit + "\n";
  }
  return {.path = target_of(set), .text = std::move(text)};
}

UnitFile instance_file(const ClaimSet& set, std::int64_t ordinal, const std::string& source) {
  const std::string claim = claim_unit(set, ordinal);
  std::string text = head(source) + "[Unit]\nPartOf=" + target_of(set) + "\nBindsTo=" + claim + "\nAfter=" + claim + "\n";
  for (const ClaimTemplate& of : set.templates) {
    // Only an order: at shutdown systemd unmounts what is mounted when it likes, but after this has stopped.
    text += "After=" + mount_unit(mount_path(set, of, ordinal)) + "\n";
  }
  if (set.management == Management::ordered_ready && ordinal > set.start_ordinal) {
    const std::string gate = ready_unit(set, ordinal - 1);
    text += "Requires=" + gate + "\nAfter=" + gate + " " + unit_of(set, ordinal - 1) + "\n";
  }
  return {.path = unit_of(set, ordinal) + ".d/" + std::string{drop_in_name}, .text = std::move(text)};
}

UnitFile gate_file(const ClaimSet& set, std::int64_t ordinal, const std::string& source) {
  const std::string unit = unit_of(set, ordinal);
  return {.path = ready_unit(set, ordinal) + ".d/" + std::string{drop_in_name},
          .text = head(source) + "[Unit]\nPartOf=" + target_of(set) + "\nWants=" + unit + "\nAfter=" + unit + "\n"};
}

}  // namespace

std::string target_of(const ClaimSet& set) { return set.name + ".target"; }

std::string claim_unit(const ClaimSet& set, std::int64_t ordinal) { return "ordinald-claim@" + ordinal_name(set, ordinal) + ".service"; }

std::string ready_unit(const ClaimSet& set, std::int64_t ordinal) { return "ordinald-ready@" + ordinal_name(set, ordinal) + ".service"; }

std::string mount_unit(const std::string& path) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string name;
  for (const auto& part : std::filesystem::path{path}.lexically_normal().relative_path()) {
    if (part.empty()) {
      continue;
    }
    if (!name.empty()) {
      name += '-';
    }
    bool first = name.empty();
    for (const char c : part.string()) {
      const bool plain =
          (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == ':' || c == '_' || (c == '.' && !first);
      if (plain) {
        name += c;
      } else {
        const auto byte = static_cast<unsigned char>(c);
        name += {'\\', 'x', digits[byte >> 4U], digits[byte & 15U]};
      }
      first = false;
    }
  }
  return (name.empty() ? "-" : name) + ".mount";
}

std::vector<UnitFile> unit_files(const ClaimSet& set, const std::string& source) {
  std::vector<UnitFile> files;
  if (set.unit.empty()) {
    return files;
  }
  files.push_back(target_file(set, source));
  files.push_back({.path = "multi-user.target.wants/" + target_of(set), .link = "../" + target_of(set)});
  const auto all = ordinals(set);
  for (const std::int64_t ordinal : all) {
    files.push_back(instance_file(set, ordinal, source));
    if (set.management == Management::ordered_ready && ordinal != all.back()) {
      files.push_back(gate_file(set, ordinal, source));
    }
  }
  return files;
}

}  // namespace ordinald::ctl
