#include "tests/admin/adopt_rig.hpp"

namespace ordinald::testing {

std::int64_t size_for(const std::string& type) { return type == "ext4" ? 16 * mebi : small_size(type); }

void make_image(const fs::path& path, const std::string& type, const std::string& fs_uuid) {
  const fs::path tree = path.parent_path() / "tree";
  fs::create_directories(tree / "db");
  write_file(tree / "db/data", "precious");
  write_file(path, "");
  fs::resize_file(path, static_cast<std::uintmax_t>(size_for(type)));
  if (type == "ext4") {
    REQUIRE(run_tool({"mkfs.ext4", "-q", "-O", "^metadata_csum", "-U", fs_uuid, "-L", "pg", "-d", tree, path}) == 0);
  } else if (type == "btrfs") {
    REQUIRE(run_tool({"mkfs.btrfs", "-q", "-U", fs_uuid, "-L", "pg", "--rootdir", tree, path}) == 0);
  } else {
    const fs::path proto = path.parent_path() / "proto";
    write_file(proto, "/\n0 0\nd--755 0 0\ndb d--755 0 0\ndata ---644 0 0 " + (tree / "db/data").string() + "\n$\n$\n");
    REQUIRE(run_tool({"mkfs.xfs", "-q", "-m", "uuid=" + fs_uuid, "-L", "pg", "-p", proto, path}) == 0);
  }
}

fs::path copy_of(const fs::path& path) {
  const fs::path copy = path.string() + ".before";
  REQUIRE(run_tool({"cp", "--sparse=always", path, copy}) == 0);
  return copy;
}
bool same(const fs::path& one, const fs::path& other) { return run_tool({"cmp", "--quiet", one, other}) == 0; }

int run_shell(const std::string& command) { return run_tool({"/bin/sh", "-c", command}); }

namespace {
const StringMap pod{{"csi.storage.k8s.io/pod.namespace", "host"}, {"csi.storage.k8s.io/pod.name", "db-0"}};
}  // namespace

std::string data_in(AdoptRig& rig, const std::string& id, const std::string& type) {
  const auto capability = mount_capability(single_node_single_writer, type);
  REQUIRE(rig.stage(id, capability, rig.staging("v")) == OK);
  auto request = rig.publish_request(id, capability, rig.staging("v"), rig.target("p"));
  request.mutable_volume_context()->insert(pod.begin(), pod.end());
  REQUIRE(outcome(rig.call(request)) == OK);
  std::string text = read_file(rig.target("p") / "db/data");
  REQUIRE(try_write(rig.target("p") / "db/more", "written") == 0);
  REQUIRE(rig.unpublish(id, rig.target("p")) == OK);
  REQUIRE(rig.unstage(id, rig.staging("v")) == OK);
  return text;
}

}  // namespace ordinald::testing
