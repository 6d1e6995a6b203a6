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

std::string or_default(const std::string& text) { return text.empty() ? "the agent's default" : text; }

void add_word(std::string& text, const std::string& word) { text += (text.empty() ? "" : ", ") + word; }

/// What of a template only its making reads.
std::string made_otherwise(const ClaimTemplate& before, const ClaimTemplate& after) {
  std::string text;
  if (before.fs_type != after.fs_type) {
    add_word(text, "fsType " + or_default(before.fs_type) + " -> " + or_default(after.fs_type));
  }
  if (before.pool != after.pool) {
    add_word(text, "pool " + or_default(before.pool) + " -> " + or_default(after.pool));
  }
  if (before.parameters != after.parameters) {
    add_word(text, "parameters");
  }
  return text;
}

}  // namespace

std::vector<std::string> late_changes(const ClaimSet& before, const ClaimSet& after, const std::map<std::string, KnownVolume>& volumes) {
  std::vector<std::string> said;
  std::string claimed_anew;
  for (const ClaimTemplate& of : after.templates) {
    const auto old = std::ranges::find(before.templates, of.name, &ClaimTemplate::name);
    if (old == before.templates.end()) {
      add_word(claimed_anew, "template " + of.name);
      continue;
    }
    if (old->mount_options != of.mount_options || old->mode != of.mode) {
      add_word(claimed_anew, std::string{old->mode != of.mode ? "accessMode" : "mountOptions"} + " of " + of.name);
    }
    const std::string changed = made_otherwise(*old, of);
    std::string there;
    for (const Step& step : plan_deletion(after, volumes)) {  // of all ordinals, also of those scaled away
      if (step.of == of.name) {
        add_word(there, step.claim);
      }
    }
    if (!changed.empty() && !there.empty()) {
      said.push_back("template " + of.name + ": " + changed + ": for volumes made from now on; as they were made stay " + there);
    }
  }
  if (before.mount_path != after.mount_path) {
    add_word(claimed_anew, "mountPath");
  }
  if (before.owner != after.owner || before.group != after.group || before.mode != after.mode) {
    add_word(claimed_anew, "owner, group and mode");
  }
  if (!claimed_anew.empty() && before.replicas > 0) {
    said.push_back(claimed_anew + ": from an ordinal's next claim on, that is, when its unit was stopped and is started again");
  }
  return said;
}

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
