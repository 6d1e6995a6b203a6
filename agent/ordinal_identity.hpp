#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "agent/holder.hpp"
#include "csi/volume_ops.hpp"
#include "mount/result.hpp"

namespace ordinald::agent {

/// What a volume is bound to (parameter `identity`).
enum class Identity : std::uint8_t {
  none,     ///< nothing is checked
  claim,    ///< its claim's namespace
  ordinal,  ///< its claim's namespace and the ordinal: the claim reads `<template>-<pod name>`
};

std::string_view to_string(Identity identity);
std::optional<Identity> parse_identity(std::string_view text);

/// The claim that a volume was made for.
struct Claim {
  std::string name_space;
  std::string name;
  bool operator==(const Claim&) const = default;
};

/// Of the provisioner's keys (csi.storage.k8s.io/pvc/…), or a static volume's context.
Claim read_claim(const csi::StringMap& map);

/// Whether the holder may have a volume that is bound so. failed_precondition: it is another's (both names), or what is needed to tell is
/// missing, with what to configure. Pure.
///
/// Names are DNS labels and may have dashes; where `data-web-db-0` would be cut is told by the pod's name, which is whole: it is the claim
/// of pod `db-0` by template `data-web`, or of `web-db-0` by `data`, and of no other.
mount::Result<void> check_identity(Identity identity, const Claim& claim, const Holder& holder);

}  // namespace ordinald::agent
