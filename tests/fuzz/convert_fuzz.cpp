/// Any message as each request of the protocol: refused with INVALID_ARGUMENT and a text, or converted, and then what the port gets is
/// within what csi/volume_ops and csi/checks promise of it. Whatever secrets and mount flags hold, no refusal and no log line shows it. The
/// first byte says which request; the others are its bytes on the wire.
#include <google/protobuf/descriptor.h>
#include <google/protobuf/stubs/logging.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "csi/checks.hpp"
#include "csi/convert.hpp"
#include "csi/redact.hpp"
#include "tests/fuzz/must.hpp"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

namespace {

using namespace ordinald;
using namespace ordinald::csi;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using ordinald::fuzz::must;
using Random = std::minstd_rand;

// --- what the port may rely on ---

void check_id(const std::string& id) { must(!id.empty() && id.size() <= string_limit && check_controls("id", id)); }

void check_path(const std::string& path) {
  must(path.starts_with('/') && path.size() < path_limit && check_controls("path", path));
  must(path == "/" || !path.ends_with('/'));
  must(path.find("//") == std::string::npos && (path + "/").find("/../") == std::string::npos &&
       (path + "/").find("/./") == std::string::npos);
  must(to_path("path", path).value() == path);
}

void check_optional_path(const std::string& path) {
  if (!path.empty()) check_path(path);
}

void check_strings(const StringMap& map) {
  std::size_t total = 0;
  for (const auto& [key, value] : map) {
    total += key.size() + value.size();
  }
  must(total <= map_limit);
}

void check_capability(const Capability& capability) {
  const auto mode = static_cast<int>(capability.mode);
  must(mode >= 1 && mode <= 7);
  must(!capability.block || (capability.fs_type.empty() && capability.mount_flags.empty() && !capability.group));
  must(capability.fs_type.find_first_of("/ \n") == std::string::npos && capability.fs_type.size() <= string_limit);
  must(capability.group != UINT32_MAX);
  std::size_t total = 0;
  for (const std::string& flag : capability.mount_flags) {
    must(!flag.empty() && check_controls("flag", flag));
    total += flag.size();
  }
  must(total <= 4096);
}

void check_range(const CapacityRange& range) {
  must(range.required >= 0 && range.limit >= 0 && (range.limit == 0 || range.required <= range.limit));
}

void check_capabilities(const std::vector<Capability>& capabilities) { std::ranges::for_each(capabilities, check_capability); }

void check(const std::string& id) { check_id(id); }
void check(const PageArgs& args) { must(args.max_entries >= 0 && args.starting_token.size() <= string_limit); }
void check(const UnstageArgs& args) {
  check_id(args.volume_id);
  check_path(args.staging_path);
}
void check(const UnpublishArgs& args) {
  check_id(args.volume_id);
  check_path(args.target_path);
}
void check(const StatsArgs& args) {
  check_id(args.volume_id);
  must(!args.volume_path.empty() && check_path_text("path", args.volume_path));
  check_optional_path(args.staging_path);
}
void check(const NodeHealthArgs& args) {
  check_id(args.volume_id);
  check_optional_path(args.publish_path);
  check_optional_path(args.staging_path);
}
void check(const NodeExpandArgs& args) {
  check_id(args.volume_id);
  must(!args.volume_path.empty() && check_path_text("path", args.volume_path));
  check_optional_path(args.staging_path);
  check_range(args.capacity);
  if (args.capability) check_capability(*args.capability);
}
void check(const ControllerExpandArgs& args) {
  check_id(args.volume_id);
  check_range(args.capacity);
  must(args.capacity.required > 0 || args.capacity.limit > 0);
  if (args.capability) check_capability(*args.capability);
}
void check(const CapacityArgs& args) {
  check_capabilities(args.capabilities);
  check_strings(args.parameters);
  if (args.topology) check_strings(*args.topology);
}
void check(const ValidateArgs& args) {
  check_id(args.volume_id);
  must(!args.capabilities.empty());
  check_capabilities(args.capabilities);
  check_strings(args.context);
  check_strings(args.parameters);
}
void check(const CreateVolumeArgs& args) {
  check_id(args.name);
  must(!args.capabilities.empty());
  check_capabilities(args.capabilities);
  check_range(args.capacity);
  check_strings(args.parameters);
  std::ranges::for_each(args.requisite, check_strings);
}
void check(const StageArgs& args) {
  check_id(args.volume_id);
  check_path(args.staging_path);
  check_capability(args.capability);
  check_strings(args.publish_context);
  check_strings(args.volume_context);
}
void check(const PublishArgs& args) {
  check_id(args.volume_id);
  check_path(args.target_path);
  check_optional_path(args.staging_path);
  check_capability(args.capability);
  check_strings(args.publish_context);
  check_strings(args.volume_context);
}

void check_error(const mount::Error& error) {
  must(error.code == mount::ErrorCode::invalid_argument && !error.message.empty());
  must(error.message.find('\n') == std::string::npos);
}

void check_answer(const Result<void>& args) {
  if (!args) check_error(args.error());
}
template <class Args>
void check_answer(const Result<Args>& args) {
  args ? check(args.value()) : check_error(args.error());
}

// --- secrets ---

constexpr std::string_view marker = "SeCrEt";

/// All that is hidden, and all within, becomes the marker.
void hide(Message& message, bool hidden) {
  const auto& reflection = *message.GetReflection();
  std::vector<const FieldDescriptor*> fields;
  reflection.ListFields(message, &fields);
  for (const auto* field : fields) {
    const bool now = hidden || field->options().GetExtension(v1::csi_secret) || field->name() == "mount_flags";
    const int count = field->is_repeated() ? reflection.FieldSize(message, field) : 1;
    for (int i = 0; i < count; ++i) {
      if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
        hide(field->is_repeated() ? *reflection.MutableRepeatedMessage(&message, field, i) : *reflection.MutableMessage(&message, field),
             now);
      } else if (now && field->cpp_type() == FieldDescriptor::CPPTYPE_STRING) {
        field->is_repeated() ? reflection.SetRepeatedString(&message, field, i, std::string{marker})
                             : reflection.SetString(&message, field, std::string{marker});
      }
    }
  }
}

template <class Request>
void check_request(std::string_view bytes) {
  Request request;
  if (!request.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return;  // gRPC refuses it
  }
  check_answer(to_args(request));
  const std::string line = redact(request);
  must(line.find('\n') == std::string::npos);
  if (bytes.find(marker) != std::string_view::npos) {
    return;
  }
  hide(request, false);
  const auto answer = to_args(request);
  must(answer || answer.error().message.find(marker) == std::string::npos);
  must(redact(request).find(marker) == std::string::npos);
}

// --- mutations that know the messages ---

std::string random_text(std::string text, Random& random) {
  static const std::array<std::string, 14> words{"",
                                                 "/a/b",
                                                 "/a//b/./c/",
                                                 "/a/../b",
                                                 "a/b",
                                                 "ext4",
                                                 "xfs",
                                                 "ro",
                                                 "1000",
                                                 "4294967295",
                                                 "\xc2\x85",
                                                 "\xc3\xa4",
                                                 std::string(129, 'a'),
                                                 "/" + std::string(4100, 'p')};
  if (random() % 3 == 0) {
    return random() % 2 == 0 ? words[random() % words.size()] : text + words[random() % words.size()];
  }
  const std::size_t size = text.size();
  text.resize(size + 32);
  text.resize(LLVMFuzzerMutate(reinterpret_cast<std::uint8_t*>(text.data()), size, text.size()));
  for (char& c : text) {
    c = static_cast<char>(c & 0x7F);  // a string of the protocol is UTF-8
  }
  return text;
}

std::int64_t random_number(Random& random) {
  static constexpr std::array<std::int64_t, 8> numbers{0, 1, -1, 1 << 30, INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN};
  return random() % 2 == 0 ? numbers[random() % numbers.size()] : static_cast<std::int64_t>(random());
}

void mutate(Message& message, Random& random) {
  const auto& type = *message.GetDescriptor();
  const auto& reflection = *message.GetReflection();
  if (type.field_count() == 0) return;
  const auto* field = type.field(static_cast<int>(random() % static_cast<unsigned>(type.field_count())));
  int index = -1;
  if (field->is_repeated()) {
    const int count = reflection.FieldSize(message, field);
    if (count > 0 && random() % 6 == 0) return reflection.RemoveLast(&message, field);
    index = count == 0 || (count < 6 && random() % 3 == 0) ? count : static_cast<int>(random() % static_cast<unsigned>(count));
    if (index == count && field->cpp_type() == FieldDescriptor::CPPTYPE_STRING) reflection.AddString(&message, field, "");
    if (index == count && field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) reflection.AddMessage(&message, field);
  } else if (random() % 12 == 0) {
    return reflection.ClearField(&message, field);
  }
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return mutate(index < 0 ? *reflection.MutableMessage(&message, field) : *reflection.MutableRepeatedMessage(&message, field, index),
                    random);
    case FieldDescriptor::CPPTYPE_STRING:
      return index < 0 ? reflection.SetString(&message, field, random_text(reflection.GetString(message, field), random))
                       : reflection.SetRepeatedString(&message, field, index,
                                                      random_text(reflection.GetRepeatedString(message, field, index), random));
    case FieldDescriptor::CPPTYPE_BOOL:
      return index < 0 ? reflection.SetBool(&message, field, random() % 2 == 0) : void();
    case FieldDescriptor::CPPTYPE_INT32:
      return index < 0 ? reflection.SetInt32(&message, field, static_cast<std::int32_t>(random_number(random))) : void();
    case FieldDescriptor::CPPTYPE_INT64:
      return index < 0 ? reflection.SetInt64(&message, field, random_number(random)) : void();
    case FieldDescriptor::CPPTYPE_ENUM:
      return index < 0 ? reflection.SetEnumValue(&message, field, static_cast<int>(random() % 9)) : void();
    default:
      return;
  }
}

template <class Request>
std::string mutated(std::string_view bytes, Random& random) {
  Request request;
  if (!request.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    request.Clear();
  }
  for (auto times = random() % 3 + 1; times > 0; --times) {
    mutate(request, random);
  }
  return request.SerializeAsString();
}

struct Kind {
  void (*check)(std::string_view);
  std::string (*mutated)(std::string_view, Random&);
};
template <class... Requests>
constexpr std::array<Kind, sizeof...(Requests)> kinds_of() {
  return {Kind{&check_request<Requests>, &mutated<Requests>}...};
}
constexpr auto kinds =
    kinds_of<v1::CreateVolumeRequest, v1::DeleteVolumeRequest, v1::ValidateVolumeCapabilitiesRequest, v1::ListVolumesRequest,
             v1::ControllerListVolumeHealthRequest, v1::ControllerGetVolumeRequest, v1::ControllerGetVolumeHealthRequest,
             v1::GetCapacityRequest, v1::ControllerExpandVolumeRequest, v1::NodeStageVolumeRequest, v1::NodeUnstageVolumeRequest,
             v1::NodePublishVolumeRequest, v1::NodeUnpublishVolumeRequest, v1::NodeGetVolumeStatsRequest, v1::NodeGetVolumeHealthRequest,
             v1::NodeGetStorageHealthRequest, v1::NodeExpandVolumeRequest>();

std::string_view text_of(const std::uint8_t* data, std::size_t size) { return {reinterpret_cast<const char*>(data) + 1, size - 1}; }

}  // namespace

extern "C" int LLVMFuzzerInitialize(int* /*argc*/, char*** /*argv*/) {
  google::protobuf::SetLogHandler(nullptr);  // it complains of each text that is no UTF-8
  return 0;
}

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max_size, unsigned int seed) {
  Random random{seed + 1};
  if (size == 0 || random() % 5 == 0) {
    return LLVMFuzzerMutate(data, size, max_size);
  }
  const std::string bytes = kinds[data[0] % kinds.size()].mutated(text_of(data, size), random);
  if (bytes.size() + 1 > max_size) {
    return LLVMFuzzerMutate(data, size, max_size);
  }
  std::ranges::copy(bytes, data + 1);
  return bytes.size() + 1;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size > 0) {
    kinds[data[0] % kinds.size()].check(text_of(data, size));
  }
  return 0;
}
