#include "agent/ordinal_identity.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "agent/refuse.hpp"

namespace ordinald::agent {
namespace {

constexpr std::array<std::pair<Identity, std::string_view>, 3> names{
    {{Identity::none, "none"}, {Identity::claim, "claim"}, {Identity::ordinal, "ordinal"}}};

bool is_digits(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

/// RFC 1123.
bool is_label(std::string_view text) {
  constexpr std::size_t longest = 63;
  const auto fits = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'; };
  return !text.empty() && text.size() <= longest && text.front() != '-' && text.back() != '-' && std::ranges::all_of(text, fits);
}

/// Labels with dots between: what a set may be named.
bool are_labels(std::string_view text) {
  const auto dot = text.find('.');
  return is_label(text.substr(0, dot)) && (dot == std::string_view::npos || are_labels(text.substr(dot + 1)));
}

/// `<set>-<ordinal>`: an ordinal is written without leading zeros.
bool is_ordinal_name(std::string_view name) {
  const auto dash = name.rfind('-');
  if (dash == std::string_view::npos || !are_labels(name.substr(0, dash))) {
    return false;
  }
  const std::string_view number = name.substr(dash + 1);
  return is_digits(number) && (number.size() == 1 || number.front() != '0');
}

/// What a claim that reads `<template>-<pod>` has before the pod; empty: it doesn't read so.
std::string_view template_of(std::string_view claim, const std::string& pod) {
  return claim.ends_with("-" + pod) ? claim.substr(0, claim.size() - pod.size() - 1) : std::string_view{};
}

}  // namespace

std::string_view to_string(Identity identity) {
  const auto* const found = std::ranges::find(names, identity, &std::pair<Identity, std::string_view>::first);
  return found == names.end() ? std::string_view{"none"} : found->second;
}

std::optional<Identity> parse_identity(std::string_view text) {
  const auto* const found = std::ranges::find(names, text, &std::pair<Identity, std::string_view>::second);
  return found == names.end() ? std::nullopt : std::optional{found->first};
}

Claim read_claim(const csi::StringMap& map) {
  const auto value = [&](const char* key) {
    const auto found = map.find(key);
    return found == map.end() ? std::string{} : found->second;
  };
  return Claim{.name_space = value("csi.storage.k8s.io/pvc/namespace"), .name = value("csi.storage.k8s.io/pvc/name")};
}

mount::Result<void> check_identity(Identity identity, const Claim& claim, const Holder& holder) {
  if (identity == Identity::none) {
    return mount::success();
  }
  const std::string bound = "it is bound to its " + std::string{to_string(identity)};
  if (claim.name_space.empty() || claim.name.empty()) {
    return refuse(bound + ", but its claim is not known: have the provisioner run with --extra-create-metadata, or give a static volume " +
                  "csi.storage.k8s.io/pvc/namespace and …/pvc/name in its volumeAttributes");
  }
  if (holder.pod_namespace.empty() || holder.pod_name.empty()) {
    return refuse(bound + ", claim " + claim.name_space + "/" + claim.name +
                  ", but who asks is not said: set podInfoOnMount: true in the CSIDriver object");
  }
  const std::string who = "pod " + holder.pod_namespace + "/" + holder.pod_name;
  if (holder.pod_namespace != claim.name_space) {
    return refuse(bound + ", claim " + claim.name_space + "/" + claim.name + "; " + who + " is of another namespace");
  }
  if (identity == Identity::claim) {
    return mount::success();
  }
  if (!is_ordinal_name(holder.pod_name) || !is_label(template_of(claim.name, holder.pod_name))) {
    return refuse(bound + ", claim " + claim.name_space + "/" + claim.name + "; " + who +
                  " is not that ordinal: a claim of its would read <template>-" + holder.pod_name);
  }
  return mount::success();
}

}  // namespace ordinald::agent
