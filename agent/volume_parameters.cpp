#include "agent/volume_parameters.hpp"

#include "mount/filesystem.hpp"

namespace ordinald::agent {
namespace {

Error refuse(const std::string& key, const std::string& expected) {
  return mount::make_error(ErrorCode::invalid_argument, "parameter " + key + ": expected " + expected);
}

}  // namespace

Result<VolumeParameters> read_parameters(const StringMap& parameters) {
  VolumeParameters result;
  for (const auto& [key, value] : parameters) {
    if (key == "pool") {
      result.pool = value;
    } else if (key == "fsType" || key == "csi.storage.k8s.io/fstype") {
      if (mount::find_filesystem(value) == nullptr) {
        return refuse(key, "ext4, xfs or btrfs");
      }
      if (!result.fs_type.empty() && result.fs_type != value) {
        return refuse(key, "the same value as the other fsType parameter, " + result.fs_type);
      }
      result.fs_type = value;
    } else if (key == "blockSize") {
      if (value != "512" && value != "4096") {
        return refuse(key, "512 or 4096");
      }
      result.block_size = value == "512" ? 512 : 4096;
    } else if (key == "multiNodeModes") {
      if (value != "refuse" && value != "allow") {
        return refuse(key, "refuse or allow");
      }
      result.multi_node = value == "allow";
    } else if (key == "identity") {
      const auto identity = parse_identity(value);
      if (!identity) {
        return refuse(key, "ordinal, claim or none");
      }
      result.identity = *identity;
    } else if (key == "mkfsOptions") {
      result.mkfs_options = value;
    } else if (key == "csi.storage.k8s.io/pvc/name" || key == "csi.storage.k8s.io/pvc/namespace" || key == "csi.storage.k8s.io/pv/name") {
      result.metadata[key] = value;
    } else {
      return mount::make_error(
          ErrorCode::invalid_argument,
          "parameter \"" + key +
              "\" is not known; known are: pool, fsType (or csi.storage.k8s.io/fstype), blockSize, multiNodeModes, "
              "mkfsOptions, identity, and the provisioner's csi.storage.k8s.io/pvc/name, …/pvc/namespace and …/pv/name");
    }
  }
  const Claim claim = read_claim(result.metadata);
  if (result.identity != Identity::none && (claim.name.empty() || claim.name_space.empty())) {
    return refuse("identity",
                  "the volume's claim with it (csi.storage.k8s.io/pvc/name and …/pvc/namespace): have the provisioner run with "
                  "--extra-create-metadata");
  }
  return result;
}

Result<std::string> choose_fs_type(const csi::CreateVolumeArgs& args, const VolumeParameters& parameters, const std::string& fallback) {
  std::string chosen;
  for (const csi::Capability& capability : args.capabilities) {
    if (capability.fs_type.empty()) {
      continue;
    }
    if (mount::find_filesystem(capability.fs_type) == nullptr) {
      return mount::make_error(ErrorCode::invalid_argument,
                               "volume_capabilities: fs_type \"" + capability.fs_type + "\" is not known; ext4, xfs and btrfs are");
    }
    if (!chosen.empty() && chosen != capability.fs_type) {
      return mount::make_error(ErrorCode::invalid_argument, "volume_capabilities: two filesystems are named, " + chosen + " and " +
                                                                capability.fs_type + "; a volume holds one");
    }
    chosen = capability.fs_type;
  }
  if (!chosen.empty()) {
    return chosen;
  }
  return parameters.fs_type.empty() ? fallback : parameters.fs_type;
}

Result<void> check_options(const std::string& fs_type, const std::string& options, std::uint64_t size, std::uint32_t block_size) {
  const mount::Filesystem& filesystem = *mount::find_filesystem(fs_type);
  TRY(const auto arguments, filesystem.mkfs_options(options, block_size));
  return arguments.empty() ? mount::success() : filesystem.mkfs_fits(arguments, size, block_size);
}

}  // namespace ordinald::agent
