#pragma once

#include <string>

namespace ordinald::csi {

/// What the plugin says of itself.
struct PluginInfo {
  std::string name = "csi.ordinald.io";
  std::string vendor_version;
  bool controller_expansion = true;  ///< false: growth is NodeExpandVolume's alone (one resizer for all nodes)
};

}  // namespace ordinald::csi
