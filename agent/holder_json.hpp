#pragma once

#include <nlohmann/json.hpp>

#include "agent/holder.hpp"

/// A Tenure in a record or a ledger's file. Throws nlohmann's exceptions, as their readers expect.
namespace ordinald::agent {

inline void to_json(nlohmann::json& j, const Tenure& t) {
  j = nlohmann::json{{"podNamespace", t.holder.pod_namespace},
                     {"podName", t.holder.pod_name},
                     {"podUid", t.holder.pod_uid},
                     {"serviceAccount", t.holder.service_account},
                     {"target", t.target},
                     {"from", t.from},
                     {"to", t.to},
                     {"ended", t.ended},
                     {"bootId", t.boot_id}};
}

inline void from_json(const nlohmann::json& j, Tenure& t) {
  j.at("podNamespace").get_to(t.holder.pod_namespace);
  j.at("podName").get_to(t.holder.pod_name);
  j.at("podUid").get_to(t.holder.pod_uid);
  j.at("serviceAccount").get_to(t.holder.service_account);
  j.at("target").get_to(t.target);
  j.at("from").get_to(t.from);
  j.at("to").get_to(t.to);
  j.at("ended").get_to(t.ended);
  j.at("bootId").get_to(t.boot_id);
}

}  // namespace ordinald::agent
