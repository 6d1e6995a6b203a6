// Claim files where they lie, and what must hold among them.
#include <algorithm>
#include <filesystem>
#include <map>

#include "agent/ctl/claim_file.hpp"
#include "agent/ctl/claim_words.hpp"
#include "agent/durable_file.hpp"

namespace ordinald::ctl {
namespace {

using mount::ErrorCode;
using mount::make_error;
using mount::success;

constexpr std::string_view claims_end = ".json";

/// Of the files there, without their ending, sorted.
mount::Result<std::vector<std::string>> set_names(const std::string& directory) {
  std::error_code error;
  std::vector<std::string> names;
  for (std::filesystem::directory_iterator entry{directory, error}; !error && entry != std::filesystem::directory_iterator{};
       entry.increment(error)) {
    if (entry->path().extension() == claims_end) {
      names.push_back(entry->path().stem().string());
    }
  }
  if (error && error != std::errc::no_such_file_or_directory) {
    return mount::errno_error(error.value(), "reading " + directory);
  }
  std::ranges::sort(names);
  return names;
}

/// What no two ordinals may both have.
struct OwnPlace {
  std::string whose{};
  const char* remedy = "";
};

/// Addresses, units and mount paths of all its ordinals.
std::map<std::string, OwnPlace> places(const ClaimSet& set) {
  constexpr const char* elsewhere = "change the addressBase or mountPath of one";
  std::map<std::string, OwnPlace> places;
  for (const std::int64_t ordinal : ordinals(set)) {
    if (std::string address = address_of(set, ordinal); !address.empty()) {
      places.emplace(std::move(address), OwnPlace{ordinal_name(set, ordinal), elsewhere});
    }
    if (std::string unit = unit_of(set, ordinal); !unit.empty()) {
      places.emplace(std::move(unit), OwnPlace{ordinal_name(set, ordinal), "give one a template unit of its own"});
    }
    for (const ClaimTemplate& of : set.templates) {
      places.emplace(mount_path(set, of, ordinal), OwnPlace{claim_name(of, set, ordinal), elsewhere});
    }
  }
  return places;
}

mount::Result<void> refuse_shared(const std::string& directory, const ClaimSet& one, const ClaimSet& other) {
  for (const ClaimTemplate& of : one.templates) {
    for (const ClaimTemplate& with : other.templates) {
      if (const std::string name = of.name + "-" + one.name; name == with.name + "-" + other.name) {
        return make_error(ErrorCode::invalid_argument, directory + ": the sets " + one.name + " and " + other.name +
                                                           " would both have claims of the name " + name +
                                                           "-<ordinal>; give a template or a set another name");
      }
    }
  }
  const auto taken = places(one);
  for (const auto& [place, of] : places(other)) {
    if (const auto found = taken.find(place); found != taken.end()) {
      return make_error(ErrorCode::invalid_argument, directory + ": " + found->second.whose + " of set " + one.name + " and " + of.whose +
                                                         " of set " + other.name + " would both have " + place + "; " + of.remedy);
    }
  }
  return success();
}

}  // namespace

std::string deleting_path(const std::string& path) { return path + ".deleting"; }

mount::Result<ClaimSet> load_claim_set(const std::string& path) {
  TRY(const std::string text, agent::read_file(path));
  return parse_claim_set(text, path);
}

mount::Result<std::vector<ClaimSet>> load_claim_sets(const std::string& directory) {
  TRY(const auto names, set_names(directory));
  std::vector<ClaimSet> sets;
  for (const std::string& name : names) {
    TRY(ClaimSet set, find_claim_set(directory, name));
    for (const ClaimSet& other : sets) {
      TRYV(refuse_shared(directory, other, set));
    }
    sets.push_back(std::move(set));
  }
  return sets;
}

mount::Result<void> refuse_shared_claims(const std::string& directory, const ClaimSet& set) {
  TRY(const auto names, set_names(directory));
  for (const std::string& name : names) {
    if (const auto other = find_claim_set(directory, name); other && name != set.name) {
      TRYV(refuse_shared(directory, other.value(), set));
    }
  }
  return success();
}

mount::Result<ClaimSet> find_claim_set(const std::string& directory, const std::string& name) {
  const std::string path = directory + "/" + name + std::string{claims_end};
  auto set = is_set_name(name) ? load_claim_set(path) : mount::Result<ClaimSet>{make_error(ErrorCode::not_found, "")};
  if (set && set.value().name != name) {
    return make_error(ErrorCode::invalid_argument,
                      path + ": set: expected \"" + name + "\", as the file is named, found \"" + set.value().name + "\"");
  }
  if (set || set.error().code != ErrorCode::not_found) {
    return set;
  }
  if (std::error_code error; is_set_name(name) && std::filesystem::exists(deleting_path(path), error)) {
    return make_error(ErrorCode::not_found, "there is no set " + name + " any more: its deletion has begun, and `ordinalctl delete " +
                                                name + "` ends it (" + deleting_path(path) + ")");
  }
  std::string known;
  if (const auto names = set_names(directory)) {
    for (const std::string& each : names.value()) {
      known += (known.empty() ? "; there are " : ", ") + each;
    }
  }
  return make_error(ErrorCode::not_found, "there is no set " + name + ": no file " + path + known);
}

}  // namespace ordinald::ctl
