#pragma once

#include <nlohmann/json.hpp>

#include "agent/holder.hpp"

/// A holder among the members of a publication, and a Tenure, in a record or a ledger's file. Throws nlohmann's exceptions, as their
/// readers expect.
namespace ordinald::agent {

inline void put_holder(nlohmann::json& j, const Holder& holder) {
  j["podNamespace"] = holder.pod_namespace;
  j["podName"] = holder.pod_name;
  j["podUid"] = holder.pod_uid;
  j["serviceAccount"] = holder.service_account;
  if (!holder.unit.empty()) {  // also absent in what was written before there were units
    j["unit"] = holder.unit;
  }
}

inline void get_holder(const nlohmann::json& j, Holder& holder) {
  j.at("podNamespace").get_to(holder.pod_namespace);
  j.at("podName").get_to(holder.pod_name);
  j.at("podUid").get_to(holder.pod_uid);
  j.at("serviceAccount").get_to(holder.service_account);
  holder.unit = j.value("unit", std::string{});
}

inline void to_json(nlohmann::json& j, const Tenure& t) {
  j["target"] = t.target;
  j["from"] = t.from;
  j["to"] = t.to;
  j["ended"] = t.ended;
  j["bootId"] = t.boot_id;
  if (t.block) {
    j["block"] = true;
  }
  if (t.exclusive) {
    j["exclusive"] = true;
  }
  put_holder(j, t.holder);
}

inline void from_json(const nlohmann::json& j, Tenure& t) {
  get_holder(j, t.holder);
  j.at("target").get_to(t.target);
  j.at("from").get_to(t.from);
  j.at("to").get_to(t.to);
  j.at("ended").get_to(t.ended);
  j.at("bootId").get_to(t.boot_id);
  t.block = j.value("block", false);
  t.exclusive = j.value("exclusive", false);
}

}  // namespace ordinald::agent
