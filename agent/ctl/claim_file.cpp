#include "agent/ctl/claim_file.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>

#include "agent/ctl/claim_words.hpp"
#include "agent/json_fields.hpp"
#include "agent/volume_parameters.hpp"

namespace ordinald::ctl {
namespace {

using agent::Field;
using agent::key_path;
using agent::read_choice;
using agent::read_integer;
using agent::read_object;
using agent::read_string;
using agent::store;
using agent::unexpected;
using mount::Error;
using mount::ErrorCode;
using mount::make_error;
using mount::success;
using nlohmann::json;

constexpr std::uint64_t largest_size = std::uint64_t{1} << 60U;

constexpr std::array<std::string_view, 3> fs_types{"ext4", "xfs", "btrfs"};
constexpr std::array<std::string_view, 2> modes{"ReadWriteOncePod", "ReadWriteOnce"};
constexpr std::array<std::string_view, 2> managements{"OrderedReady", "Parallel"};
constexpr std::array<std::string_view, 2> updates{"RollingUpdate", "OnDelete"};
constexpr std::array<std::string_view, 2> retentions{"Retain", "Delete"};

bool is_template_unit(std::string_view text) {
  constexpr std::string_view end = "@.service";
  if (!text.ends_with(end) || text.size() <= end.size() || text.size() > 200) {
    return false;
  }
  text.remove_suffix(end.size());
  return std::ranges::all_of(text, [](char c) { return is_letter(c) || is_digit(c) || std::string_view{":-_.\\"}.contains(c); });
}

bool is_ipv4(std::string_view text) {
  in_addr address{};
  return inet_pton(AF_INET, std::string{text}.c_str(), &address) == 1;
}

bool is_account(std::string_view text) {
  return !text.empty() && text.size() <= 256 &&
         std::ranges::all_of(text, [](char c) { return is_letter(c) || is_digit(c) || std::string_view{"_-.$@"}.contains(c); });
}

bool is_mode(std::string_view text) {
  return (text.size() == 3 || text.size() == 4) && std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '7'; });
}

bool is_mount_path(std::string_view text) {
  const std::array<std::string, 3> values{"s", "0", "t"};
  const auto path = fill(text, values);
  if (!path || !path->starts_with('/') || path->ends_with('/') || path->size() >= 2048 || path->contains("//")) {
    return false;
  }
  return std::ranges::none_of(
             *path, [](char c) { return static_cast<unsigned char>(c) <= 0x20 || c == 0x7f || std::string_view{"\"\\$`'"}.contains(c); }) &&
         std::ranges::none_of(std::filesystem::path{*path}, [](const auto& part) { return part == ".." || part == "."; });
}

mount::Result<std::uint64_t> read_size(const json& value, std::string_view path) {
  constexpr std::string_view expected = "a size of whole MiB, such as \"10GiB\" or \"512MiB\"";
  constexpr std::array<std::string_view, 3> units{"Mi", "Gi", "Ti"};
  if (!value.is_string()) {
    return unexpected(path, expected, value);
  }
  std::string_view text = value.get_ref<const std::string&>();
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  if (text.ends_with('B')) {
    text.remove_suffix(1);
  }
  const auto* const unit = std::ranges::find(units, text);
  if (error != std::errc{} || number == 0 || unit == units.end()) {
    return unexpected(path, expected, value);
  }
  const auto shift = 20 + (10 * static_cast<unsigned>(unit - units.begin()));
  if (number > (largest_size >> shift)) {
    return unexpected(path, "a size of at most 1 EiB", value);
  }
  return number << shift;
}

mount::Result<std::vector<std::string>> read_mount_options(const json& value, const std::string& path) {
  // What an option says may be a secret: it is never shown.
  const auto refuse = [](const std::string& where) {
    return make_error(ErrorCode::invalid_argument, where + ": expected mount options, each a string of its own");
  };
  if (!value.is_array()) {
    return refuse(path);
  }
  std::vector<std::string> options;
  for (std::size_t i = 0; i < value.size(); ++i) {
    if (!value[i].is_string() || value[i].get_ref<const std::string&>().empty()) {
      return refuse(path + "[" + std::to_string(i) + "]");
    }
    options.push_back(value[i].get<std::string>());
  }
  return options;
}

mount::Result<std::map<std::string, std::string>> read_volume_parameters(const json& value, const std::string& path) {
  std::map<std::string, std::string> parameters;
  if (!value.is_object()) {
    return unexpected(path, "an object", value);
  }
  for (const auto& [key, each] : value.items()) {
    const std::string here = key_path(path, key);
    if (key == "pool" || key == "fsType" || key == "identity" || key.contains('/')) {
      return make_error(ErrorCode::invalid_argument,
                        here + ": it is not given here; pool and fsType are keys of the template, and the volume is bound to its ordinal");
    }
    TRY(parameters[key], read_string(each, here, "a string", [](std::string_view) { return true; }));
  }
  if (auto known = agent::read_parameters(parameters); !known) {
    return known.error().with_context(path);
  }
  return parameters;
}

constexpr Field<ClaimTemplate> template_fields[] = {
    {"name", [](ClaimTemplate& of, const json& value,
                const std::string& path) { return store(of.name, read_string(value, path, label_words, is_label)); }},
    {"size", [](ClaimTemplate& of, const json& value, const std::string& path) { return store(of.size, read_size(value, path)); }},
    {"fsType", [](ClaimTemplate& of, const json& value,
                  const std::string& path) { return store(of.fs_type, agent::read_word(value, path, fs_types)); }},
    {"mountOptions", [](ClaimTemplate& of, const json& value,
                        const std::string& path) { return store(of.mount_options, read_mount_options(value, path)); }},
    {"pool", [](ClaimTemplate& of, const json& value,
                const std::string& path) { return store(of.pool, read_string(value, path, label_words, is_label)); }},
    {"accessMode",
     [](ClaimTemplate& of, const json& value, const std::string& path) { return store(of.mode, read_choice(value, path, modes)); }},
    {"parameters", [](ClaimTemplate& of, const json& value,
                      const std::string& path) { return store(of.parameters, read_volume_parameters(value, path)); }},
};

mount::Result<void> require_keys(const json& object, const std::string& path, std::span<const std::string_view> keys) {
  for (const std::string_view key : keys) {
    if (!object.contains(key)) {
      return make_error(ErrorCode::invalid_argument, key_path(path, key) + ": expected it to be given, found nothing");
    }
  }
  return success();
}

mount::Result<std::vector<ClaimTemplate>> read_templates(const json& value, const std::string& path) {
  if (!value.is_array() || value.empty()) {
    return unexpected(path, "an array of at least one template", value);
  }
  constexpr std::array<std::string_view, 2> needed{"name", "size"};
  std::vector<ClaimTemplate> templates;
  for (std::size_t i = 0; i < value.size(); ++i) {
    const std::string here = path + "[" + std::to_string(i) + "]";
    ClaimTemplate of;
    TRYV(read_object<ClaimTemplate>(of, value[i], here, template_fields));
    TRYV(require_keys(value[i], here, needed));
    if (std::ranges::find(templates, of.name, &ClaimTemplate::name) != templates.end()) {
      return unexpected(here + ".name", "a name that no other template has", value[i].at("name"));
    }
    templates.push_back(std::move(of));
  }
  return templates;
}

constexpr Field<ClaimSet> retention_fields[] = {
    {"whenDeleted", [](ClaimSet& set, const json& value,
                       const std::string& path) { return store(set.when_deleted, read_choice(value, path, retentions)); }},
    {"whenScaled", [](ClaimSet& set, const json& value,
                      const std::string& path) { return store(set.when_scaled, read_choice(value, path, retentions)); }},
};

constexpr Field<ClaimSet> set_fields[] = {
    {"set", [](ClaimSet& set, const json& value,
               const std::string& path) { return store(set.name, read_string(value, path, set_name, is_set_name)); }},
    {"serviceName", [](ClaimSet& set, const json& value,
                       const std::string& path) { return store(set.service_name, read_string(value, path, label_words, is_label)); }},
    {"replicas", [](ClaimSet& set, const json& value,
                    const std::string& path) { return store(set.replicas, read_integer(value, path, 0, most_replicas)); }},
    {"startOrdinal", [](ClaimSet& set, const json& value,
                        const std::string& path) { return store(set.start_ordinal, read_integer(value, path, 0, largest_ordinal)); }},
    {"minReadySeconds",
     [](ClaimSet& set, const json& value, const std::string& path) { return store(set.min_ready, read_integer(value, path, 0, 86400)); }},
    {"podManagementPolicy", [](ClaimSet& set, const json& value,
                               const std::string& path) { return store(set.management, read_choice(value, path, managements)); }},
    {"updateStrategy",
     [](ClaimSet& set, const json& value, const std::string& path) { return store(set.update, read_choice(value, path, updates)); }},
    {"unit",
     [](ClaimSet& set, const json& value, const std::string& path) {
       return store(set.unit, read_string(value, path, "a template unit, such as \"postgres@.service\"", is_template_unit));
     }},
    {"addressBase",
     [](ClaimSet& set, const json& value, const std::string& path) {
       return store(set.address_base, read_string(value, path, "an IPv4 address, such as \"127.0.10.1\"", is_ipv4));
     }},
    {"volumeClaimTemplates",
     [](ClaimSet& set, const json& value, const std::string& path) { return store(set.templates, read_templates(value, path)); }},
    {"retentionPolicy",
     [](ClaimSet& set, const json& value, const std::string& path) { return read_object<ClaimSet>(set, value, path, retention_fields); }},
    {"mountPath",
     [](ClaimSet& set, const json& value, const std::string& path) {
       return store(set.mount_path,
                    read_string(value, path,
                                "an absolute path without \"..\", blanks, quotes and dollars, with {set}, {ordinal} and {template} in it",
                                is_mount_path));
     }},
    {"owner", [](ClaimSet& set, const json& value,
                 const std::string& path) { return store(set.owner, read_string(value, path, "a user's name or number", is_account)); }},
    {"group", [](ClaimSet& set, const json& value,
                 const std::string& path) { return store(set.group, read_string(value, path, "a group's name or number", is_account)); }},
    {"mode", [](ClaimSet& set, const json& value,
                const std::string& path) { return store(set.mode, read_string(value, path, "an octal mode, such as \"0700\"", is_mode)); }},
};

/// What must hold of a set as a whole.
mount::Result<void> check_set(const ClaimSet& set) {
  const std::int64_t last = set.start_ordinal + std::max<std::int64_t>(set.replicas, 1) - 1;
  if (!set.address_base.empty() &&
      static_cast<std::uint64_t>(last) > std::numeric_limits<std::uint32_t>::max() - address_number(set.address_base)) {
    return make_error(ErrorCode::invalid_argument,
                      "addressBase: there are no addresses from " + set.address_base + " on for ordinal " + std::to_string(last));
  }
  const bool several = set.templates.size() > 1;
  if (!set.mount_path.contains("{ordinal}") || (several && !set.mount_path.contains("{template}"))) {
    return make_error(ErrorCode::invalid_argument, std::string{"mountPath: expected {ordinal}"} + (several ? " and {template}" : "") +
                                                       " in it, found \"" + set.mount_path + "\", where two volumes would meet");
  }
  for (const ClaimTemplate& of : set.templates) {
    if (claim_name(of, set, last).size() > 128) {
      return make_error(ErrorCode::invalid_argument,
                        "volumeClaimTemplates: the claim's name " + claim_name(of, set, last) + " is longer than 128 characters");
    }
  }
  return success();
}

}  // namespace

mount::Result<ClaimSet> parse_claim_set(std::string_view text, const std::string& origin) {
  const auto parse = [&]() -> mount::Result<ClaimSet> {
    TRY(const json document, agent::parse_strict_json(text, agent::JsonLimits{.comments = true}));
    ClaimSet set;
    TRYV(read_object<ClaimSet>(set, document, "", set_fields));
    constexpr std::array<std::string_view, 2> needed{"set", "volumeClaimTemplates"};
    TRYV(require_keys(document, "", needed));
    if (set.service_name.empty()) {
      set.service_name = set.name;
    }
    TRYV(check_set(set));
    return set;
  };
  auto set = parse();
  return set ? std::move(set) : mount::Result<ClaimSet>{set.error().with_context(origin)};
}

}  // namespace ordinald::ctl
