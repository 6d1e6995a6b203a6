#pragma once

#include <string>

#include "agent/volume_record.hpp"

namespace ordinald::agent {

/// The parameters of a Create, read. Defaults as in the README.
struct VolumeParameters {
  std::string pool;     ///< empty: the default pool
  std::string fs_type;  ///< empty: not said
  std::uint32_t block_size = 4096;
  bool multi_node = false;
  std::string mkfs_options;
  Identity identity = Identity::none;
  StringMap metadata;  ///< the provisioner's keys
};

/// invalid_argument: a key that is not known, or a value that can't be, by name.
Result<VolumeParameters> read_parameters(const StringMap& parameters);

/// The one fs_type that the capabilities name, or else the parameter's, or else `fallback`. invalid_argument: one that is not known, or
/// two.
Result<std::string> choose_fs_type(const csi::CreateVolumeArgs& args, const VolumeParameters& parameters, const std::string& fallback);

/// Whether a blank volume of so many bytes can be formatted with the parameter mkfsOptions, which nobody can change any more once it is
/// promised. invalid_argument: why not. What the tool chooses by itself always fits.
Result<void> check_options(const std::string& fs_type, const std::string& options, std::uint64_t size, std::uint32_t block_size);

}  // namespace ordinald::agent
