#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "agent/ctl/claim_file.hpp"
#include "agent/ctl/claims.hpp"

/// What has to be done so that a set's volumes are as its claim file says. Pure; any thread.
namespace ordinald::ctl {

enum class Act : std::uint8_t {
  create,
  grow,
  shrink,  ///< which is refused
  retain,  ///< of an ordinal that the set has no more
  remove,
};

struct Step {
  Act act = Act::retain;
  std::string claim{};
  std::string of{};  ///< the template
  std::int64_t ordinal = 0;
  KnownVolume volume{};    ///< as it is; none where it is to be created
  std::uint64_t size = 0;  ///< that it is to have
};

/// By ordinal and template; first the ordinals that the set has, then the others, by whenScaled.
std::vector<Step> plan_set(const ClaimSet& set, const std::map<std::string, KnownVolume>& volumes);

/// Of the whole set, by whenDeleted; what scaling down has left is kept.
std::vector<Step> plan_deletion(const ClaimSet& set, const std::map<std::string, KnownVolume>& volumes);

/// What a changed claim file says that does not reach volumes that there are, or not before the next claim: a sentence each.
std::vector<std::string> late_changes(const ClaimSet& before, const ClaimSet& after, const std::map<std::string, KnownVolume>& volumes);

/// Whether anything is to be done.
bool changes_anything(const std::vector<Step>& steps);

}  // namespace ordinald::ctl
