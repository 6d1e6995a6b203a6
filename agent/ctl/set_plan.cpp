#include "agent/ctl/set_plan.hpp"

#include <algorithm>
#include <tuple>

namespace ordinald::ctl {
namespace {

/// The volumes of ordinals that the set does not have.
std::vector<Step> beyond(const ClaimSet& set, const std::map<std::string, KnownVolume>& volumes, Act act) {
  std::vector<Step> steps;
  for (const auto& [claim, volume] : volumes) {
    for (const ClaimTemplate& of : set.templates) {
      if (!claim.starts_with(of.name + "-")) {
        continue;
      }
      const auto member = split_ordinal_name(claim.substr(of.name.size() + 1));
      if (member && member.value().set == set.name && !has_ordinal(set, member.value().ordinal)) {
        steps.push_back(
            {.act = act, .claim = claim, .of = of.name, .ordinal = member.value().ordinal, .volume = volume, .size = volume.size});
      }
    }
  }
  std::ranges::sort(steps, {}, [](const Step& step) { return std::tuple{step.ordinal, step.of}; });
  return steps;
}

}  // namespace

std::vector<Step> plan_set(const ClaimSet& set, const std::map<std::string, KnownVolume>& volumes) {
  std::vector<Step> steps;
  for (const std::int64_t ordinal : ordinals(set)) {
    for (const ClaimTemplate& of : set.templates) {
      Step step{.claim = claim_name(of, set, ordinal), .of = of.name, .ordinal = ordinal, .size = of.size};
      if (const auto found = volumes.find(step.claim); found == volumes.end()) {
        step.act = Act::create;
      } else {
        step.volume = found->second;
        if (step.volume.size == of.size) {
          continue;
        }
        step.act = step.volume.size < of.size ? Act::grow : Act::shrink;
      }
      steps.push_back(std::move(step));
    }
  }
  std::ranges::move(beyond(set, volumes, set.when_scaled == Retention::remove ? Act::remove : Act::retain), std::back_inserter(steps));
  return steps;
}

std::vector<Step> plan_deletion(const ClaimSet& set, const std::map<std::string, KnownVolume>& volumes) {
  std::vector<Step> steps;
  for (const std::int64_t ordinal : ordinals(set)) {
    for (const ClaimTemplate& of : set.templates) {
      const std::string claim = claim_name(of, set, ordinal);
      if (const auto found = volumes.find(claim); found != volumes.end()) {
        steps.push_back({.act = set.when_deleted == Retention::remove ? Act::remove : Act::retain,
                         .claim = claim,
                         .of = of.name,
                         .ordinal = ordinal,
                         .volume = found->second,
                         .size = found->second.size});
      }
    }
  }
  std::ranges::move(beyond(set, volumes, Act::retain), std::back_inserter(steps));
  return steps;
}

bool changes_anything(const std::vector<Step>& steps) {
  return std::ranges::any_of(steps, [](const Step& step) { return step.act != Act::retain; });
}

}  // namespace ordinald::ctl
