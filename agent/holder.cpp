#include "agent/holder.hpp"

namespace ordinald::agent {

std::string to_string(const Holder& holder) {
  if (holder.pod_name.empty() && holder.pod_uid.empty()) {
    return "an unnamed workload";
  }
  std::string text = holder.pod_namespace + "/" + holder.pod_name;
  if (!holder.pod_uid.empty()) {
    text += " (uid " + holder.pod_uid + ")";
  }
  return text;
}

void remember(std::vector<Tenure>& history, Tenure tenure) {
  history.push_back(std::move(tenure));
  if (history.size() > longest_history) {
    history.erase(history.begin());
  }
}

}  // namespace ordinald::agent
