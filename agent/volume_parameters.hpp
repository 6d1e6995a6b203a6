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

}  // namespace ordinald::agent
