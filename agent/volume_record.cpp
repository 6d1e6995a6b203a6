#include "agent/volume_record.hpp"
#include "agent/checksum.hpp"
#include "agent/holder_json.hpp"

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <limits>
#include <nlohmann/json.hpp>

namespace ordinald::agent {
namespace {

using nlohmann::json;

constexpr int deepest = 16;
constexpr std::array contents{Content::blank, Content::formatting, Content::formatted, Content::raw};

template <std::size_t N>
std::array<std::uint8_t, N> random_bytes() {
  std::array<std::uint8_t, N> bytes{};
  // Up to 256 bytes come whole, or the call fails only before the pool is seeded at boot (getrandom(2)); then it waits.
  std::size_t have = 0;
  while (have < N) {
    const ssize_t got = ::getrandom(bytes.data() + have, N - have, 0);
    if (got > 0) {
      have += static_cast<std::size_t>(got);
    }
  }
  return bytes;
}

void append_hex(std::string& text, std::uint8_t byte) {
  constexpr std::string_view digits = "0123456789abcdef";
  text += digits[byte >> 4U];
  text += digits[byte & 15U];
}

/// The library wraps a negative number into an unsigned one.
template <class Unsigned>
void get_unsigned(const json& file, const char* key, Unsigned& to) {
  const json& value = file.at(key);
  if (!value.is_number_unsigned()) {
    throw json::type_error::create(302, std::string{key} + " must be a whole number, not negative", &value);
  }
  const auto number = value.get<std::uint64_t>();
  to = static_cast<Unsigned>(std::min<std::uint64_t>(number, std::numeric_limits<Unsigned>::max()));
}

constexpr const char* checksum_key = "checksum";

/// As a person reads it. Names come from outside: what is no UTF-8 was refused by csi/convert, and is replaced here all the same rather
/// than thrown on.
std::string text_of(const json& file) { return file.dump(2, ' ', false, json::error_handler_t::replace) + "\n"; }

/// CRC-32 of the file's text without it.
std::string checksum_of(const json& file) { return crc32_hex(text_of(file)); }

/// A flipped bit in a name or a size is good JSON all the same. A file without a checksum is a person's.
bool checksum_holds(json& file) {
  const auto found = file.is_object() ? file.find(checksum_key) : file.end();
  if (found == file.end()) {
    return true;
  }
  const auto checksum = found->get<json>();
  file.erase(found);
  return checksum == checksum_of(file);
}

Result<VolumeRecord> from_json(const json& file) {
  const auto refuse = [](const std::string& what) { return mount::make_error(ErrorCode::failed_precondition, what); };
  if (!file.is_object()) {
    return refuse("it is not a JSON object");
  }
  const auto schema = file.find("schema");
  if (schema == file.end() || !schema->is_number_integer()) {
    return refuse("it has no schema number");
  }
  if (*schema != VolumeRecord::schema) {
    return refuse("its schema is " + schema->dump() + ", this agent knows " + std::to_string(VolumeRecord::schema));
  }
  VolumeRecord record;
  file.at("id").get_to(record.id);
  file.at("name").get_to(record.name);
  file.at("pool").get_to(record.pool);
  get_unsigned(file, "size", record.size);
  get_unsigned(file, "createdSize", record.created_size);
  get_unsigned(file, "blockSize", record.block_size);
  file.at("multiNode").get_to(record.multi_node);
  file.at("fsType").get_to(record.fs_type);
  record.created_fs_type = file.value("createdFsType", record.fs_type);
  file.at("fsUuid").get_to(record.fs_uuid);
  get_unsigned(file, "fsGrownFor", record.fs_grown_for);
  file.at("mkfsOptions").get_to(record.mkfs_options);
  file.at("provisioned").get_to(record.provisioned);
  file.at("deleting").get_to(record.deleting);
  file.at("accessTypes").get_to(record.access_types);
  file.at("parameters").get_to(record.parameters);
  file.at("metadata").get_to(record.metadata);
  file.at("created").get_to(record.created);
  record.adopted_from = file.value("adoptedFrom", std::string{});
  record.terms_open = file.value("termsOpen", false);
  record.label_stale = file.value("labelStale", false);
  // Not in the records of before there were identities.
  if (file.contains("identity")) {
    file.at("history").get_to(record.history);
    file.at("claim").at("namespace").get_to(record.claim.name_space);
    file.at("claim").at("name").get_to(record.claim.name);
    const auto identity = parse_identity(file.at("identity").get<std::string>());
    if (!identity) {
      return refuse("its identity is " + file.at("identity").dump());
    }
    record.identity = *identity;
  }
  const auto content = file.at("content").get<std::string>();
  const auto* found = std::ranges::find_if(contents, [&](Content c) { return to_string(c) == content; });
  if (found == contents.end()) {
    return refuse("its content is \"" + content + "\"");
  }
  record.content = *found;
  if (!is_volume_id(record.id)) {
    return refuse("its id can't be a volume's");
  }
  if (record.size == 0 || record.size > (std::uint64_t{1} << 62U)) {
    return refuse("its size is " + std::to_string(record.size));
  }
  if (record.block_size != 512 && record.block_size != 4096) {
    return refuse("its blockSize is " + std::to_string(record.block_size));
  }
  if (record.fs_type != "ext4" && record.fs_type != "xfs" && record.fs_type != "btrfs") {
    return refuse("its fsType is \"" + record.fs_type + "\"");
  }
  if ((record.content == Content::formatting || record.content == Content::formatted) && record.fs_uuid.empty()) {
    return refuse("its content is " + content + " but it has no fsUuid");
  }
  return record;
}

}  // namespace

std::string_view to_string(Content content) {
  switch (content) {
    case Content::blank:
      return "blank";
    case Content::formatting:
      return "formatting";
    case Content::formatted:
      return "formatted";
    case Content::raw:
      return "raw";
  }
  return "raw";
}

std::string to_json(const VolumeRecord& record) {
  json file{{"schema", VolumeRecord::schema},
            {"id", record.id},
            {"name", record.name},
            {"pool", record.pool},
            {"size", record.size},
            {"createdSize", record.created_size},
            {"blockSize", record.block_size},
            {"multiNode", record.multi_node},
            {"fsType", record.fs_type},
            {"createdFsType", record.created_fs_type},
            {"fsUuid", record.fs_uuid},
            {"fsGrownFor", record.fs_grown_for},
            {"mkfsOptions", record.mkfs_options},
            {"content", to_string(record.content)},
            {"provisioned", record.provisioned},
            {"deleting", record.deleting},
            {"accessTypes", record.access_types},
            {"parameters", record.parameters},
            {"metadata", record.metadata},
            {"identity", to_string(record.identity)},
            {"claim", {{"namespace", record.claim.name_space}, {"name", record.claim.name}}},
            {"history", record.history},
            {"adoptedFrom", record.adopted_from},
            {"termsOpen", record.terms_open},
            {"labelStale", record.label_stale},
            {"created", record.created}};
  file[checksum_key] = checksum_of(file);
  return text_of(file);
}

Result<VolumeRecord> parse_record(std::string_view text) {
  try {
    // A label comes with whatever file is adopted; what is nested deeper than any record is left out, before it is copied or written.
    const auto shallow = [](int depth, json::parse_event_t /*unused*/, json& /*unused*/) { return depth <= deepest; };
    json file = json::parse(text, shallow, false);
    if (file.is_discarded()) {
      return mount::make_error(ErrorCode::failed_precondition, "it is not JSON (cut short, or overwritten)");
    }
    const bool sound = checksum_holds(file);
    auto record = from_json(file);
    if (record && !sound) {
      return mount::make_error(
          ErrorCode::failed_precondition,
          "its checksum does not fit: a part of it is damaged (or was changed by hand: then take out its line \"checksum\")");
    }
    return record;
  } catch (const json::exception& error) {
    // A missing or mistyped member; the library's text names it.
    return mount::make_error(ErrorCode::failed_precondition, error.what());
  }
}

bool has_other_schema(std::string_view text) {
  const json file = json::parse(text, nullptr, false);
  if (!file.is_object()) {
    return false;
  }
  const auto schema = file.find("schema");
  return schema != file.end() && schema->is_number_integer() && *schema != VolumeRecord::schema;
}

bool is_volume_id(std::string_view id) {
  const auto safe = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
  };
  return !id.empty() && id.size() <= 128 && id.front() != '.' && std::ranges::all_of(id, safe);
}

namespace {

/// What an id of this name begins with.
std::string id_stem(std::string_view name) {
  std::string stem;
  for (const char c : name) {
    if (stem.size() >= 100) {
      break;
    }
    const bool keep = is_volume_id(std::string_view{&c, 1}) || (c == '.' && !stem.empty());
    stem += keep ? c : '_';
  }
  return stem + '-';
}

}  // namespace

std::string make_volume_id(std::string_view name) {
  std::string id = id_stem(name);
  for (const std::uint8_t byte : random_bytes<4>()) {
    append_hex(id, byte);
  }
  return id;
}

bool is_id_for(std::string_view id, std::string_view name) {
  constexpr std::size_t digits = 8;
  const std::string stem = id_stem(name);
  return is_made_id(id) && id.size() == stem.size() + digits && id.starts_with(stem);
}

bool is_made_id(std::string_view id) {
  constexpr std::size_t digits = 8;
  if (!is_volume_id(id) || id.size() <= digits + 1 || id[id.size() - digits - 1] != '-') {
    return false;
  }
  return id.substr(id.size() - digits).find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

std::string make_uuid() {
  auto bytes = random_bytes<16>();
  bytes[6] = static_cast<std::uint8_t>((bytes[6] & 0x0fU) | 0x40U);
  bytes[8] = static_cast<std::uint8_t>((bytes[8] & 0x3fU) | 0x80U);
  std::string text;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) {
      text += '-';
    }
    append_hex(text, bytes[i]);
  }
  return text;
}

}  // namespace ordinald::agent
