#include <algorithm>
#include <catch2/catch.hpp>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <sstream>

#include "agent/ctl/program.hpp"
#include "agent/ctl/unit_files.hpp"
#include "tests/support/temp.hpp"

namespace ordinald::testing {
namespace {

namespace fs = std::filesystem;

std::string read(const fs::path& path) {
  std::ifstream in{path};
  return {std::istreambuf_iterator<char>{in}, {}};
}

/// A unit file as key → values, in order.
std::map<std::string, std::vector<std::string>> keys_of(const std::string& text) {
  std::map<std::string, std::vector<std::string>> keys;
  std::istringstream lines{text};
  for (std::string line; std::getline(lines, line);) {
    const auto equals = line.find('=');
    if (line.starts_with('#') || equals == std::string::npos) continue;
    std::istringstream values{line.substr(equals + 1)};
    for (std::string value; values >> value;) keys[line.substr(0, equals)].push_back(value);
  }
  return keys;
}

bool has(const std::map<std::string, std::vector<std::string>>& keys, const std::string& key, const std::string& value) {
  const auto found = keys.find(key);
  return found != keys.end() && std::ranges::find(found->second, value) != found->second.end();
}

/// Claim files, and what the generator makes of them.
struct Bed {
  TempDir temp{"systemd"};
  fs::path claims = temp.path() / "claims";
  fs::path normal = temp.path() / "normal";
  fs::path early = temp.path() / "early";
  fs::path late = temp.path() / "late";
  std::string complaint{};

  Bed() {
    for (const auto& directory : {claims, normal, early, late}) fs::create_directories(directory);
  }
  void file(const std::string& set, const std::string& rest, const std::string& unit = "postgres@.service") {
    std::ofstream{claims / (set + ".json")}
        << R"({"set": ")" << set << R"(", )" << (unit.empty() ? "" : R"("unit": ")" + unit + R"(", )") << rest
        << R"("volumeClaimTemplates": [{"name": "data", "size": "64MiB"}, {"name": "wal", "size": "64MiB"}]})";
  }
  void generate() {
    const auto ended = ctl::run_program({"/usr/bin/env", "-u", "SYSTEMD_SCOPE", "ORDINALD_CLAIMS_DIR=" + claims.string(),
                                         ORDINALD_GENERATOR, normal.string(), early.string(), late.string()},
                                        std::chrono::seconds{20});
    REQUIRE(ended.has_value());
    CHECK(ended.value().status == 0);  // whatever there is: the boot goes on
    complaint = ended.value().output;
  }
  std::map<std::string, std::vector<std::string>> unit(const std::string& path) const { return keys_of(read(late / path)); }
  std::set<std::string> made() const {
    std::set<std::string> paths;
    for (const auto& directory : {normal, early, late}) {
      for (const auto& entry : fs::recursive_directory_iterator{directory}) {
        if (entry.is_symlink() || entry.is_regular_file()) paths.insert(entry.path().lexically_relative(directory).string());
      }
    }
    return paths;
  }
};

TEST_CASE("OrderedReady: each instance is bound to its claim, and begins after the gate of the one before") {
  Bed bed;
  bed.file("db", R"("replicas": 3, )");
  bed.generate();
  CHECK(bed.complaint.empty());
  CHECK(bed.made() == std::set<std::string>{"db.target", "multi-user.target.wants/db.target", "postgres@0.service.d/50-ordinald.conf",
                                            "postgres@1.service.d/50-ordinald.conf", "postgres@2.service.d/50-ordinald.conf",
                                            "ordinald-ready@db-0.service.d/50-ordinald.conf",
                                            "ordinald-ready@db-1.service.d/50-ordinald.conf"});
  CHECK(fs::read_symlink(bed.late / "multi-user.target.wants/db.target") == "../db.target");
  const auto target = bed.unit("db.target");
  for (const std::string n : {"0", "1", "2"}) {
    CHECK(has(target, "Wants", "postgres@" + n + ".service"));
    CHECK(has(target, "After", "postgres@" + n + ".service"));
    const auto instance = bed.unit("postgres@" + n + ".service.d/50-ordinald.conf");
    CHECK(has(instance, "PartOf", "db.target"));
    CHECK(has(instance, "BindsTo", "ordinald-claim@db-" + n + ".service"));
    CHECK(has(instance, "After", "ordinald-claim@db-" + n + ".service"));
    CHECK(has(instance, "After", "srv-db\\x2d" + n + "-data.mount"));
    CHECK(has(instance, "After", "srv-db\\x2d" + n + "-wal.mount"));
    CHECK((instance.find("Requires") != instance.end()) == (n != "0"));
  }
  const auto second = bed.unit("postgres@1.service.d/50-ordinald.conf");
  CHECK(has(second, "Requires", "ordinald-ready@db-0.service"));
  CHECK(has(second, "After", "ordinald-ready@db-0.service"));
  CHECK(has(second, "After", "postgres@0.service"));
  CHECK_FALSE(has(second, "Requires", "postgres@0.service"));  // a restart of 0 must not restart 1
  const auto gate = bed.unit("ordinald-ready@db-0.service.d/50-ordinald.conf");
  CHECK(has(gate, "Wants", "postgres@0.service"));
  CHECK(has(gate, "After", "postgres@0.service"));
  CHECK(gate.find("Requires") == gate.end());
}

TEST_CASE("Parallel: no order among the instances") {
  Bed bed;
  bed.file("db", R"("replicas": 3, "podManagementPolicy": "Parallel", )");
  bed.generate();
  CHECK(bed.made().size() == 5);
  for (const std::string n : {"0", "1", "2"}) {
    const auto instance = bed.unit("postgres@" + n + ".service.d/50-ordinald.conf");
    CHECK(has(instance, "BindsTo", "ordinald-claim@db-" + n + ".service"));
    CHECK(instance.find("Requires") == instance.end());
    for (const std::string& unit : instance.at("After")) CHECK_FALSE(unit.starts_with("postgres@"));
  }
}

TEST_CASE("ordinals begin where the set's do, and there may be none") {
  Bed bed;
  bed.file("db", R"("replicas": 2, "startOrdinal": 7, )");
  bed.file("none", R"("replicas": 0, )", "other@.service");
  bed.file("unitless", "", "");
  bed.generate();
  CHECK(bed.complaint.empty());
  CHECK(bed.made() == std::set<std::string>{"db.target", "multi-user.target.wants/db.target", "none.target",
                                            "multi-user.target.wants/none.target", "postgres@7.service.d/50-ordinald.conf",
                                            "postgres@8.service.d/50-ordinald.conf", "ordinald-ready@db-7.service.d/50-ordinald.conf"});
}

TEST_CASE("a bad claim file is left out, with why, and no other") {
  Bed bed;
  bed.file("db", "");
  std::ofstream{bed.claims / "torn.json"} << R"({"set": "torn", )";
  bed.file("alien", R"("colour": "red", )", "alien@.service");
  std::ofstream{bed.claims / "renamed.json"} << read(bed.claims / "db.json");
  std::ofstream{bed.claims / "empty.json"};
  fs::create_directory(bed.claims / "directory.json");
  fs::create_symlink("/nonexistent", bed.claims / "dangling.json");
  bed.file("later", "");                        // the same units as db's
  bed.file("sysinit", "", "sysinit@.service");  // the distribution's sysinit.target
  bed.generate();
  CHECK(bed.made() == std::set<std::string>{"db.target", "multi-user.target.wants/db.target", "postgres@0.service.d/50-ordinald.conf"});
  for (const char* name : {"torn.json", "alien.json", "renamed.json", "empty.json", "directory.json", "later.json", "sysinit.json"}) {
    INFO(name);
    CHECK(bed.complaint.find(name) != std::string::npos);
  }
  CHECK(bed.complaint.find("colour") != std::string::npos);
  CHECK(bed.complaint.find("postgres@0.service is already set db's") != std::string::npos);
}

TEST_CASE("no claims, nothing to write to, and no arguments end well") {
  Bed bed;
  fs::remove(bed.claims);
  bed.generate();
  CHECK(bed.complaint.empty());
  CHECK(bed.made().empty());
  for (const std::vector<std::string>& argv : {std::vector<std::string>{ORDINALD_GENERATOR}, {ORDINALD_GENERATOR, "/nonexistent/a"}}) {
    const auto ended = ctl::run_program(argv, std::chrono::seconds{20});
    REQUIRE(ended.has_value());
    CHECK(ended.value().status == 0);
  }
}

TEST_CASE("a thousand instances are generated within the time that a boot has") {
  Bed bed;
  bed.file("db", R"("replicas": 1000, )");
  const auto begin = std::chrono::steady_clock::now();
  bed.generate();
  CHECK(bed.made().size() == 2 + 1000 + 999);
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds{5});
}

TEST_CASE("mount units are named as systemd names them") {
  for (const std::string path : {"/", "/srv/db-0/data", "/srv//x/", "/srv/.hidden/a b", "/.first", "/srv/a:b_c.d", "/srv/\xc3\xa9"}) {
    const auto escaped = ctl::run_program({"/usr/bin/systemd-escape", "--path", "--suffix=mount", path}, std::chrono::seconds{20});
    REQUIRE(escaped.has_value());
    INFO(path);
    CHECK(ctl::mount_unit(path) + "\n" == escaped.value().output);
  }
}

/// The unit files with the programs that were built, where the installed ones are named, and the generator's output beside them.
void lay_out(const fs::path& units, const fs::path& generated) {
  for (const fs::path& directory :
       {fs::path{ORDINALD_SOURCE_DIR} / "packaging/systemd", fs::path{ORDINALD_SOURCE_DIR} / "packaging/systemd/examples"}) {
    for (const auto& entry : fs::directory_iterator{directory}) {
      if (entry.path().extension() != ".service") continue;
      std::string text = read(entry.path());
      for (const auto& [from, to] :
           std::map<std::string, std::string>{{"/usr/sbin/ordinald ", std::string{ORDINALD_PROGRAM} + " "},
                                              {"/usr/bin/ordinalctl ", std::string{ORDINALCTL_PROGRAM} + " "},
                                              {"/usr/lib/ordinald/", std::string{ORDINALD_SOURCE_DIR} + "/packaging/systemd/examples/"}}) {
        for (auto at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) text.replace(at, from.size(), to);
      }
      std::ofstream{units / entry.path().filename()} << text;
    }
  }
  fs::copy(generated, units, fs::copy_options::recursive | fs::copy_options::copy_symlinks);
}

TEST_CASE("unit files and what is generated pass systemd-analyze verify") {
  Bed bed;
  const bool parallel = GENERATE(false, true);
  for (const char* name : {"db.json", "cache.json"}) {
    std::string text = read(fs::path{ORDINALD_SOURCE_DIR} / "packaging/systemd/examples" / name);
    if (parallel) text.insert(text.find('{') + 1, R"("podManagementPolicy": "Parallel", )");
    std::ofstream{bed.claims / name} << text;
  }
  bed.generate();
  CHECK(bed.complaint.empty());
  const fs::path units = bed.temp.path() / "units";
  fs::create_directory(units);
  lay_out(units, bed.late);
  std::vector<std::string> argv{"/usr/bin/env", "SYSTEMD_UNIT_PATH=" + units.string() + ":/lib/systemd/system", "/usr/bin/systemd-analyze",
                                "verify", "--man=no"};
  for (const char* name : {"ordinald.service", "ordinald-claim@db-0.service", "ordinald-ready@db-0.service", "db.target", "cache.target",
                           "postgres@0.service", "postgres@2.service", "redis@0.service", "redis@2.service"})
    argv.emplace_back(name);
  const auto verified = ctl::run_program(argv, std::chrono::seconds{60});
  REQUIRE(verified.has_value());
  INFO(verified.value().output);
  CHECK(verified.value().status == 0);
  CHECK(verified.value().output.empty());
}

TEST_CASE("the daemon's unit leaves it in the host's mount namespace, and keeps its ledger") {
  const auto unit = keys_of(read(fs::path{ORDINALD_SOURCE_DIR} / "packaging/systemd/ordinald.service"));
  for (const char* key : {"PrivateTmp",           "ProtectSystem",       "ProtectHome",
                          "ReadWritePaths",       "ReadOnlyPaths",       "InaccessiblePaths",
                          "PrivateDevices",       "PrivateMounts",       "ProtectKernelTunables",
                          "ProtectKernelModules", "ProtectKernelLogs",   "ProtectControlGroups",
                          "ProtectProc",          "ProcSubset",          "BindPaths",
                          "BindReadOnlyPaths",    "RootDirectory",       "RootImage",
                          "DynamicUser",          "TemporaryFileSystem", "MountFlags",
                          "MountAPIVFS",          "DeviceAllow",         "DevicePolicy",
                          "ProtectClock",         "PrivateIPC",          "LogNamespace",
                          "ExtensionImages"}) {
    INFO(key);
    CHECK(unit.find(key) == unit.end());
  }
  CHECK(has(unit, "RuntimeDirectoryPreserve", "yes"));
  CHECK(has(unit, "Type", "notify"));
  CHECK(has(unit, "KillMode", "process"));
  const auto claim = keys_of(read(fs::path{ORDINALD_SOURCE_DIR} / "packaging/systemd/ordinald-claim@.service"));
  CHECK(claim.find("Requires") == claim.end());  // a restart of the agent stops nobody
  CHECK(has(claim, "After", "ordinald.service"));
  CHECK(has(claim, "StopWhenUnneeded", "yes"));
}

TEST_CASE("neither the daemon nor a claim gives up for good at a boot") {
  const fs::path units = fs::path{ORDINALD_SOURCE_DIR} / "packaging/systemd";
  const auto daemon = keys_of(read(units / "ordinald.service"));
  CHECK(has(daemon, "StartLimitIntervalSec", "0"));
  CHECK(has(daemon, "RestartPreventExitStatus", "2"));
  CHECK(has(daemon, "After", "remote-fs.target"));
  const auto claim = keys_of(read(units / "ordinald-claim@.service"));
  CHECK(has(claim, "TimeoutStartSec", "infinity"));
  CHECK(has(claim, "ExecStart", "86400"));
}

}  // namespace
}  // namespace ordinald::testing
