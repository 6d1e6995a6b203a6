#include "csi/convert.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <string_view>
#include <utility>

#include "csi/checks.hpp"
#include "csi/redact.hpp"

namespace ordinald::csi {
namespace {

using google::protobuf::RepeatedPtrField;
using mount::Error;
using mount::ErrorCode;

constexpr std::size_t mount_flags_limit = 4096;

Error refusal(std::string message) { return mount::make_error(ErrorCode::invalid_argument, std::move(message)); }

Result<AccessMode> to_access_mode(std::string_view field, const v1::VolumeCapability& capability) {
  using Mode = v1::VolumeCapability::AccessMode;
  const int mode = capability.has_access_mode() ? static_cast<int>(capability.access_mode().mode()) : Mode::UNKNOWN;
  if (mode == Mode::UNKNOWN) {
    return refusal(fmt::format("{}.access_mode is missing", field));
  }
  if (!Mode::Mode_IsValid(mode)) {
    return refusal(fmt::format("{}.access_mode.mode is {}, which is no access mode of CSI 1.13", field, mode));
  }
  return static_cast<AccessMode>(mode);
}

/// A filesystem's name as the kernel spells such names; whether it is one of ours is the port's to say.
Result<std::string> to_fs_type(std::string_view field, const std::string& name) {
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '-';
  };
  if (name.size() > string_limit || !std::all_of(name.begin(), name.end(), plain)) {
    return refusal(fmt::format("{}.mount.fs_type is not the name of a filesystem: {}", field, quote(name)));
  }
  return name;
}

Result<std::vector<std::string>> to_mount_flags(std::string_view field, const RepeatedPtrField<std::string>& flags) {
  std::size_t total = 0;
  for (int i = 0; i < flags.size(); ++i) {
    const auto name = fmt::format("{}.mount.mount_flags[{}]", field, i);
    if (flags[i].empty()) {
      return refusal(name + " is empty");
    }
    TRYV(check_controls(name, flags[i]));
    total += flags[i].size();
  }
  if (total > mount_flags_limit) {
    return refusal(fmt::format("{}.mount.mount_flags have {} bytes, more than the {} that CSI allows", field, total, mount_flags_limit));
  }
  return std::vector<std::string>{flags.begin(), flags.end()};
}

Result<std::optional<std::uint32_t>> to_group(std::string_view field, const std::string& text) {
  if (text.empty()) {
    return std::optional<std::uint32_t>{};
  }
  std::uint32_t group = 0;
  const auto* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, group);
  if (error != std::errc{} || stop != end || group == UINT32_MAX) {  // (gid_t)-1 means "leave it" to chown(2)
    return refusal(fmt::format("{}.mount.volume_mount_group must be a group's number in decimal, not {}", field, quote(text)));
  }
  return std::optional{group};
}

Result<Capability> to_capability(std::string_view field, const v1::VolumeCapability& capability) {
  Capability result;
  if (capability.access_type_case() == v1::VolumeCapability::ACCESS_TYPE_NOT_SET) {
    return refusal(fmt::format("{} has no access type: neither block nor mount", field));
  }
  TRY(result.mode, to_access_mode(field, capability));
  result.block = capability.has_block();
  if (capability.has_mount()) {
    const auto& mount = capability.mount();
    TRY(result.fs_type, to_fs_type(field, mount.fs_type()));
    TRY(result.mount_flags, to_mount_flags(field, mount.mount_flags()));
    TRY(result.group, to_group(field, mount.volume_mount_group()));
  }
  return result;
}

/// The capability of a request that must have one.
template <class Request>
Result<Capability> required_capability(const Request& request) {
  if (!request.has_volume_capability()) {
    return refusal("volume_capability is missing");
  }
  return to_capability("volume_capability", request.volume_capability());
}

template <class Request>
Result<std::optional<Capability>> optional_capability(const Request& request) {
  if (!request.has_volume_capability()) {
    return std::optional<Capability>{};
  }
  TRY(auto capability, to_capability("volume_capability", request.volume_capability()));
  return std::optional{std::move(capability)};
}

Result<std::vector<Capability>> to_capabilities(const RepeatedPtrField<v1::VolumeCapability>& capabilities) {
  std::vector<Capability> result;
  for (int i = 0; i < capabilities.size(); ++i) {
    TRY(auto capability, to_capability(fmt::format("volume_capabilities[{}]", i), capabilities[i]));
    result.push_back(std::move(capability));
  }
  return result;
}

Result<std::vector<Capability>> required_capabilities(const RepeatedPtrField<v1::VolumeCapability>& capabilities) {
  if (capabilities.empty()) {
    return refusal("volume_capabilities is missing");
  }
  return to_capabilities(capabilities);
}

/// The range of a request, {0, 0} where it has none.
template <class Request>
Result<CapacityRange> to_capacity(const Request& request) {
  const CapacityRange range{.required = request.capacity_range().required_bytes(), .limit = request.capacity_range().limit_bytes()};
  if (range.required < 0 || range.limit < 0) {
    return refusal(fmt::format("capacity_range has a negative size (required_bytes {}, limit_bytes {})", range.required, range.limit));
  }
  if (range.limit > 0 && range.required > range.limit) {
    return refusal(fmt::format("capacity_range.required_bytes ({}) is more than limit_bytes ({})", range.required, range.limit));
  }
  return range;
}

Result<std::vector<StringMap>> to_topologies(std::string_view field, const RepeatedPtrField<v1::Topology>& topologies) {
  std::vector<StringMap> result;
  for (int i = 0; i < topologies.size(); ++i) {
    TRY(auto segments, to_map(fmt::format("accessibility_requirements.{}[{}].segments", field, i), topologies[i].segments()));
    result.push_back(std::move(segments));
  }
  return result;
}

Result<std::string> to_volume_id(const std::string& volume_id) {
  TRYV(check_required("volume_id", volume_id));
  return volume_id;
}

/// A path that only tells one of a volume's places from another. What is no path of ours goes on as it is, and is found nowhere.
Result<std::string> to_volume_path(const std::string& path) {
  TRYV(check_path_text("volume_path", path));
  auto plain = to_path("volume_path", path);
  return plain ? plain : path;
}

Result<void> refuse_mutable_parameters(const ProtoMap& parameters) {
  if (!parameters.empty()) {
    return refusal("mutable_parameters are not served here (MODIFY_VOLUME is not advertised)");
  }
  return mount::success();
}

Result<PageArgs> to_page(std::int32_t max_entries, const std::string& starting_token) {
  if (max_entries < 0) {
    return refusal(fmt::format("max_entries is negative: {}", max_entries));
  }
  TRYV(check_text("starting_token", starting_token));
  return PageArgs{.max_entries = max_entries, .starting_token = starting_token};
}

}  // namespace

Result<CreateVolumeArgs> to_args(const v1::CreateVolumeRequest& request) {
  CreateVolumeArgs args;
  TRYV(check_required("name", request.name()));
  args.name = request.name();
  TRY(args.capabilities, required_capabilities(request.volume_capabilities()));
  TRY(args.capacity, to_capacity(request));
  TRY(args.parameters, to_map("parameters", request.parameters()));
  TRYV(check_map("secrets", request.secrets()));
  TRYV(refuse_mutable_parameters(request.mutable_parameters()));
  if (request.has_volume_content_source()) {
    return refusal("volume_content_source is not served here (neither CREATE_DELETE_SNAPSHOT nor CLONE_VOLUME is advertised)");
  }
  TRY(args.requisite, to_topologies("requisite", request.accessibility_requirements().requisite()));
  TRYV(to_topologies("preferred", request.accessibility_requirements().preferred()));
  return args;
}

Result<std::string> to_args(const v1::DeleteVolumeRequest& request) {
  TRYV(check_map("secrets", request.secrets()));
  return to_volume_id(request.volume_id());
}

Result<ValidateArgs> to_args(const v1::ValidateVolumeCapabilitiesRequest& request) {
  ValidateArgs args;
  TRY(args.volume_id, to_volume_id(request.volume_id()));
  TRY(args.capabilities, required_capabilities(request.volume_capabilities()));
  TRY(args.context, to_map("volume_context", request.volume_context()));
  TRY(args.parameters, to_map("parameters", request.parameters()));
  TRYV(check_map("secrets", request.secrets()));
  TRYV(refuse_mutable_parameters(request.mutable_parameters()));
  return args;
}

Result<PageArgs> to_args(const v1::ListVolumesRequest& request) { return to_page(request.max_entries(), request.starting_token()); }

Result<PageArgs> to_args(const v1::ControllerListVolumeHealthRequest& request) {
  TRYV(check_map("secrets", request.secrets()));
  return to_page(request.max_entries(), request.starting_token());
}

Result<std::string> to_args(const v1::ControllerGetVolumeRequest& request) { return to_volume_id(request.volume_id()); }

Result<std::string> to_args(const v1::ControllerGetVolumeHealthRequest& request) {
  TRYV(check_map("secrets", request.secrets()));
  return to_volume_id(request.volume_id());
}

Result<CapacityArgs> to_args(const v1::GetCapacityRequest& request) {
  CapacityArgs args;
  TRY(args.capabilities, to_capabilities(request.volume_capabilities()));
  TRY(args.parameters, to_map("parameters", request.parameters()));
  if (request.has_accessible_topology()) {
    TRY(args.topology, to_map("accessible_topology.segments", request.accessible_topology().segments()));
  }
  return args;
}

Result<ControllerExpandArgs> to_args(const v1::ControllerExpandVolumeRequest& request) {
  ControllerExpandArgs args;
  TRY(args.volume_id, to_volume_id(request.volume_id()));
  TRY(args.capacity, to_capacity(request));
  if (args.capacity.required == 0 && args.capacity.limit == 0) {
    return refusal("capacity_range is missing");
  }
  TRYV(check_map("secrets", request.secrets()));
  TRY(args.capability, optional_capability(request));
  return args;
}

Result<StageArgs> to_args(const v1::NodeStageVolumeRequest& request) {
  StageArgs args;
  TRY(args.volume_id, to_volume_id(request.volume_id()));
  TRY(args.staging_path, to_path("staging_target_path", request.staging_target_path()));
  TRY(args.capability, required_capability(request));
  TRY(args.publish_context, to_map("publish_context", request.publish_context()));
  TRY(args.volume_context, to_map("volume_context", request.volume_context()));
  TRYV(check_map("secrets", request.secrets()));
  return args;
}

Result<UnstageArgs> to_args(const v1::NodeUnstageVolumeRequest& request) {
  UnstageArgs args;
  TRY(args.volume_id, to_volume_id(request.volume_id()));
  TRY(args.staging_path, to_path("staging_target_path", request.staging_target_path()));
  return args;
}

Result<PublishArgs> to_args(const v1::NodePublishVolumeRequest& request) {
  PublishArgs args;
  TRY(args.volume_id, to_volume_id(request.volume_id()));
  TRY(args.target_path, to_path("target_path", request.target_path()));
  TRY(args.staging_path, to_optional_path("staging_target_path", request.staging_target_path()));
  TRY(args.capability, required_capability(request));
  args.readonly = request.readonly();
  TRY(args.publish_context, to_map("publish_context", request.publish_context()));
  TRY(args.volume_context, to_map("volume_context", request.volume_context()));
  TRYV(check_map("secrets", request.secrets()));
  return args;
}

Result<UnpublishArgs> to_args(const v1::NodeUnpublishVolumeRequest& request) {
  UnpublishArgs args;
  TRY(args.volume_id, to_volume_id(request.volume_id()));
  TRY(args.target_path, to_path("target_path", request.target_path()));
  return args;
}

Result<StatsArgs> to_args(const v1::NodeGetVolumeStatsRequest& request) {
  StatsArgs args;
  TRY(args.volume_id, to_volume_id(request.volume_id()));
  TRY(args.volume_path, to_volume_path(request.volume_path()));
  TRY(args.staging_path, to_optional_path("staging_target_path", request.staging_target_path()));
  return args;
}

Result<NodeHealthArgs> to_args(const v1::NodeGetVolumeHealthRequest& request) {
  NodeHealthArgs args;
  TRY(args.volume_id, to_volume_id(request.volume_id()));
  TRY(args.publish_path, to_optional_path("volume_publish_path", request.volume_publish_path()));
  TRY(args.staging_path, to_optional_path("staging_target_path", request.staging_target_path()));
  return args;
}

Result<void> to_args(const v1::NodeGetStorageHealthRequest& request) { return check_map("secrets", request.secrets()); }

Result<NodeExpandArgs> to_args(const v1::NodeExpandVolumeRequest& request) {
  NodeExpandArgs args;
  TRY(args.volume_id, to_volume_id(request.volume_id()));
  TRY(args.volume_path, to_volume_path(request.volume_path()));
  TRY(args.staging_path, to_optional_path("staging_target_path", request.staging_target_path()));
  TRY(args.capacity, to_capacity(request));
  TRY(args.capability, optional_capability(request));
  TRYV(check_map("secrets", request.secrets()));
  return args;
}

}  // namespace ordinald::csi
