#include "agent/admin/adoption_view.hpp"

#include <nlohmann/json.hpp>

namespace ordinald::agent {
namespace {

using nlohmann::json;

const char* kind_text(mount::FileKind kind) {
  switch (kind) {
    case mount::FileKind::regular:
      return "image file";
    case mount::FileKind::block_device:
      return "block device";
    case mount::FileKind::directory:
      return "directory";
    case mount::FileKind::symlink:
      return "symlink";
    case mount::FileKind::none:
    case mount::FileKind::other:
      break;
  }
  return "other";
}

json holds_json(const mount::Survey& found) {
  if (found.kind == mount::FileKind::none) {
    return json::object();
  }
  json signatures = json::array();
  for (const mount::Signature& each : found.signatures) {
    signatures.push_back({{"usage", each.usage}, {"type", each.type}, {"uuid", each.uuid}, {"label", each.label}});
  }
  const mount::Signature only = found.signatures.size() == 1 ? found.signatures.front() : mount::Signature{};
  return {{"kind", kind_text(found.kind)},
          {"size", found.size},
          {"allocated", found.allocated},
          {"type", only.type},
          {"uuid", only.uuid},
          {"label", only.label},
          {"filesystemSize", found.filesystem_size},
          {"total", found.total},
          {"used", found.used},
          {"names", found.names},
          {"nameCount", found.name_count},
          {"inUse", found.in_use},
          {"backing", found.backing},
          {"signatures", std::move(signatures)}};
}

json copy_json(const AdoptionPlan& plan) {
  return plan.copy ? json{{"file", plan.copy->file}, {"thick", plan.copy->thick}, {"keepFree", plan.copy->keep_free}} : json{};
}

}  // namespace

json adoption_json(VolumeManager& volumes, const AdoptionPlan& plan, const NodeLook& node) {
  const VolumeRecord& record = plan.record;
  const bool is_volume = volumes.core().records->find(record.id) != nullptr;
  return {{"holds", holds_json(plan.found)},
          {"becomes",
           {{"name", record.name},
            {"claim", record.claim.name.empty() ? "" : record.claim.name_space + "/" + record.claim.name},
            {"identity", to_string(record.identity)},
            {"pool", record.pool},
            {"blockSize", record.block_size}}},
          {"copy", copy_json(plan)},
          {"refusals", plan.refusals},
          {"note", plan.note},
          {"volume", is_volume ? volume_json(volumes, record.id, node) : json{}}};
}

}  // namespace ordinald::agent
