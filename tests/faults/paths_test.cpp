// Paths and ids that lead elsewhere: refused or served with the code that is documented, nothing outside touched, the log one line each.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <functional>
#include <regex>
#include <sstream>

#include "tests/faults/corpus.hpp"

namespace ordinald::testing {
namespace {

const auto ext4 = mount_capability(single_node_single_writer, "ext4");
const auto block = block_capability(single_node_single_writer);

/// What is there, with its content: a line for each. Never through a symlink, and no mount is entered.
std::string picture_of(const fs::path& directory) {
  std::map<std::string, std::string> lines;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(directory)) {
    std::string line = std::to_string(static_cast<int>(entry.symlink_status().type()));
    if (entry.is_symlink()) line += " to " + fs::read_symlink(entry.path()).string();
    if (!entry.is_symlink() && entry.is_regular_file()) line += ": " + read_file(entry.path());
    lines[entry.path()] = line;
  }
  std::string text;
  for (const auto& [path, line] : lines) text += path + " " + line + "\n";
  return text;
}

/// Somebody's directory, with what a wrong step could remove: an empty directory, an empty file, files that our own names end like.
fs::path make_outside(const Rig& rig) {
  const fs::path outside = rig.root() / "outside";
  fs::create_directories(outside / "directory/empty");
  for (const char* name : {"file", "empty", "victim.json", "victim.img", "victim.json.damaged"})
    write_file(outside / name, std::string(name) == "empty" ? "" : "somebody's");
  return outside;
}

/// Every line of the log begins with its time: nobody's name or path has begun another one.
void check_log(Rig& rig) {
  std::istringstream log(rig.agent().log());
  int foreign = 0;
  for (std::string line; std::getline(log, line);) {
    const bool good = line.size() > 24 && line[4] == '-' && line[10] == 'T' && line[23] == 'Z' &&
                      std::none_of(line.begin(), line.end(), [](char c) { return (c >= 0 && c < ' ') || c == 0x7f; });
    if (!good && ++foreign < 4) UNSCOPED_INFO(line);
  }
  CHECK(foreign == 0);
}

/// The calls that name a volume, each with its code: `node` and `controller` are the codes for an id that no volume has.
struct Call {
  std::string name{};
  std::function<Outcome(Rig&, const std::string& id, const fs::path& staging, const fs::path& target)> make{};
  grpc::StatusCode unknown = NOT_FOUND;
};

template <class Request>
Outcome with_id(Rig& rig, const std::string& id, const std::function<void(Request&)>& more = {}) {
  Request request;
  request.set_volume_id(id);
  if (more) more(request);
  return outcome(rig.call(request));
}

const std::vector<Call>& calls() {
  using Path = const fs::path&;
  static const std::vector<Call> all = {
      {"Stage", [](Rig& rig, const std::string& id, Path staging, Path) { return rig.stage(id, ext4, staging); }},
      {"Unstage", [](Rig& rig, const std::string& id, Path staging, Path) { return rig.unstage(id, staging); }, OK},
      {"Publish", [](Rig& rig, const std::string& id, Path staging, Path target) { return rig.publish(id, ext4, staging, target); }},
      {"Unpublish", [](Rig& rig, const std::string& id, Path, Path target) { return rig.unpublish(id, target); }, OK},
      {"Delete", [](Rig& rig, const std::string& id, Path, Path) { return rig.remove(id); }, OK},
      {"GetVolumeStats",
       [](Rig& rig, const std::string& id, Path, Path target) {
         return with_id<v1::NodeGetVolumeStatsRequest>(rig, id, [&](auto& request) { request.set_volume_path(target); });
       }},
      {"NodeExpand",
       [](Rig& rig, const std::string& id, Path, Path target) {
         return with_id<v1::NodeExpandVolumeRequest>(rig, id, [&](auto& request) { request.set_volume_path(target); });
       }},
      {"NodeGetVolumeHealth", [](Rig& rig, const std::string& id, Path, Path) { return with_id<v1::NodeGetVolumeHealthRequest>(rig, id); }},
      {"ControllerGetVolume", [](Rig& rig, const std::string& id, Path, Path) { return with_id<v1::ControllerGetVolumeRequest>(rig, id); }},
      {"ControllerGetVolumeHealth",
       [](Rig& rig, const std::string& id, Path, Path) { return with_id<v1::ControllerGetVolumeHealthRequest>(rig, id); }},
      {"ControllerExpand",
       [](Rig& rig, const std::string& id, Path, Path) {
         return with_id<v1::ControllerExpandVolumeRequest>(
             rig, id, [&](auto& request) { request.mutable_capacity_range()->set_required_bytes(mebi); });
       }},
  };
  return all;
}

}  // namespace

TEST_CASE("paths: ids that look like paths are unknown ids, and nothing is touched", "[paths][root]") {
  Rig rig;
  const LiveVolume live = bring_up(rig, "live", ext4);
  const fs::path outside = make_outside(rig);
  // Where `../victim` would lead from the records, the ledger and the pool.
  for (const char* where : {"state", "run", "."})
    for (const char* name : {"victim.json", "victim.img", "victim.json.damaged"}) write_file(rig.root() / where / name, "somebody's");
  const auto picture = [&] {
    return picture_of(outside) + picture_of(rig.root() / "state") + picture_of(rig.root() / "run/ledger") +
           read_file(rig.root() / "run/victim.json") + read_file(rig.root() / "victim.img");
  };
  const std::string before = picture();
  std::vector<std::string> ids = {"../victim",
                                  "../../victim",
                                  (outside / "victim").string(),
                                  "/etc",
                                  "a/b",
                                  "live/../" + live.id,
                                  ".",
                                  "..",
                                  live.id + "/",
                                  "./" + live.id,
                                  live.id + ".json",
                                  " " + live.id,
                                  live.id + "\n",
                                  "%2e%2e%2fvictim",
                                  "é",
                                  "-rf",
                                  "$(reboot)",
                                  std::string(128, 'x'),
                                  "node",
                                  "pool:default"};
  int answered = 0;
  for (const std::string& id : ids) {
    for (const Call& call : calls()) {
      INFO(call.name << " of " << Catch::Detail::stringify(id));
      CHECK(call.make(rig, id, rig.staging("none"), rig.target("none")) == call.unknown);
      ++answered;
    }
  }
  for (const std::string& id :
       {std::string(), std::string(129, 'x'), std::string(70'000, 'x'), std::string("a\x1b[31m"), std::string("a\0b", 3)}) {
    for (const Call& call : calls()) {
      INFO(call.name << " of " << Catch::Detail::stringify(id.substr(0, 200)));
      CHECK(call.make(rig, id, rig.staging("none"), rig.target("none")) == INVALID_ARGUMENT);
      ++answered;
    }
  }
  CHECK(picture() == before);
  CHECK(try_write(live.target / "file") == 0);
  check_log(rig);
  std::printf("COUNT: calls with an id that looks like a path or is none: %d\n", answered);
}

TEST_CASE("paths: a symlink, `..` and what is no path are refused in each argument, and nothing outside is touched", "[paths][root]") {
  Rig rig;
  const fs::path outside = make_outside(rig);
  const std::string id = rig.create("v", ext4);
  const fs::path staging = rig.staging("v");
  REQUIRE(rig.stage(id, ext4, staging) == OK);
  fs::create_directories(rig.root() / "pods/p");
  rig.target("none");
  fs::create_directory_symlink(outside / "directory", rig.root() / "pods/p/to-directory");
  fs::create_symlink(outside / "empty", rig.root() / "pods/p/to-file");
  fs::create_symlink("/nowhere/at/all", rig.root() / "pods/p/to-nothing");
  fs::create_symlink("to-itself", rig.root() / "pods/p/to-itself");
  fs::create_directory_symlink(staging, rig.root() / "pods/p/to-staging");
  const std::string before = picture_of(outside) + picture_of(rig.root() / "pods");
  int answered = 0;
  for (const char* link : {"to-directory", "to-file", "to-nothing", "to-itself", "to-staging"}) {
    const fs::path path = rig.root() / "pods/p" / link;
    INFO(path);
    CHECK(rig.stage(id, ext4, path) == FAILED_PRECONDITION);
    CHECK(rig.publish(id, ext4, staging, path) == FAILED_PRECONDITION);
    CHECK(rig.publish(id, ext4, path, rig.target("none")) == FAILED_PRECONDITION);  // not staged there
    CHECK(rig.unpublish(id, path) == OK);
    CHECK(rig.unstage(id, path) == OK);
    CHECK(with_id<v1::NodeGetVolumeStatsRequest>(rig, id, [&](auto& request) { request.set_volume_path(path); }) == NOT_FOUND);
    CHECK(with_id<v1::NodeExpandVolumeRequest>(rig, id, [&](auto& request) { request.set_volume_path(path); }) == NOT_FOUND);
    answered += 7;
  }
  CHECK(mounted_at(staging).fs_type == "ext4");
  const std::vector<std::string> none = {rig.root() / "pods/../outside/directory",
                                         outside / "directory/..",
                                         "../outside",
                                         "outside",
                                         "",
                                         "unix:///x",
                                         "~",
                                         std::string(4096, '/'),
                                         "/" + std::string(4095, 'a'),
                                         (rig.root() / "pods/p/a\x1b[2Jb").string(),
                                         (rig.root() / "pods/p/a\x7f").string(),
                                         (rig.root() / "pods/p/a\u0085").string(),
                                         (rig.root() / std::string("pods/p/a\0b", 10)).string()};
  for (const std::string& path : none) {
    INFO(Catch::Detail::stringify(path.substr(0, 200)));
    CHECK(rig.stage(id, ext4, path) == INVALID_ARGUMENT);
    CHECK(rig.unstage(id, path) == INVALID_ARGUMENT);
    CHECK(rig.publish(id, ext4, staging, path) == INVALID_ARGUMENT);
    CHECK(rig.unpublish(id, path) == INVALID_ARGUMENT);
    const auto stats = with_id<v1::NodeGetVolumeStatsRequest>(rig, id, [&](auto& request) { request.set_volume_path(path); });
    CHECK((stats == NOT_FOUND || stats == INVALID_ARGUMENT));
    const auto expand = with_id<v1::NodeExpandVolumeRequest>(rig, id, [&](auto& request) { request.set_volume_path(path); });
    CHECK((expand == NOT_FOUND || expand == INVALID_ARGUMENT));
    answered += 6;
  }
  // Bytes that are no UTF-8 are no message of this protocol.
  for (const std::string path : {rig.root() / "pods/p/\xff\xfe", rig.root() / "pods/p/\xc3"}) {
    CHECK(rig.stage(id, ext4, path) == INVALID_ARGUMENT);
    CHECK(rig.publish(id, ext4, staging, path) == INVALID_ARGUMENT);
    CHECK(rig.unpublish(id, path) == INVALID_ARGUMENT);
    answered += 3;
  }
  CHECK(rig.stage("\xff", ext4, staging) == INVALID_ARGUMENT);
  CHECK(picture_of(outside) + picture_of(rig.root() / "pods") == before);
  CHECK(rig.unstage(id, staging) == OK);
  CHECK(rig.remove(id) == OK);
  CHECK(leaks_beneath(rig.root()) == "");
  check_log(rig);
  std::printf("COUNT: calls with a path that leads elsewhere or is none: %d\n", answered);
}

TEST_CASE("paths: what is there already is left alone: content, another kind, another's mount", "[paths][root]") {
  Rig rig;
  const fs::path outside = make_outside(rig);
  auto create = rig.create_request("v", ext4, 64 * mebi);
  const std::string id = rig.call(create)->volume().volume_id();
  const std::string raw = rig.create("raw", block);
  const fs::path staging = rig.staging("v");
  REQUIRE(rig.stage(id, ext4, staging) == OK);
  REQUIRE(rig.stage(raw, block, rig.staging("raw")) == OK);
  const fs::path tmpfs = rig.root() / "tmpfs";
  fs::create_directory(tmpfs);
  REQUIRE(run_tool({"mount", "-t", "tmpfs", "tmpfs", tmpfs}) == 0);
  const std::string before = picture_of(outside);

  CHECK(rig.publish(id, ext4, staging, outside / "file") == FAILED_PRECONDITION);
  CHECK(rig.publish(raw, block, rig.staging("raw"), outside / "directory") == FAILED_PRECONDITION);
  CHECK(rig.publish(id, ext4, staging, tmpfs) == FAILED_PRECONDITION);
  CHECK(rig.stage(id, ext4, tmpfs) == FAILED_PRECONDITION);
  CHECK(rig.publish(id, ext4, staging, rig.root() / "no/such/parent/volume") == FAILED_PRECONDITION);
  CHECK(rig.publish(id, ext4, staging, outside / "file/volume") == FAILED_PRECONDITION);
  CHECK(rig.publish(id, ext4, staging, "/") == INVALID_ARGUMENT);
  CHECK(rig.publish(id, ext4, staging, rig.root() / ("pods-" + std::string(255, 'x'))) == INVALID_ARGUMENT);
  CHECK(rig.unpublish(id, outside / "directory") == OK);
  CHECK(rig.unpublish(id, outside / "file") == OK);
  CHECK(rig.unpublish(id, tmpfs) == OK);
  CHECK(rig.unstage(id, tmpfs) == OK);
  CHECK(mounted_at(tmpfs).fs_type == "tmpfs");
  CHECK(picture_of(outside) == before);

  // On another file system, and over a directory with content, which comes back.
  REQUIRE(rig.publish(id, ext4, staging, tmpfs / "volume") == OK);
  CHECK(mounted_at(tmpfs / "volume").fs_type == "ext4");
  CHECK(rig.unpublish(id, tmpfs / "volume") == OK);
  CHECK(fs::is_empty(tmpfs));
  if (rig.publish(id, ext4, staging, outside / "directory") == OK) {
    REQUIRE(try_write(outside / "directory/inside") == 0);
    const Outcome undone = rig.unpublish(id, outside / "directory");
    INFO(undone.message);
    CHECK(mounts_beneath(outside).empty());
  }
  CHECK(picture_of(outside) == before);
  check_log(rig);
}

TEST_CASE("paths: what the agent itself stands on is no target", "[paths][root]") {
  Rig rig;
  const std::string id = rig.create("v", ext4);
  for (const fs::path& own :
       {rig.pool(), rig.root() / "state", rig.root() / "state/volumes", rig.root() / "run", rig.root() / "run/ledger"}) {
    INFO(own);
    CHECK(rig.stage(id, ext4, own) == INVALID_ARGUMENT);
    CHECK(mounts_beneath(rig.root()).empty());
  }
  REQUIRE(rig.stage(id, ext4, rig.staging("v")) == OK);
  for (const fs::path& own : {rig.pool(), rig.pool() / "new", rig.root() / "state", rig.root() / "run", rig.root() / "run/ledger/new"}) {
    INFO(own);
    CHECK(rig.publish(id, ext4, rig.staging("v"), own) == INVALID_ARGUMENT);
    CHECK(mounts_beneath(rig.root()).size() == 1);
    CHECK(fs::exists(own) == (own.filename() != "new"));
  }
}

TEST_CASE("paths: names with blanks, newlines, backslashes and every other allowed character are served, through a restart too",
          "[paths][root]") {
  Rig rig;
  struct Place {
    std::string name{};
    std::string id{};
    fs::path staging{};
    fs::path target{};
  };
  std::vector<Place> places;
  for (const std::string name : {"a b", "a\nb", "a\tb", "a\\040b", "a,b=c:d", "ünïcödé ✓", "(deleted)", "a (deleted)", "%s%n$(id)`id`",
                                 "\"quoted\" 'so'", "-o ro", "#hash", "x//deleted"}) {
    INFO(Catch::Detail::stringify(name));
    const Place place{.name = name,
                      .id = rig.create("v" + std::to_string(places.size()), ext4),
                      .staging = rig.root() / ("stage-" + name),
                      .target = rig.root() / ("pods-" + name) / "volume"};
    fs::create_directories(place.staging);
    fs::create_directories(place.target.parent_path());
    REQUIRE(rig.stage(place.id, ext4, place.staging) == OK);
    REQUIRE(rig.publish(place.id, ext4, place.staging, place.target) == OK);
    places.push_back(place);
  }
  rig.crash();
  for (const auto& [name, id, staging, target] : places) {
    INFO(Catch::Detail::stringify(name));
    CHECK(try_write(target / "file", "x") == 0);
    CHECK(rig.stage(id, ext4, staging) == OK);
    CHECK(rig.publish(id, ext4, staging, target) == OK);
    CHECK(rig.publish(id, ext4, staging, rig.target("second")) == FAILED_PRECONDITION);
    CHECK(rig.node_health(id) == "");
    CHECK(rig.unpublish(id, target) == OK);
    CHECK(rig.unstage(id, staging) == OK);
    CHECK(rig.remove(id) == OK);
    CHECK_FALSE(fs::exists(target));
  }
  CHECK(leaks_beneath(rig.root()) == "");
  check_log(rig);
}

TEST_CASE("paths: a volume's name may be anything that CSI allows, and its id is safe", "[paths][root]") {
  Rig rig;
  const std::vector<std::string> names = {"../../etc",           "a/b",   ".", "..", ".hidden", "a\nb", "ünï ✓", "$(id)",
                                          std::string(128, 'n'), "set[0]"};
  for (const std::string& name : names) {
    INFO(Catch::Detail::stringify(name));
    const std::string id = rig.create(name, ext4);
    CHECK(id.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == std::string::npos);
    CHECK(id.front() != '.');
    CHECK(rig.image_of(id).parent_path() == rig.pool());
    CHECK(rig.create(name, ext4) == id);
  }
  for (const std::string& name : {std::string(), std::string(129, 'n'), std::string("a\x1b"), std::string("a\0b", 3)})
    CHECK(outcome(rig.call(rig.create_request(name, ext4, 64 * mebi))) == INVALID_ARGUMENT);
  rig.crash();
  CHECK(rig.call(v1::ListVolumesRequest())->entries_size() == 10);
  check_log(rig);
}

TEST_CASE("paths: the longest path there is", "[paths][root]") {
  Rig rig;
  const std::string id = rig.create("v", ext4);
  REQUIRE(rig.stage(id, ext4, rig.staging("v")) == OK);
  // 4095 bytes and the NUL are the kernel's limit, which counts from `/`.
  std::string path = rig.root();
  while (path.size() + 201 < 4095 - 7) path += "/" + std::string(199, 'd');
  path += "/" + std::string(4095 - 7 - path.size() - 1, 'e');
  REQUIRE(path.size() == 4095 - 7);
  REQUIRE(run_tool({"mkdir", "-p", path}) == 0);
  const fs::path target = path + "/volume";
  REQUIRE(target.string().size() == 4095);
  REQUIRE(rig.publish(id, ext4, rig.staging("v"), target) == OK);
  CHECK(rig.publish(id, ext4, rig.staging("v"), target) == OK);
  rig.crash();
  CHECK(rig.publish(id, ext4, rig.staging("v"), rig.target("second")) == FAILED_PRECONDITION);
  CHECK(rig.unpublish(id, target) == OK);
  CHECK_FALSE(fs::exists(target));
  CHECK(rig.unstage(id, rig.staging("v")) == OK);
  CHECK(leaks_beneath(rig.root()) == "");
}

}  // namespace ordinald::testing
