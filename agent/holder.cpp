#include "agent/holder.hpp"

#include <algorithm>

namespace ordinald::agent {

bool is_unnamed(const Holder& holder) { return holder.pod_name.empty() && holder.pod_uid.empty() && holder.unit.empty(); }

std::string to_string(const Holder& holder) {
  if (is_unnamed(holder)) {
    return "an unnamed workload";
  }
  const bool named = !holder.pod_namespace.empty() || !holder.pod_name.empty();
  std::string text = named ? holder.pod_namespace + "/" + holder.pod_name : std::string{};
  const std::string uid = holder.pod_uid.empty() ? std::string{} : "uid " + holder.pod_uid;
  const std::string unit = holder.unit.empty() ? std::string{} : "unit " + holder.unit;
  if (!uid.empty() || !unit.empty()) {
    const std::string more = uid + (uid.empty() || unit.empty() ? "" : ", ") + unit;
    text += named ? " (" + more + ")" : more;
  }
  return text;
}

std::string name_for_release(const Holder& holder) {
  return !holder.pod_uid.empty()    ? holder.pod_uid
         : !holder.pod_name.empty() ? holder.pod_namespace + "/" + holder.pod_name
         : !holder.unit.empty()     ? holder.unit
                                    : "unknown";
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
  if (history.size() <= longest_history) {
    return;
  }
  const std::string boot_id = history.back().boot_id;
  auto out = std::ranges::find_if(history, [&](const Tenure& old) { return old.boot_id != boot_id; });
  if (out == history.end()) {
    const auto again = [](const Tenure& old) {
      return [&old](const Tenure& later) {
        return is_same(old.holder, later.holder) && (!is_unnamed(old.holder) || old.target == later.target);
      };
    };
    out = history.begin();
    for (auto old = history.begin(); old != history.end(); ++old) {
      if (const auto later = std::find_if(std::next(old), history.end(), again(*old)); later != history.end()) {
        later->block = later->block || old->block;
        later->exclusive = later->exclusive || old->exclusive;
        out = old;
        break;
      }
    }
  }
  history.erase(out);
}

}  // namespace ordinald::agent
