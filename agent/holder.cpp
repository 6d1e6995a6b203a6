#include "agent/holder.hpp"

#include <algorithm>

namespace ordinald::agent {

std::string to_string(const Holder& holder) {
  if (holder.pod_name.empty() && holder.pod_uid.empty() && holder.unit.empty()) {
    return "an unnamed workload";
  }
  std::string text = holder.pod_namespace + "/" + holder.pod_name;
  const std::string uid = holder.pod_uid.empty() ? std::string{} : "uid " + holder.pod_uid;
  const std::string unit = holder.unit.empty() ? std::string{} : "unit " + holder.unit;
  if (!uid.empty() || !unit.empty()) {
    text.append(" (").append(uid).append(uid.empty() || unit.empty() ? "" : ", ").append(unit).append(")");
  }
  return text;
}

bool is_same(const Holder& one, const Holder& other) {
  if (!one.pod_uid.empty() || !other.pod_uid.empty()) {
    return one.pod_uid == other.pod_uid;
  }
  return one.pod_namespace == other.pod_namespace && one.pod_name == other.pod_name && one.unit == other.unit;
}

bool is_unit_name(std::string_view name) {
  constexpr std::string_view others = ":_.\\@-";
  const auto safe = [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || others.find(c) != std::string_view::npos;
  };
  const auto dot = name.rfind('.');
  if (dot == std::string_view::npos || dot == 0 || name.size() > 255 || !std::ranges::all_of(name, safe)) {
    return false;
  }
  const std::string_view kind = name.substr(dot);
  return (kind == ".service" || kind == ".scope" || kind == ".slice") && name[dot - 1] != '@' && name.front() != '@';
}

void remember(std::vector<Tenure>& history, Tenure tenure) {
  history.push_back(std::move(tenure));
  if (history.size() > longest_history) {
    history.erase(history.begin());
  }
}

}  // namespace ordinald::agent
