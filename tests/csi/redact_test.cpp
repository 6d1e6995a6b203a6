#include "csi/redact.hpp"

#include <catch2/catch.hpp>

#include "csi.pb.h"

using namespace ordinald::csi;
namespace v1 = ::csi::v1;

TEST_CASE("a request's text shows what is no secret, and that secrets are set", "[csi][redact]") {
  v1::NodeStageVolumeRequest request;
  request.set_volume_id("v-1");
  (*request.mutable_secrets())["passphrase"] = "tr0ub4dor";
  (*request.mutable_volume_context())["pool"] = "fast";
  auto& capability = *request.mutable_volume_capability();
  capability.mutable_mount()->set_fs_type("ext4");
  capability.mutable_mount()->add_mount_flags("journal_checksum");
  capability.mutable_access_mode()->set_mode(v1::VolumeCapability::AccessMode::SINGLE_NODE_SINGLE_WRITER);
  CHECK(redact(request) ==
        R"({volume_id="v-1" volume_capability={mount={fs_type="ext4" mount_flags=(hidden)} access_mode={mode=SINGLE_NODE_SINGLE_WRITER}} )"
        R"(secrets=(hidden) volume_context=[{key="pool" value="fast"}]})");
}

TEST_CASE("numbers, flags and unknown enum values are shown", "[csi][redact]") {
  v1::ListVolumesRequest list;
  list.set_max_entries(5);
  CHECK(redact(list) == "{max_entries=5}");
  v1::NodePublishVolumeRequest publish;
  publish.set_readonly(true);
  publish.mutable_volume_capability()->mutable_access_mode()->set_mode(static_cast<v1::VolumeCapability::AccessMode::Mode>(42));
  CHECK(redact(publish) == "{volume_capability={access_mode={mode=42}} readonly=true}");
  v1::CreateVolumeRequest create;
  create.mutable_capacity_range()->set_required_bytes(1LL << 40);
  CHECK(redact(create) == "{capacity_range={required_bytes=1099511627776}}");
}

TEST_CASE("text stays on its line and within its length", "[csi][redact]") {
  CHECK(one_line("a\nb\t\"c\\\x7f") == R"(a\nb\x09\"c\\\x7f)");
  CHECK(one_line("abcdef", 3) == "abc…");
  CHECK(one_line("abü", 3) == "abü");
  CHECK(one_line("abüc", 3) == "abü…");
  CHECK(quote("v") == "\"v\"");
  CHECK(quote(std::string(129, 'x')) == '"' + std::string(128, 'x') + "…\"");
}
