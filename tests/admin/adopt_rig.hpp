#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "tests/admin/admin_http.hpp"
#include "tests/support/rig.hpp"
#include "tests/support/workload.hpp"

/// An agent that is asked to adopt, and the filesystems that it is asked for.
namespace ordinald::testing {

using Catch::Contains;
using nlohmann::json;

/// Of the filesystems made here.
inline constexpr const char* uuid = "6d3a2a52-3c5d-4f0e-9a53-0b7f2f6c1d11";

class AdoptRig : public Rig {
 public:
  using Rig::Rig;
  AdminReply post(const json& body) const { return admin_post(root() / "run/admin.sock", "/v1/adopt", body); }
  json plan(json body) const {
    body["dryRun"] = true;
    const AdminReply reply = post(body);
    INFO(reply.body.dump());
    REQUIRE(reply.status == 200);
    return reply.body;
  }
  /// All that stands against it.
  std::string refusals(const fs::path& path, const json& more = json::object()) const {
    json body = more;
    body["path"] = path.string();
    const json planned = plan(body);
    CHECK_FALSE(planned["refusals"].empty());
    CHECK(planned["volume"].is_null());
    // Not planned only: it is not done either, and left as it is.
    body["dryRun"] = false;
    const AdminReply refused = post(body);
    CHECK(refused.status == 409);
    std::string text;
    for (const json& each : planned["refusals"]) {
      constexpr std::size_t beginning = 30;  // behind which a loop device's number may stand
      CHECK_THAT(refused.message(), Contains(each.get<std::string>().substr(0, beginning)));
      text += each.get<std::string>() + "\n";
    }
    return text;
  }
  json adopt(const fs::path& path, const json& more = json::object()) const {
    json body = more;
    body["path"] = path.string();
    const AdminReply reply = post(body);
    INFO(reply.body.dump());
    REQUIRE(reply.status == 200);
    return reply.body;
  }
  json record(const std::string& id) const { return json::parse(read_file(record_of(id))); }
};

std::int64_t size_for(const std::string& type);
/// A filesystem with `db/data` in it, in a file; made without a mount or a loop device.
void make_image(const fs::path& path, const std::string& type, const std::string& fs_uuid = uuid);
fs::path copy_of(const fs::path& path);
bool same(const fs::path& one, const fs::path& other);
/// Runs a command as a person would, by a shell; its exit status.
int run_shell(const std::string& command);
/// Published for db-0, with what it holds.
std::string data_in(AdoptRig& rig, const std::string& id, const std::string& type);

}  // namespace ordinald::testing
